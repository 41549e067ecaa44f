"""Scores of embeddings: plain functions from arrays to dicts of floats."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import MetricName
from metric_learning.evaluation.bootstrap import class_bootstrap
from metric_learning.evaluation.geometry import (
  collapsed,
  effective_rank,
  geometry,
)
from metric_learning.evaluation.neighbours import neighbours
from metric_learning.evaluation.retrieval import retrieval, retrieval_per_query
from metric_learning.evaluation.verification import (
  Roc,
  best_threshold,
  explicit_distances,
  pairs_of,
  refusal,
  roc,
  verification,
)

__all__ = [
  "Roc",
  "best_threshold",
  "class_bootstrap",
  "collapsed",
  "effective_rank",
  "evaluate",
  "evaluate_pairs",
  "explicit_distances",
  "geometry",
  "neighbours",
  "pairs_of",
  "refusal",
  "retrieval",
  "retrieval_per_query",
  "roc",
  "verification",
]


def evaluate(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  metric: MetricName,
  *,
  ks: Sequence[int] = (1, 2, 4, 8),
  max_pairs: int = 5_000_000,
) -> dict[str, float]:
  """All scores of one set of embeddings, as a run records them.

  `own/<name>` is under the metric that was trained, `cosine/<name>` under
  cosine, which is the same for every run, and `geometry/<name>` is about the
  embeddings themselves. The names are those of `retrieval`, `verification`
  and `geometry`; verification is left out where there are more than
  `max_pairs` unordered pairs, since it keeps them all.

  >>> embeddings = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.2]])
  >>> scores = evaluate(embeddings, np.array([0, 0, 1, 1]), "l1")
  >>> scores["own/recall_at_1"], scores["cosine/eer"]
  (1.0, 0.0)

  Raises:
    InputError: for an unknown metric, embeddings that are not finite, or labels
      that do not fit them.
  """

  def score(name):
    found = retrieval(embeddings, labels, metric=name, ks=ks)
    if len(embeddings) * (len(embeddings) - 1) // 2 <= max_pairs:
      found |= verification(*pairs_of(embeddings, labels, name))
    return found

  own = score(metric)
  families = {
    "own": own,
    "cosine": own if metric == "cosine" else score("cosine"),
    "geometry": geometry(embeddings, labels),
  }
  return {
    f"{family}/{name}": value
    for family, found in families.items()
    for name, value in found.items()
  }


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
    InputError: for an unknown metric, or embeddings that are not finite.
  """
  families = {
    family: verification(
      explicit_distances(embeddings, first, second, name), same
    )
    for family, name in (("own", metric), ("cosine", "cosine"))
  }
  families["geometry"] = geometry(embeddings)
  return {
    f"{family}/{name}": value
    for family, found in families.items()
    for name, value in found.items()
  }
