"""Same or different? Error rates of accepting pairs below a distance.

A pair is accepted as "same" if its distance is at most a threshold t.
FAR(t) = accepted impostor pairs / impostor pairs, FRR(t) = rejected genuine
pairs / genuine pairs, TAR = 1 - FRR. Pairs at equal distance enter together.
A rate whose pairs are absent is NaN.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning.distances import MetricName, pairwise
from metric_learning.errors import InputError
from metric_learning.evaluation.neighbours import (
  check_embeddings,
  check_labels,
  check_metric,
  code_blocks,
  decode,
)

FRR_AT_FAR = (0.1, 0.075, 0.05)
TAR_AT_FAR = (0.01, 0.001)


class Roc(NamedTuple):
  """Operating points in order of their threshold.

  The first accepts nothing: (FAR, FRR) = (0, 1) at threshold -infinity.
  """

  far: Float[np.ndarray, " t"]
  frr: Float[np.ndarray, " t"]
  thresholds: Float[np.ndarray, " t"]


def pairs_of(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  metric: MetricName = "l2",
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  """Distances of all unordered pairs i < j, and whether they are of one class.

  Pairs are in the order (0, 1), (0, 2), ..., (1, 2), ... . Distances are
  float32, from exact differences. Memory: 5 bytes for each of the
  n (n - 1) / 2 pairs.

  >>> pairs_of(np.array([[0.0], [1.0], [3.0]]), np.array([0, 1, 0]), "l1")
  (array([1., 3., 2.], dtype=float32), array([False,  True, False]))

  Raises:
    InputError: for an unknown metric, embeddings that are not finite, or
      labels that do not fit them.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  labels = check_labels("labels", labels, len(embeddings))
  columns = np.arange(len(labels))
  distances, same = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
  for rows, codes in code_blocks(metric, embeddings, embeddings):
    upper = columns > columns[rows, None]
    distances.append(decode(np.asarray(codes)[:, : len(labels)][upper]))
    same.append((labels == labels[rows, None])[upper])
  return np.concatenate(distances), np.concatenate(same)


def explicit_distances(
  embeddings: Float[np.ndarray | Array, "n d"],
  first: Int[np.ndarray | Array, " p"],
  second: Int[np.ndarray | Array, " p"],
  metric: MetricName = "l2",
) -> Float[np.ndarray, " p"]:
  """Distances of explicit pairs, from exact differences.

  >>> points = np.array([[0.0], [1.0], [3.0]])
  >>> explicit_distances(points, np.array([0, 1]), np.array([2, 2]), "l1")
  array([3., 2.], dtype=float32)

  Raises:
    InputError: for an unknown metric, or embeddings that are not finite.
  """
  check_metric(metric)
  embeddings = check_embeddings("embeddings", embeddings)
  one = lambda x, y: pairwise(metric, x[None], y[None], exact=True)[0, 0]
  distances = jax.vmap(one)(embeddings[first], embeddings[second])
  return np.asarray(distances, np.float32)


def roc(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> Roc:
  """FAR and FRR at each distinct distance, and at (0, 1).

  >>> roc(np.array([1.0, 2.0, 2.0]), np.array([True, True, False])).frr
  array([1. , 0.5, 0. ])

  Raises:
    InputError: if `same` is not boolean, or a distance is NaN.
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
  """AUC, equal error rate and the rates at fixed FAR of a set of pairs.

    auc              P(d_genuine < d_impostor) + P(equal) / 2
    eer              FAR where FAR = FRR, linear between the two neighbouring
                     operating points
    frr_at_far_f     FRR at the largest t with FAR(t) ≤ f; not interpolated
    tar_at_far_f     1 - FRR there
    accuracy         share of pairs decided rightly at `threshold`, if given
    num_genuine, num_impostor  how many pairs there are

  A rate at FAR f is NaN where f is too fine for the impostor pairs there are;
  `refusal` says why. Distances of models trained on different folds are not
  on one scale: score each fold, then average.

  >>> scores = verification(
  ...   np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False])
  ... )
  >>> scores["auc"]  # 3 of the 4 genuine-impostor pairs are in order
  0.75
  >>> scores["eer"]  # (FAR, FRR) passes (0.5, 0.5) at t = 2
  0.5

  Args:
    distances: one number a pair, in any order.
    same: whether the pair is genuine; boolean, since papers use both signs.
    threshold: accept at most this distance. Learn it on other pairs, with
      `best_threshold`.

  Raises:
    InputError: if `same` is not boolean, or a distance is NaN.
  """
  far, frr, _ = roc(distances, same)
  distances, same = np.asarray(distances, np.float64), np.asarray(same)
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
    # In float64 on both sides: rounded to float32, a threshold between two
    # neighbouring distances would fall on one of them.
    right = (distances <= threshold) == same
    scores["accuracy"] = float(right.mean()) if len(right) else float("nan")
  scores["num_genuine"] = float(genuine)
  scores["num_impostor"] = float(impostors)
  return scores


def refusal(far: float, num_impostor: int) -> str | None:
  """Why a rate at this FAR is not printed, or None if it is.

  Fewer than 10 accepted impostors are too few to speak of a rate.

  >>> refusal(0.01, 1000)
  >>> refusal(0.01, 999)
  'FAR 0.01 needs 1000 impostor pairs (10 accepted ones), and there are 999.'
  """
  needed = 10 / far
  if num_impostor >= needed:
    return None
  return (
    f"FAR {far:g} needs {np.ceil(needed):.0f} impostor pairs (10 accepted "
    f"ones), and there are {num_impostor}."
  )


def best_threshold(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> float:
  """The threshold that decides most pairs rightly; learn it on other pairs.

  The midpoint between two neighbouring distances, or -infinity (accept
  nothing) or infinity (accept all); the smallest one on equal accuracy.

  >>> best_threshold(
  ...   np.array([1.0, 2.0, 4.0, 5.0]), np.array([True, True, False, False])
  ... )
  3.0

  Raises:
    InputError: if `same` is not boolean, a distance is NaN, or there is no
      pair.
  """
  thresholds, genuine, impostor = _accepted(distances, same)
  if len(thresholds) == 1:
    raise InputError("best_threshold: no pairs to learn a threshold from.")
  # Each accepted genuine pair is one more right, each impostor one less.
  best = np.argmax(genuine - impostor)
  ends = np.append(thresholds, np.inf)
  return float((ends[best] + ends[best + 1]) / 2)


def _accepted(
  distances: Float[np.ndarray | Array, " p"],
  same: Shaped[np.ndarray | Array, " p"],
) -> tuple[
  Float[np.ndarray, " t"], Int[np.ndarray, " t"], Int[np.ndarray, " t"]
]:
  """Thresholds, and how many genuine and impostor pairs each accepts.

  They are -infinity and the distinct distances.
  """
  distances, same = np.asarray(distances, np.float64), np.asarray(same)
  if same.dtype != bool:
    raise InputError(
      f"same has dtype {same.dtype}: papers write 0 and 1 both ways round, so "
      "it must be boolean, True for pairs of one class."
    )
  if np.isnan(distances).any():
    raise InputError(
      f"distances: {np.count_nonzero(np.isnan(distances))} of "
      f"{len(distances)} are NaN; score embeddings that are finite."
    )
  # One sort of all pairs, and one of the genuine ones, which are few.
  ordered = np.sort(distances)
  last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
  thresholds = np.concatenate([[-np.inf], ordered[last]])
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
  # The gap falls strictly, from 1 to -1.
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
