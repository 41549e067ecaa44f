"""Verification accuracy at a threshold learned on other pairs."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from metric_learning import evaluation
from metric_learning.distances import MetricName

Arrays = Mapping[str, np.ndarray]


def accuracy_scores(arrays: Arrays, metric: MetricName) -> dict[str, float]:
  """The share of test pairs that are classified correctly, as `own/accuracy`.

  The threshold is the best one on the validation pairs, returned as
  `own/threshold`. If the test pairs have folds, it is the best one on the other
  folds, and `own/accuracy_standard_error` is the standard error over folds.

  Args:
    arrays: `training.embedding.arrays_of` of the parts "validation" and "test".
    metric: the metric that compares the embeddings.
  """
  pairs = _pairs_of(arrays, "test", metric)
  if "test_folds" in arrays:
    scores = evaluation.cross_validated_accuracy(*pairs, arrays["test_folds"])
    return {
      "own/accuracy": scores["accuracy"],
      "own/accuracy_standard_error": scores["standard_error"],
    }
  threshold = learned_threshold(arrays, metric)
  accuracy = evaluation.accuracy_at(threshold, *pairs)
  return {"own/accuracy": accuracy, "own/threshold": threshold}


def learned_threshold(arrays: Arrays, metric: MetricName) -> float:
  """The threshold with the best accuracy on the validation pairs."""
  return evaluation.best_threshold(*_pairs_of(arrays, "validation", metric))


def _pairs_of(
  arrays: Arrays, part: str, metric: MetricName
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  """The distances of the pairs of a part, and whether they are of one class."""
  points = arrays[f"{part}_embeddings"]
  if f"{part}_same" not in arrays:
    return evaluation.pairs_of(points, arrays[f"{part}_labels"], metric)
  first, second = arrays[f"{part}_first"], arrays[f"{part}_second"]
  distances = evaluation.pair_distances(points[first], points[second], metric)
  return distances, arrays[f"{part}_same"]
