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
  heads: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rank_K": (
      "rank-{K} identified",
      "The share of known queries whose class is among the first K.",
      {"numbers": {"K": (1, 1)}},
    ),
    "auroc": (
      "open-set AUROC",
      "The probability that a known query is nearer than an unknown one.",
      {},
    ),
    "oscr": (
      "OSCR",
      "The area under the share identified against the unknown accepted.",
      {},
    ),
    "best_f1": (
      "open-set F1",
      "The largest F1 of identifying the known over all thresholds.",
      {},
    ),
  }
  for rate in AT_FAR:
    above = f"DIR at FAR {100 * rate:g} %"
    about = (
      f"The share identified, if at most {100 * rate:g} % of the unknown are"
      " accepted"
    )
    heads[f"dir_at_far_{rate}"] = above, f"{about}.", {}
    heads[f"dir_K_at_far_{rate}"] = (
      f"rank-{{K}} {above}",
      f"{about}, among the first K.",
      at_rank_k,
    )
  for name, (above, about, numbers) in heads.items():
    options: dict[str, Any] = {**drawn, **numbers}
    yield Score(
      *(f"{_OPEN_SET}{name}", family, _identification, "higher"),
      *(f"{above}{of}", about),
      no_choice=choosing.no_draws,
      **options,
    )
    interval = f"{_OPEN_SET}{name}_interval"
    yield Score(
      *(interval, family, _identification, None),
      about="The half-width of its 95 % interval over draws.",
      **options,
    )
  for kind in ("known", "unknown"):
    yield Score(
      *(f"{_OPEN_SET}num_{kind}", family, _identification, None),
      about=f"The mean number of queries of {kind} classes.",
      **drawn,
    )


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
