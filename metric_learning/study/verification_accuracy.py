"""Verification at a threshold that was learned on other pairs."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from metric_learning import evaluation
from metric_learning.distances import MetricName

Arrays = Mapping[str, np.ndarray]


def accuracy_scores(arrays: Arrays, metric: MetricName) -> dict[str, float]:
  """The share of test pairs that are decided rightly, as `own/accuracy`.

  At the threshold that is best on the pairs of the validation part, which comes
  as `own/threshold`. Where the test pairs have folds, at the best threshold of
  the other folds: then with `own/accuracy_standard_error` over folds.

  Args:
    arrays: `training.embedding.arrays_of` of the parts "validation" and "test".
    metric: what compares the embeddings.
  """
  pairs = _pairs_of(arrays, "test", metric)
  if "test_folds" in arrays:
    found = evaluation.cross_validated_accuracy(*pairs, arrays["test_folds"])
    return {
      "own/accuracy": found["accuracy"],
      "own/accuracy_standard_error": found["standard_error"],
    }
  threshold = learned_threshold(arrays, metric)
  found = evaluation.verification(*pairs, threshold=threshold)
  return {"own/accuracy": found["accuracy"], "own/threshold": threshold}


def learned_threshold(arrays: Arrays, metric: MetricName) -> float:
  """The threshold of best accuracy on the pairs of the validation part."""
  return evaluation.best_threshold(*_pairs_of(arrays, "validation", metric))


def _pairs_of(
  arrays: Arrays, part: str, metric: MetricName
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  """Distances of the pairs of a part, and whether they are the same."""
  points = arrays[f"{part}_embeddings"]
  if f"{part}_same" not in arrays:
    return evaluation.pairs_of(points, arrays[f"{part}_labels"], metric)
  first, second = arrays[f"{part}_first"], arrays[f"{part}_second"]
  distances = evaluation.pair_distances(points[first], points[second], metric)
  return distances, arrays[f"{part}_same"]
