"""Verification: error rates of accepting pairs below a distance.

A pair is accepted as "same" if its distance is at most a threshold t.
FAR(t) = accepted impostor pairs / impostor pairs, FRR(t) = rejected genuine
pairs / genuine pairs, TAR = 1 - FRR. Pairs at equal distance are accepted
together. A rate without pairs is NaN.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning.distances import MetricName, pairwise
from metric_learning.errors import InputError
from metric_learning.evaluation.tiles import (
  Codes,
  as_float32,
  check_embeddings,
  check_labels,
  decode,
  for_each_block,
)
from metric_learning.relevance import related

FRR_AT_FAR = (0.1, 0.075, 0.05)
TAR_AT_FAR = (0.01, 0.001)


class Roc(NamedTuple):
  """Operating points in order of their threshold.

  The first point accepts nothing: (FAR, FRR) = (0, 1) at threshold -infinity.
  """

  far: Float[np.ndarray, " t"]
  frr: Float[np.ndarray, " t"]
  thresholds: Float[np.ndarray, " t"]


def pairs_of(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n *k"],
  metric: MetricName = "l2",
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  """Distances of all unordered pairs i < j, and whether they are genuine.

  A pair is genuine if its items have the same class or, with several labels,
  share a label.

  Pairs are in the order (0, 1), (0, 2), ..., (1, 2), ... . Distances are
  float32, from exact differences. Memory: 5 bytes for each of the
  n (n - 1) / 2 pairs.

  >>> pairs_of(np.array([[0.0], [1.0], [3.0]]), np.array([0, 1, 0]), "l1")
  (array([1., 3., 2.], dtype=float32), array([False,  True, False]))

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, or if
      labels do not fit them.
  """
  (embeddings,) = as_float32(metric, check_embeddings("embeddings", embeddings))
  labels = check_labels("labels", labels, len(embeddings), several=True)
  n = len(labels)
  columns = np.arange(n)
  distances = np.empty(n * (n - 1) // 2, np.float32)
  same = np.empty(len(distances), bool)

  def use(rows: slice, codes: Codes) -> None:
    upper = columns > columns[rows, None]
    # Row i has n - 1 - i pairs.
    first = rows.start * (2 * n - 1 - rows.start) // 2
    pairs = slice(first, first + np.count_nonzero(upper))
    distances[pairs] = decode(np.asarray(codes)[upper])
    same[pairs] = related(labels[rows], labels)[upper]

  for_each_block(use, metric, embeddings, embeddings)
  return distances, same


def pair_distances(
  first: Float[np.ndarray | Array, "p d"],
  second: Float[np.ndarray | Array, "_ d"],
  metric: MetricName = "l2",
) -> Float[np.ndarray, " p"]:
  """The distance of each row of `first` to the same row of `second`.

  This serves explicit pairs, such as those of LFW. Distances are float32, from
  exact differences.

  >>> pair_distances(np.array([[0.0], [1.0]]), np.array([[3.0], [5.0]]), "l1")
  array([3., 4.], dtype=float32)

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, or if
      the numbers of rows differ.
  """
  first = check_embeddings("first", first)
  second = check_embeddings("second", second)
  if len(first) != len(second):
    raise InputError(
      f"first and second: {len(first)} and {len(second)} rows; give one of each"
      " for every pair."
    )
  first, second = as_float32(metric, first, second)

  def distance(x: Array, y: Array) -> Array:
    return pairwise(metric, x[None], y[None], exact=True)[0, 0]

  return np.asarray(jax.jit(jax.vmap(distance))(first, second))


def roc(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> Roc:
  """FAR and FRR at each distinct distance, after the point (0, 1).

  >>> roc(np.array([1.0, 2.0, 2.0]), np.array([True, True, False])).frr
  array([1. , 0.5, 0. ])

  Raises:
    InputError: if `same` is not boolean, if a distance is NaN, or if the shapes
      differ.
  """
  thresholds, genuine, impostor = _accepted(distances, same)
  num_genuine, num_impostor = int(genuine[-1]), int(impostor[-1])
  return Roc(
    far=_share(impostor, num_impostor),
    frr=_share(num_genuine - genuine, num_genuine),
    thresholds=thresholds,
  )


def verification(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
  *,
  threshold: float | None = None,
) -> dict[str, float]:
  """AUC, equal error rate, and rates at fixed FAR, of a set of pairs.

    auc              P(d_genuine < d_impostor) + P(equal) / 2
    eer              FAR where FAR = FRR, linear between the two neighboring
                     operating points
    frr_at_far_f     FRR at the largest t with FAR(t) ≤ f; not interpolated
    tar_at_far_f     1 - FRR there
    accuracy         share of correctly decided pairs at `threshold`, if given
    num_genuine, num_impostor  the number of pairs of each kind

  A rate at FAR f is NaN if there are too few impostor pairs for f; `refusal`
  gives the reason. Models trained on different folds have distances on
  different scales: score each fold, then average.

  >>> scores = verification(
  ...   np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
  ... )
  >>> scores["auc"]  # 3 of the 4 genuine-impostor pairs are in order
  0.75
  >>> scores["eer"]  # (FAR, FRR) passes (0.5, 0.5) at t = 2
  0.5

  Args:
    distances: one number per pair, in any order.
    same: whether each pair is genuine; boolean, since papers use both signs.
    threshold: the largest distance that is accepted. Learn it on other pairs,
      with `best_threshold`.

  Raises:
    InputError: if `same` is not boolean, if a distance is NaN, or if the shapes
      differ.
  """
  far, frr, _ = roc(distances, same)
  genuine = int(np.count_nonzero(same))
  impostors = len(same) - genuine
  scores = {"auc": float("nan"), "eer": float("nan")}
  if genuine and impostors:
    scores["auc"] = float(np.trapezoid(1 - frr, far))
    scores["eer"] = _equal_error_rate(far, frr)
  for f in FRR_AT_FAR:
    scores[f"frr_at_far_{f}"] = _frr_at_far(far, frr, f, impostors)
  for f in TAR_AT_FAR:
    scores[f"tar_at_far_{f}"] = 1 - _frr_at_far(far, frr, f, impostors)
  if threshold is not None:
    scores["accuracy"] = accuracy_at(threshold, distances, same)
  scores["num_genuine"] = float(genuine)
  scores["num_impostor"] = float(impostors)
  return scores


def refusal(
  far: float, num_impostor: int, impostors: str = "impostor pairs"
) -> str | None:
  """Why a rate at this FAR is not reported, or None if it is.

  A rate is reported if at least 10 impostors are accepted at this FAR.
  `impostors` names them in the message.

  >>> refusal(0.01, 1000)
  >>> refusal(0.01, 999)
  'FAR 0.01 needs 1000 impostor pairs (10 accepted ones), and there are 999.'
  """
  needed = 10 / far
  if num_impostor >= needed:
    return None
  return (
    f"FAR {far:g} needs {np.ceil(needed):.0f} {impostors} (10 accepted "
    f"ones), and there are {num_impostor}."
  )


def threshold_at_far(curve: Roc, far: float) -> float:
  """The largest threshold whose FAR does not exceed this rate.

  The threshold is the midpoint between the last accepted distance and the next
  one, so that rounding decides no pair. It is -infinity if no distance can be
  accepted.

  >>> distances = np.array([1.0, 2.0, 4.0, 5.0])
  >>> curve = roc(distances, np.array([True, False, True, False]))
  >>> threshold_at_far(curve, 0.5)  # accepts 2, and 4 with it, but not 5
  4.5
  """
  ends = np.append(curve.thresholds, curve.thresholds[-1])
  last = np.searchsorted(curve.far, far, side="right") - 1
  return float((ends[last] + ends[last + 1]) / 2)


def best_threshold(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> float:
  """The threshold that decides the most pairs correctly.

  Learn it on other pairs than those that are scored. The threshold is the
  midpoint between two neighboring distances, or -infinity (accept nothing), or
  infinity (accept all). Among thresholds of equal accuracy it is the smallest.

  >>> best_threshold(
  ...   np.array([1.0, 2.0, 4.0, 5.0]), np.array([True, True, False, False])
  ... )
  3.0

  Raises:
    InputError: if `same` is not boolean, if a distance is NaN, or if there is
      no pair.
  """
  thresholds, genuine, impostor = _accepted(distances, same)
  if len(thresholds) == 1:
    raise InputError("best_threshold: no pairs to learn a threshold from.")
  # An accepted genuine pair adds a correct decision, an impostor removes one.
  best = np.argmax(genuine - impostor)
  ends = np.append(thresholds, np.inf)
  return float((ends[best] + ends[best + 1]) / 2)


def accuracy_at(
  threshold: float,
  distances: Float[np.ndarray | Array, " p"],
  same: Bool[np.ndarray | Array, " p"],
) -> float:
  """The share of pairs that are decided correctly; NaN without pairs.

  >>> accuracy_at(2.0, np.array([1.0, 3.0]), np.array([True, True]))
  0.5
  """
  # In float64 on both sides: rounded to float32, a threshold between two
  # neighboring distances might equal one of them.
  right = (np.asarray(distances) <= np.float64(threshold)) == np.asarray(same)
  return float(right.mean()) if len(right) else float("nan")


def cross_validated_accuracy(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
  folds: Int[np.ndarray | Array, " _"],
) -> dict[str, float]:
  """Accuracy of each fold at the best threshold of the other folds, as for LFW.

    accuracy        mean over folds
    standard_error  s / √F, s the sample standard deviation over the F folds

  >>> distances, folds = np.array([1.0, 3.0, 2.0, 5.0]), np.array([0, 0, 1, 1])
  >>> same = np.array([True, False, True, False])
  >>> cross_validated_accuracy(distances, same, folds)
  {'accuracy': 0.75, 'standard_error': 0.25}

  In this example fold 0 is decided at 3.5, which accepts its impostor, and fold
  1 at 2.

  Args:
    distances: one number per pair, in any order.
    same: whether each pair is genuine; boolean.
    folds: the fold of each pair.

  Raises:
    InputError: if `same` is not boolean, if a distance is NaN, if the shapes
      differ, or if there are fewer than two folds.

  Source: Huang et al., Labeled Faces in the Wild, 2007: ten folds of 300
  genuine and 300 impostor pairs.
  """
  distances, same = np.asarray(distances, np.float64), np.asarray(same)
  folds = np.asarray(folds)
  if not distances.shape == same.shape == folds.shape:
    raise InputError(
      f"distances, same and folds: shapes {distances.shape}, {same.shape} and"
      f" {folds.shape}; give one of each for every pair."
    )
  names = np.unique(folds)
  if len(names) < 2:
    raise InputError(
      f"folds: there are {len(names)}, but the threshold of a fold comes from"
      " the other folds: use two or more."
    )
  accuracies = []
  for name in names:
    in_fold = folds == name
    threshold = best_threshold(distances[~in_fold], same[~in_fold])
    accuracies.append(accuracy_at(threshold, distances[in_fold], same[in_fold]))
  return {
    "accuracy": float(np.mean(accuracies)),
    "standard_error": float(
      np.std(accuracies, ddof=1) / np.sqrt(len(accuracies))
    ),
  }


def _accepted(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> tuple[
  Float[np.ndarray, " t"], Int[np.ndarray, " t"], Int[np.ndarray, " t"]
]:
  """Thresholds, and how many genuine and impostor pairs each accepts.

  The thresholds are -infinity and the distinct distances.
  """
  distances, same = np.asarray(distances), np.asarray(same)
  if distances.dtype != np.float32:  # float32 sorts in half the time.
    distances = distances.astype(np.float64)
  if distances.ndim != 1 or distances.shape != same.shape:
    raise InputError(
      f"distances and same: shapes {distances.shape} and {same.shape}; give one"
      " of each for every pair, both of shape (p,)."
    )
  if same.dtype != bool:
    raise InputError(
      f"same has dtype {same.dtype}: papers disagree on the meaning of 0 and 1,"
      " so it must be boolean, True for pairs of one class."
    )
  if np.isnan(distances).any():
    raise InputError(
      f"distances: {np.count_nonzero(np.isnan(distances))} of "
      f"{len(distances)} are NaN; score embeddings that are finite."
    )
  # Sorts all pairs once, and the genuine pairs, which are few, once more.
  ordered = np.sort(distances)
  last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
  thresholds = np.append(-np.inf, ordered[last].astype(np.float64))
  accepted = np.concatenate([[0], np.flatnonzero(last) + 1])
  where = np.searchsorted(thresholds, np.sort(distances[same]))
  genuine = np.cumsum(np.bincount(where, minlength=len(thresholds)))
  return thresholds, genuine, accepted - genuine


def _share(
  counts: Int[np.ndarray, " t"], total: int
) -> Float[np.ndarray, " t"]:
  return counts / total if total else np.full(len(counts), np.nan)


def _equal_error_rate(
  far: Float[np.ndarray, " t"], frr: Float[np.ndarray, " t"]
) -> float:
  gap = frr - far
  # The gap decreases strictly from 1 to -1.
  k = np.flatnonzero(gap >= 0)[-1]
  weight = gap[k] / (gap[k] - gap[k + 1])
  return float(far[k] + weight * (far[k + 1] - far[k]))


def _frr_at_far(
  far: Float[np.ndarray, " t"],
  frr: Float[np.ndarray, " t"],
  f: float,
  impostors: int,
) -> float:
  if refusal(f, impostors):
    return float("nan")
  return float(frr[np.searchsorted(far, f, side="right") - 1])
