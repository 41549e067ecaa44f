"""Confidence intervals of means over queries, by resampling classes."""

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from metric_learning.evaluation.tiles import check_labels


def class_bootstrap(
  per_query_values: Float[np.ndarray | Array, " n"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  num_samples: int = 1000,
  seed: int = 0,
  confidence: float = 0.95,
) -> tuple[float, float]:
  """Percentile interval of a mean over queries, from resampled classes.

  Classes are drawn with replacement, as many as the set has, each with all its
  queries. The interval holds the middle `confidence` of the resulting means.
  Images of one class are similar, so resampling single queries would make the
  interval too narrow. The interval covers other test classes, not other
  training seeds.

  NaN values (lone queries) are ignored. With fewer than two classes there is
  nothing to resample, and both ends are NaN.

  >>> values, labels = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])
  >>> class_bootstrap(values, labels)  # both classes, or one of them twice
  (0.0, 1.0)

  Args:
    per_query_values: as `retrieval_per_query` returns them.
    labels: the class of each query.
    num_samples: how many times the classes are drawn.
    seed: fixes the draws.
    confidence: the share of the means inside the interval.
  """
  values = np.asarray(per_query_values, np.float64)
  labels = check_labels("labels", labels, len(np.atleast_1d(values)))
  known = ~np.isnan(values)
  classes, index = np.unique(labels[known], return_inverse=True)
  if len(classes) < 2:
    return float("nan"), float("nan")
  return rate_bootstrap(
    np.bincount(index, values[known]),
    np.bincount(index),
    num_samples=num_samples,
    seed=seed,
    confidence=confidence,
  )


def rate_bootstrap(
  events: Shaped[np.ndarray, " c *c"],
  trials: Shaped[np.ndarray, " c *c"],
  *,
  num_samples: int = 1000,
  seed: int = 0,
  confidence: float = 0.95,
) -> tuple[float, float]:
  """Percentile interval of Σ events / Σ trials, from resampled classes.

  As `class_bootstrap`, but from counts by class; or, if a trial is a pair of
  items, from counts by two classes. A pair then counts as often as the product
  of the draws of its two classes.

  >>> rate_bootstrap(np.array([0, 3]), np.array([3, 3]))
  (0.0, 1.0)

  Args:
    events: the number of trials of each class, or pair of classes, with the
      event.
    trials: the number of all trials of each class, or pair of classes.
    num_samples, seed, confidence: as in `class_bootstrap`.
  """
  count = len(events)
  rng = np.random.default_rng(seed)
  times = rng.multinomial(count, np.full(count, 1 / count), size=num_samples)

  def total(counts: np.ndarray) -> np.ndarray:
    if counts.ndim == 1:
      return times @ counts
    return ((times @ counts) * times).sum(axis=1)

  sums, counts = total(events), total(trials)
  # A sample that holds only one class may have no pairs of two classes.
  rates = sums[counts > 0] / counts[counts > 0]
  tail = 50 * (1 - confidence)
  low, high = np.percentile(rates, [tail, 100 - tail])
  return float(low), float(high)
