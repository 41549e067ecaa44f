"""Scores of embeddings: plain functions from arrays to dicts of floats."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.bootstrap import class_bootstrap
from metric_learning.evaluation.clustering import agreement, clustering
from metric_learning.evaluation.computing import compute, per_query
from metric_learning.evaluation.entries import Points, Score
from metric_learning.evaluation.few_shot import few_shot
from metric_learning.evaluation.geometry import (
  check_normalized,
  collapsed,
  effective_rank,
  geometry,
  intra_inter_ratio,
)
from metric_learning.evaluation.neighbours import neighbours
from metric_learning.evaluation.retrieval import retrieval, retrieval_per_query
from metric_learning.evaluation.scores import (
  MAX_PAIRS,
  SCORES,
  check_ranks,
  check_score,
  heading,
  is_at_threshold,
  is_by_query,
  is_slow,
  lower_is_better,
  why_absent,
  why_no_choice,
)
from metric_learning.evaluation.tiles import check_embeddings
from metric_learning.evaluation.verification import (
  Roc,
  best_threshold,
  cross_validated_accuracy,
  pair_distances,
  pairs_of,
  refusal,
  roc,
  verification,
)

__all__ = [
  "SCORES",
  "Points",
  "Roc",
  "Score",
  "agreement",
  "best_threshold",
  "check_ranks",
  "check_score",
  "class_bootstrap",
  "clustering",
  "collapsed",
  "cross_validated_accuracy",
  "effective_rank",
  "evaluate",
  "evaluate_pairs",
  "few_shot",
  "geometry",
  "heading",
  "intra_inter_ratio",
  "is_at_threshold",
  "is_by_query",
  "is_slow",
  "lower_is_better",
  "neighbours",
  "pair_distances",
  "pairs_of",
  "per_query",
  "refusal",
  "retrieval",
  "retrieval_per_query",
  "roc",
  "verification",
  "why_absent",
  "why_no_choice",
]


def evaluate(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  metric: MetricName,
  *,
  asked: Collection[str] | None = None,
  normalized: str = "none",
  ks: Sequence[int] = (1, 2, 4, 8),
  max_pairs: int = MAX_PAIRS,
  references: Float[np.ndarray | Array, "m d"] | None = None,
  reference_labels: Int[np.ndarray | Array, " m"] | None = None,
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  groups: Int[np.ndarray | Array, " n"] | None = None,
  reference_groups: Int[np.ndarray | Array, " m"] | None = None,
) -> dict[str, float]:
  """All scores of one set of embeddings, as a run records them.

  `own/<name>` is under the metric that was trained, `cosine/<name>` under
  cosine, which is the same for every run, and `geometry/<name>` is about the
  embeddings themselves. The names are those of `retrieval`, `verification`,
  `geometry` and `intra_inter_ratio`; verification is left out where there are
  more than `max_pairs` unordered pairs, since it keeps them all.
  With `references`, the gallery of a query/gallery protocol, retrieval looks
  there and the rest is left out.

  `asked` names the scores that a caller looks at. What else is quick comes
  too, but verification only if one of its scores is named. The slow ones come
  only if they are named: `clustering/<name>`, those of `clustering`, and
  `own/few_shot_N_way_K_shot`, the accuracy of `few_shot` with its defaults,
  and its interval under `…_interval`; NaN where a class has too few images or
  there are too few classes. Naming `own/recall_at_K` adds K to `ks`.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.2]])
  >>> scores = evaluate(embeddings, np.array([0, 0, 1, 1]), "l1")
  >>> scores["own/recall_at_1"], scores["cosine/eer"]
  (1.0, 0.0)

  Args:
    embeddings: one point a row.
    labels: their classes.
    metric: the one that was trained.
    asked: names of scores; None for all that are not slow.
    normalized: how the embeddings are normalized already. Nothing is normalized
      here but the class means of `intra_inter_ratio`.
    ks: the K of Recall@K.
    max_pairs: the most that verification may keep.
    references: the gallery.
    reference_labels: their classes.
    exclude_self: as `retrieval` takes it, for references that hold queries.
    groups: as `retrieval` takes them; other scores do not see them.
    reference_groups: those of the references.

  Raises:
    InputError: for an unknown metric or score, embeddings that are not finite
      or not normalized as is said, or labels that do not fit them.
  """
  if isinstance(asked, str):
    raise InputError(f"asked={asked!r}: give a list of names, [{asked!r}].")
  embeddings = check_embeddings("embeddings", embeddings)
  check_normalized(embeddings, normalized)
  gallery = {
    "references": references,
    "reference_labels": reference_labels,
    "exclude_self": exclude_self,
    "groups": groups,
    "reference_groups": reference_groups,
  }
  points = Points(embeddings, labels, metric, normalized, tuple(ks), gallery)
  return compute(points, asked, max_pairs)


def evaluate_pairs(
  embeddings: Float[np.ndarray | Array, "n d"],
  first: Int[np.ndarray | Array, " p"],
  second: Int[np.ndarray | Array, " p"],
  same: Bool[np.ndarray, " p"],
  metric: MetricName,
) -> dict[str, float]:
  """The scores of explicit pairs, where no classes are known.

  `own/<name>` and `cosine/<name>` are those of `verification`,
  `geometry/<name>` those of `geometry`.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]])
  >>> pairs = np.array([0, 0]), np.array([1, 2]), np.array([True, False])
  >>> evaluate_pairs(embeddings, *pairs, "l1")["own/eer"]
  0.0

  Raises:
    InputError: for an unknown metric, embeddings that are not finite, or pairs
      that are not pairs of their rows.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  first, second = (
    _checked_rows(name, rows, len(embeddings))
    for name, rows in (("first", first), ("second", second))
  )
  if not len(first) == len(second) == np.size(same):
    raise InputError(
      f"first, second and same: {len(first)}, {len(second)} and"
      f" {np.size(same)} entries; give one of each for every pair."
    )
  points = Points(embeddings, metric=metric, pairs=(first, second, same))
  return compute(points, None)


def _checked_rows(name, rows, count) -> Int[np.ndarray, " p"]:
  """Indices of rows, at least one and none that is not there."""
  rows = np.asarray(rows)
  if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
    raise InputError(
      f"{name}: shape {rows.shape} of {rows.dtype}; give the row of an"
      " embedding for each pair, as integers of shape (p,), for at least one"
      " pair."
    )
  if rows.min() < 0 or rows.max() >= count:
    raise InputError(
      f"{name}: rows from {rows.min()} to {rows.max()}; there are {count}"
      f" embeddings, with rows 0 to {count - 1}."
    )
  return rows
