"""Identification: probes against a gallery of known classes.

A probe is known if its class is in the gallery. Its distance to a class is its
distance to the nearest gallery item of that class. A probe is named after the
nearest class if the distance is at most a threshold t. FAR(t) is the share of
unknown probes that are named. Among classes at equal distance, the correct one
ranks last, so that coinciding embeddings identify no probe.

Sources: Phillips, Grother and Micheals, Evaluation Methods in Face
Recognition, in Handbook of Face Recognition, 2011 (detection and
identification rate, cumulative match); Dhamija, Günther and Boult, Reducing
Network Agnostophobia, NeurIPS 2018 (OSCR).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import MetricName
from metric_learning.evaluation.tiles import (
  Codes,
  as_float32,
  check_embeddings,
  check_labels,
  check_whole,
  decode,
  for_each_block,
)
from metric_learning.evaluation.verification import (
  Roc,
  refusal,
  roc,
)

AT_FAR = (0.01, 0.1)


class Probes(NamedTuple):
  """The inputs of identification scores, for each probe.

  known: whether the class of the probe is in the gallery.
  nearest: its distance to the nearest class.
  own: its distance to its own class; infinite for an unknown probe.
  rank: the rank of its own class, 1 for the nearest; 0 for an unknown probe.
  """

  known: Bool[np.ndarray, " n"]
  nearest: Float[np.ndarray, " n"]
  own: Float[np.ndarray, " n"]
  rank: Int[np.ndarray, " n"]


def probes_of(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Any,
  gallery: Float[np.ndarray | Array, "m d"],
  gallery_labels: Any,
  metric: MetricName = "l2",
) -> Probes:
  """Ranks the classes of a gallery for each probe.

  >>> probes_of(
  ...   np.array([[0.0], [2.9], [9.0]]), np.array([7, 7, 5]),
  ...   np.array([[1.0], [3.0]]), np.array([7, 8])
  ... ).rank
  array([1, 2, 0])

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, or if
      labels do not fit them.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  gallery = check_embeddings("gallery", gallery)
  labels = check_labels("labels", labels, len(embeddings))
  gallery_labels = check_labels("gallery_labels", gallery_labels, len(gallery))
  embeddings, gallery = as_float32(metric, embeddings, gallery)
  order = np.argsort(gallery_labels, kind="stable")
  classes, starts = np.unique(gallery_labels[order], return_index=True)
  place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
  known = classes[place] == labels
  nearest = np.empty(len(labels), np.float32)
  own = np.full(len(labels), np.inf, np.float32)
  rank = np.zeros(len(labels), np.int64)

  def use(rows: slice, codes: Codes) -> None:
    # Codes have the same order as distances.
    by_class = np.minimum.reduceat(np.asarray(codes), starts, axis=1)
    nearest[rows] = decode(by_class.min(axis=1))
    correct = np.take_along_axis(by_class, place[rows, None], axis=1)
    is_known = known[rows]
    ranks = np.count_nonzero(by_class <= correct, axis=1)
    own[rows] = np.where(is_known, decode(correct[:, 0]), np.inf)
    rank[rows] = np.where(is_known, ranks, 0)

  for_each_block(use, metric, embeddings, gallery[order])
  return Probes(known, nearest, own, rank)


def identification(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Any,
  gallery: Float[np.ndarray | Array, "m d"],
  gallery_labels: Any,
  *,
  metric: MetricName = "l2",
  ks: Sequence[int] = (1, 5),
) -> dict[str, float]:
  """Scores of naming known probes and rejecting unknown ones.

    rank_K           share of known probes whose class is among the K nearest:
                     the cumulative match curve at K, for a closed set
    dir_at_far_f     detection and identification rate: share of known probes
                     whose class is the nearest and at most t away, with t the
                     largest threshold of FAR(t) ≤ f
    dir_K_at_far_f   the same with the class among the K nearest, for K > 1
    auroc            P(known probe nearer to the gallery than unknown) + ½ P(=)
    oscr             area under the share of known probes that are correctly
                     named within t, over FAR(t)
    best_f1          the largest 2 r / (a + k) over t, if a probes are named, r
                     of these correctly, and k probes are known
    num_known, num_unknown  the number of known and of unknown probes

  A rate at FAR f is NaN with fewer than 10 / f unknown probes. Rates are NaN if
  there are no probes of their kind.

  >>> scores = identification(
  ...   np.array([[0.0], [2.1], [5.0]]), np.array([7, 7, 5]),
  ...   np.array([[1.0], [3.0]]), np.array([7, 8]), ks=(1, 2)
  ... )
  >>> scores["rank_1"], scores["rank_2"]  # 2.1 is nearer to class 8
  (0.5, 1.0)
  >>> scores["auroc"], scores["oscr"]  # the unknown one, at 2, is the farthest
  (1.0, 0.5)

  Args:
    embeddings, labels: one probe per row, and its class.
    gallery, gallery_labels: the gallery items, which must not be probes.
    metric: a name in `METRICS`, or `(name, {options})`.
    ks: the ranks K.

  Raises:
    InputError: as for `probes_of`, and if a K is below 1.
  """
  return identification_of(
    probes_of(embeddings, labels, gallery, gallery_labels, metric), ks
  )


def identification_of(probes: Probes, ks: Sequence[int]) -> dict[str, float]:
  """The scores of `identification` for ranked probes.

  Raises:
    InputError: if a K is below 1.
  """
  for k in ks:
    check_whole("ks: K", k, 1)
  known, rank = probes.known, probes.rank
  num_known = int(np.count_nonzero(known))
  num_unknown = len(known) - num_known
  curve = roc(probes.nearest, known)
  scores = {f"rank_{k}": _mean(rank[known] <= k) for k in ks}
  for k in ks:
    for f in AT_FAR:
      name = "dir" if k == 1 else f"dir_{k}"
      scores[f"{name}_at_far_{f}"] = dir_at_far(probes, k, f)
  both = num_known and num_unknown
  right = known & (rank == 1)
  ccr = _accepted(curve, probes.nearest[right]) / max(1, num_known)
  nan = float("nan")
  scores["auroc"] = (
    float(np.trapezoid(1 - curve.frr, curve.far)) if both else nan
  )
  scores["oscr"] = float(np.trapezoid(ccr, curve.far)) if both else nan
  scores["best_f1"] = nan
  if num_known:
    named = _accepted(curve, probes.nearest)
    f1 = 2 * ccr * num_known / (named + num_known)
    scores["best_f1"] = float(f1.max())
  scores["num_known"] = float(num_known)
  scores["num_unknown"] = float(num_unknown)
  return scores


def dir_at_far(probes: Probes, k: int, far: float) -> float:
  """The detection and identification rate at rank k: see `identification`.

  The largest threshold with FAR(t) ≤ far is just below the distance of the
  first unknown probe with which FAR would exceed `far`.
  """
  unknown = np.sort(probes.nearest[~probes.known])
  count = len(unknown)
  if refusal(far, count):
    return float("nan")
  allowed = np.searchsorted(np.arange(count + 1) / count, far, side="right") - 1
  near = probes.own < np.append(unknown, np.inf)[allowed]
  return _mean((near & (probes.rank <= k))[probes.known])


def _accepted(
  curve: Roc, distances: Float[np.ndarray, " p"]
) -> Int[np.ndarray, " t"]:
  """The number of distances up to each threshold of a curve."""
  ordered = np.sort(distances.astype(np.float64))
  return np.searchsorted(ordered, curve.thresholds, side="right")


def _mean(values: Bool[np.ndarray, " n"]) -> float:
  return float(values.mean()) if len(values) else float("nan")
