"""The entries of the table of scores for identification."""

import re
from collections.abc import Iterator
from typing import Any

from metric_learning.evaluation import choosing
from metric_learning.evaluation.entries import Points, Score
from metric_learning.evaluation.identification import AT_FAR
from metric_learning.evaluation.open_set import TooFewForGalleryError, open_set

_OPEN_SET = "identification_"


def identification_scores(family: str) -> Iterator[Score]:
  """The entries of open and closed sets; all but counts have an interval."""
  of = "" if family == "own" else f" {family}"
  drawn: dict[str, Any] = {"slow": True, "needs": "one set"}
  at_rank_k = {"numbers": {"K": (2, 5)}}
  heads: dict[str, tuple[str, dict[str, Any]]] = {
    "rank_K": ("rank-{K} identified", {"numbers": {"K": (1, 1)}}),
    "auroc": ("open-set AUROC", {}),
    "oscr": ("OSCR", {}),
    "best_f1": ("open-set F1", {}),
  }
  for rate in AT_FAR:
    above = f"DIR at FAR {100 * rate:g} %"
    heads[f"dir_at_far_{rate}"] = above, {}
    heads[f"dir_K_at_far_{rate}"] = f"rank-{{K}} {above}", at_rank_k
  for name, (above, numbers) in heads.items():
    options: dict[str, Any] = {**drawn, **numbers}
    yield Score(
      *(f"{_OPEN_SET}{name}", family, _identification, "higher"),
      f"{above}{of}",
      no_choice=choosing.no_draws,
      **options,
    )
    interval = f"{_OPEN_SET}{name}_interval"
    yield Score(interval, family, _identification, None, **options)
  for name in ("num_known", "num_unknown"):
    yield Score(f"{_OPEN_SET}{name}", family, _identification, None, **drawn)


def _identification(points: Points) -> dict[str, float]:
  """The scores of open and closed sets, over draws of known classes."""
  ranked = re.compile(r"_(?:rank|dir)_(\d+)(?:_|$)")
  ks = {1, *(int(k) for name in points.asked for k in ranked.findall(name))}
  names = {s.name for s in identification_scores("own") if not s.numbers}
  names |= {*points.asked}
  try:
    scores = open_set(
      points.embeddings,
      points.labels,
      metric=points.metric,
      protocol=points.open_set,
      ks=sorted(ks),
    )
  except TooFewForGalleryError:
    return dict.fromkeys(names, float("nan"))
  return {name: scores[name.removeprefix(_OPEN_SET)] for name in names}
