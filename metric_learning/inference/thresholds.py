"""Thresholds at a false-accept rate, learned on validation classes only."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from metric_learning import evaluation
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation.scores import MAX_PAIRS


class Validation(NamedTuple):
  """The embedded validation part of a run, on which thresholds are learned.

  labels: one label for each point; or, with several labels per point, a row of
    0 and 1.
  class_names: `class_names[label]` names a class.
  pairs: explicit pairs as first rows, second rows, and whether they are the
    same. Labels are then the numbers of the points.
  """

  points: Float[np.ndarray, "n d"]
  labels: Shaped[np.ndarray, " n *k"]
  class_names: Shaped[np.ndarray, " c"]
  pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


class Rate(NamedTuple):
  """A rate, its 95 % interval, and the number of trials."""

  value: float
  low: float
  high: float
  trials: int

  def __str__(self) -> str:
    """The rate with its interval.

    >>> print(Rate(0.01, 0.004, 0.02, 1000))
    0.01 [0.004, 0.02]
    """
    return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


class Threshold(NamedTuple):
  """The largest accepted distance, and the expected error rates.

  asked: the requested false-accept rate.
  far: the rate of accepted impostors on validation, at most `asked`.
  frr: the rate of rejected genuine pairs; None for identification, for which
    validation does not estimate it.
  source: the data on which the threshold was learned.
  """

  distance: float
  asked: float
  far: Rate
  frr: Rate | None
  source: str

  def __str__(self) -> str:
    """The text that commands print."""
    rates = f"expected FAR {self.far}"
    if self.frr is not None:
      rates += f", FRR {self.frr}"
    return f"threshold {self.distance:.6g}: {rates}; from {self.source}"


def of_pairs(
  validation: Validation, metric: MetricName, far: float
) -> Threshold:
  """The threshold up to which two points are the same, at a false-accept rate.

  Intervals resample validation classes, since images of a class are similar.
  Explicit pairs and items with several labels have no classes to resample, so
  their intervals treat pairs as independent. These are too narrow if images
  occur in several pairs. All intervals treat the threshold as fixed.

  Raises:
    InputError: if the rate needs more impostor pairs, or if no threshold
      reaches it.
  """
  check_far(far)
  distances, same = _pairs(validation, metric)
  num_impostor = int(np.count_nonzero(~same))
  _refuse(evaluation.refusal(far, num_impostor), num_impostor)
  curve = evaluation.roc(distances, same)
  threshold = evaluation.threshold_at_far(curve, far)
  if threshold == -np.inf:
    raise InputError(
      f"no threshold has a FAR of {far:g} or less: too many validation pairs"
      " share the smallest distance. Choose a larger FAR, or another run: the"
      " embeddings of this one have collapsed."
    )
  accepted = distances <= threshold
  if validation.pairs is None and validation.labels.ndim == 1:
    rates = _rates_by_class(validation.labels, accepted)
    over = f"{len(np.unique(validation.labels))} classes"
  else:
    rates = _rate(accepted[~same]), _rate(~accepted[same])
    over = "pairs taken as independent"
  source = (
    f"{num_impostor} impostor and {len(same) - num_impostor} genuine pairs of"
    f" {len(validation.points)} validation items; intervals over {over}"
  )
  return Threshold(threshold, far, *rates, source)


def of_nearest(
  validation: Validation,
  gallery: Float[np.ndarray, "m d"],
  names: Collection[Any],
  metric: MetricName,
  far: float,
) -> Threshold:
  """The threshold up to which a probe is named after its nearest gallery item.

  The rate is the share of unknown probes that are named, given this gallery.
  Validation items serve as unknown probes, except those of a class in `names`.

  Raises:
    InputError: if the rate needs more validation items.
  """
  check_far(far)
  known = np.isin(validation.class_names.astype(str), [str(x) for x in names])
  labels = validation.labels
  is_known = labels @ known > 0 if labels.ndim > 1 else known[labels]
  unknown = validation.points[~is_known]
  count = len(unknown)
  unit = "validation items of classes that are not in the gallery"
  _refuse(evaluation.refusal(far, count, unit), count)
  _, nearest = evaluation.neighbors(unknown, gallery, 1, metric=metric)
  curve = evaluation.roc(nearest[:, 0], np.zeros(count, bool))
  threshold = evaluation.threshold_at_far(curve, far)
  if threshold == -np.inf:
    raise InputError(
      f"no threshold has a FAR of {far:g} or less: too many validation items"
      " share the smallest distance from the gallery. Choose a larger FAR."
    )
  accepted = nearest[:, 0] <= threshold
  if labels.ndim == 1 and validation.pairs is None:
    _, index = np.unique(labels[~is_known], return_inverse=True)
    rate = _resampled(np.bincount(index, accepted), np.bincount(index))
    over = f"{index.max() + 1} classes"
  else:
    rate, over = _rate(accepted), "items taken as independent"
  source = f"{count} {unit}; interval over {over}"
  return Threshold(threshold, far, rate, None, source)


def check_far(far: float) -> None:
  """Raises `InputError` unless `far` is a rate between 0 and 1."""
  if not 0 < far < 1:
    raise InputError(
      f"far={far!r} is a false-accept rate: choose one above 0 and below 1,"
      " such as 0.01."
    )


def _refuse(reason: str | None, count: int) -> None:
  if reason:
    least = f"; the smallest FAR for them is {10 / count:.3g}" * (count > 10)
    raise InputError(f"{reason.rstrip('.')}, in the validation part{least}.")


def _pairs(
  validation: Validation, metric: MetricName
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  points = validation.points
  if validation.pairs is not None:
    first, second, same = validation.pairs
    distances = evaluation.pair_distances(points[first], points[second], metric)
    return distances, same
  count = len(points) * (len(points) - 1) // 2
  if count > MAX_PAIRS:
    raise InputError(
      f"the {len(points)} validation items make {count} pairs, more than the"
      f" limit of {MAX_PAIRS}: train with a smaller validation part."
    )
  return evaluation.pairs_of(points, validation.labels, metric)


def _rates_by_class(
  labels: Int[np.ndarray, " n"], accepted: Bool[np.ndarray, " p"]
) -> tuple[Rate, Rate]:
  """FAR and FRR of all pairs, in the order of `evaluation.pairs_of`."""
  names, index = np.unique(labels, return_inverse=True)
  c, n = len(names), len(labels)
  total, hits = np.zeros((c, c)), np.zeros((c, c))
  start = 0
  for i in range(n):
    others = index[i + 1 :]
    is_hit = accepted[start : start + len(others)]
    total[index[i]] += np.bincount(others, minlength=c)
    hits[index[i]] += np.bincount(others[is_hit], minlength=c)
    start += len(others)
  genuine, genuine_hits = total.diagonal().copy(), hits.diagonal().copy()
  np.fill_diagonal(total, 0)
  np.fill_diagonal(hits, 0)
  return _resampled(hits, total), _resampled(genuine - genuine_hits, genuine)


def _resampled(events: Float[np.ndarray, " c *c"], trials: Any) -> Rate:
  """A rate with an interval from resampled classes.

  If no trial or every trial is an event, resampling cannot give an interval.
  The interval is then exact, for as many independent trials as there are
  classes, or disjoint pairs of classes.
  """
  num_events, count = int(events.sum()), int(trials.sum())
  if not count:
    return Rate(np.nan, np.nan, np.nan, 0)
  if num_events in (0, count):
    classes = int(np.count_nonzero(trials.reshape(len(trials), -1).any(axis=1)))
    independent = classes // trials.ndim
    low, high = _exact(independent if num_events else 0, independent)
  else:
    low, high = evaluation.rate_bootstrap(events, trials)
  return Rate(num_events / count, low, high, count)


def _rate(events: Bool[np.ndarray, " p"]) -> Rate:
  """A rate of independent trials."""
  count = len(events)
  if not count:
    return Rate(np.nan, np.nan, np.nan, 0)
  num_events = int(np.count_nonzero(events))
  return Rate(num_events / count, *_exact(num_events, count), count)


def _exact(events: int, trials: int) -> tuple[float, float]:
  """The 95 % interval of Clopper and Pearson (1934).

  >>> _, high = _exact(0, 10)
  >>> round((1 - high) ** 10, 6)  # no event in ten trials
  0.025
  """
  from scipy.stats import beta

  low = beta.ppf(0.025, events, trials - events + 1) if events else 0.0
  high = beta.ppf(0.975, events + 1, trials - events)
  return float(low), float(high) if events < trials else 1.0
