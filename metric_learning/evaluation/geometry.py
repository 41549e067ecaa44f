"""The shape of an embedding space: logged, but never used to select a model."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import NORMALIZATIONS, MetricName, split_metric
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.tiles import (
  Codes,
  as_float32,
  check_embeddings,
  check_labels,
  decode,
  for_each_block,
  one_thread,
)

# How far the norm of a normalized row may be from 1, since bfloat16 rounds it.
_NORM_TOLERANCE = 0.01

# The number of rows in a block of products.
_BLOCK = 512


def geometry(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"] | None = None,
) -> dict[str, float]:
  """Effective rank, ρ-spectrum, norms, collapse, uniformity and alignment.

    effective_rank       exp(-Σ p_i log p_i), p = σ / Σσ for the singular
                         values σ of the centered embeddings: 1 for one
                         direction or for a single point, at most d
    rho_spectrum_1       KL(U‖S) in nats: S is the singular values of the rows
                         as given, not centered, divided by their sum, U is
                         uniform; 0 if all are equal, infinite if one is 0.
                         Variant 1 keeps the largest singular value
    embedding_norm_mean, embedding_norm_std  of the norms of the rows as given
    collapsed            1 if `collapsed` is true, else 0
    uniformity           log of the mean over pairs of exp(-2 |x - y|²): 0 if
                         all points are equal, about -4 for uniform points
    alignment            mean over same-class pairs of |x - y|², in 0 to 4;
                         only if labels are given

  Uniformity and alignment are computed on embeddings scaled to unit L2 norm
  (a zero row stays zero). They are NaN if there is no pair.

  >>> square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
  >>> scores = geometry(square, np.array([0, 0, 1, 1]))
  >>> scores["alignment"], round(scores["effective_rank"], 6)
  (2.0, 2.0)
  >>> round(scores["uniformity"], 4)  # log((4 exp(-4) + 2 exp(-8)) / 6)
  -4.3963

  Raises:
    InputError: if there are no embeddings, if an embedding is not finite, or if
      the labels do not fit.

  Sources: alignment and uniformity, Wang & Isola, ICML 2020, with α = 2 and
  t = 2; effective rank, Roy & Vetterli, EUSIPCO 2007; ρ-spectrum, Roth et al.,
  Revisiting Training Strategies, ICML 2020.
  """
  embeddings = check_embeddings("embeddings", embeddings)
  # Norms and unit vectors are computed in float64.
  norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
  unit = embeddings / np.where(norms > 0, norms, 1)[:, None]
  rank = effective_rank(embeddings)
  scores = {
    "effective_rank": rank,
    "rho_spectrum_1": _rho_spectrum(embeddings),
    "embedding_norm_mean": float(norms.mean()),
    "embedding_norm_std": float(norms.std()),
    "collapsed": float(_collapsed(embeddings, rank)),
    "uniformity": _uniformity(unit.astype(np.float32)),
  }
  if labels is not None:
    scores["alignment"] = _alignment(
      unit, check_labels("labels", labels, len(unit))
    )
  return scores


def effective_rank(embeddings: Float[np.ndarray | Array, "n d"]) -> float:
  """exp of the entropy of the shares of singular values, after centering.

  >>> effective_rank(np.array([[0.0, 1.0], [0.0, 1.0]]))  # one point
  1.0
  """
  singular = _singular_values(
    _centered(check_embeddings("embeddings", embeddings))
  )
  total = singular.sum()
  if not total > 0:
    return 1.0
  share = singular[singular > 0] / total
  return float(np.exp(-np.sum(share * np.log(share))))


def intra_inter_ratio(
  embeddings: Float[np.ndarray | Array, "n d"],
  labels: Int[np.ndarray | Array, " n"],
  *,
  metric: MetricName = "l2",
  normalized: str = "none",
) -> float:
  """The size of classes, relative to the distance between them.

  This is the mean over classes of the mean distance between two embeddings of
  the class, divided by the mean distance between two class means. A class of
  one image has a class mean, but no distances inside. The ratio is NaN if there
  are not two classes or no class has two images, if all class means coincide,
  and for `dot`, which is not a distance.

  >>> points, labels = np.array([[0.0], [1.0], [6.0], [9.0]]), [0, 0, 1, 1]
  >>> intra_inter_ratio(points, np.array(labels))  # (1 + 3) / 2, and 7 - 0.5
  0.285...

  Args:
    embeddings: the inputs of the distance, one point per row.
    labels: the class of each point.
    metric: a name in `METRICS`, or `(name, {options})`.
    normalized: how the embeddings are normalized; class means are normalized
      in the same way.

  Raises:
    InputError: if the metric or normalization is unknown, if embeddings are not
      finite or not normalized in this way, or if labels do not fit them.

  Source: Roth et al., ICML 2020, who use cosine.
  """
  name, _ = split_metric(metric)
  embeddings = check_embeddings("embeddings", embeddings)
  check_normalized(embeddings, normalized)
  # Centers embeddings far from the origin, unless class means are normalized:
  # these depend on the origin.
  (embeddings,) = (
    as_float32(metric, embeddings)
    if normalized == "none"
    else [embeddings.astype(np.float32)]
  )
  labels = check_labels("labels", labels, len(embeddings))
  _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
  if name == "dot" or len(counts) < 2 or counts.max() < 2:
    return float("nan")
  order = np.argsort(index, kind="stable")
  points, index = embeddings[order], index[order]
  ends = np.cumsum(counts)
  starts = ends - counts
  means = np.add.reduceat(points, starts, dtype=np.float64) / counts[:, None]
  unit = NORMALIZATIONS[normalized]
  means = np.asarray(unit(jnp.asarray(means, jnp.float32)))
  within = _within(metric, points, starts[index], ends[index])
  has_pair = counts > 1
  pairs = counts * (counts - 1)
  sizes = np.bincount(index, within)[has_pair] / pairs[has_pair]
  between = _within(metric, means, np.zeros(len(means), int), len(means))
  apart = between.sum() / (len(means) * (len(means) - 1))
  return float(sizes.mean() / apart) if apart > 0 else float("nan")


def check_normalized(
  embeddings: Float[np.ndarray, "n d"], normalized: str
) -> None:
  """Checks that embeddings are normalized as `normalized` says.

  A row of zeros counts as normalized.

  Raises:
    InputError: if the normalization is unknown, or if a row has another norm
      than 1.
  """
  check_choice("normalization", normalized, NORMALIZATIONS)
  if normalized == "none":
    return
  norms = np.linalg.norm(
    embeddings.astype(np.float64), {"l1": 1, "l2": 2}[normalized], axis=1
  )
  wrong = (np.abs(norms - 1) > _NORM_TOLERANCE) & (norms > 0)
  if wrong.any():
    raise InputError(
      f"normalized={normalized!r} says that the embeddings are normalized, but"
      f" {np.count_nonzero(wrong)} of {len(norms)} are not (row"
      f" {np.argmax(wrong)} has norm {norms[np.argmax(wrong)]:.4g}): pass"
      f" {normalized}_normalize(embeddings), or leave `normalized` out."
    )


def _within(
  metric: MetricName,
  points: Float[np.ndarray, "n d"],
  starts: Int[np.ndarray, " n"],
  ends: Int[np.ndarray, " n"] | int,
) -> Float[np.ndarray, " n"]:
  """Sums the distances from each point to the other points in its range.

  The ends of the ranges never decrease from point to point. So a block of
  points needs only the points between the start of its first range and the end
  of its last.
  """
  ends = np.broadcast_to(ends, len(points))
  sums = np.zeros(len(points))
  for first in range(0, len(points), _BLOCK):
    block = slice(first, min(first + _BLOCK, len(points)))
    lowest, highest = starts[block][0], ends[block][-1]
    row = np.arange(block.start, block.stop)
    column = np.arange(lowest, highest)
    mask = (column >= starts[block, None]) & (column < ends[block, None])
    mask &= column != row[:, None]

    def use(
      rows: slice, codes: Codes, block: slice = block, mask: np.ndarray = mask
    ) -> None:
      distances = decode(np.asarray(codes))
      row_sums = np.sum(distances, axis=1, where=mask[rows], dtype=float)
      sums[block][rows] = row_sums

    for_each_block(use, metric, points[block], points[lowest:highest])
  return sums


def collapsed(embeddings: Float[np.ndarray | Array, "n d"]) -> bool:
  """Whether the embeddings have practically collapsed to a point or a line.

  This is true if the root mean square distance from their mean is less than
  1/1000 of their root mean square norm, or, in two dimensions or more, if their
  effective rank is less than 1.5.

  >>> collapsed(np.array([[5.0, 1.0], [5.001, 1.0], [5.0, 1.001]]))
  True
  >>> collapsed(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
  False
  """
  embeddings = check_embeddings("embeddings", embeddings)
  return _collapsed(embeddings, effective_rank(embeddings))


def _collapsed(embeddings: Float[np.ndarray, "n d"], rank: float) -> bool:
  """Whether checked embeddings of this effective rank have collapsed."""
  size = np.linalg.norm(embeddings.astype(np.float64))
  spread = np.linalg.norm(_centered(embeddings))
  one_point = bool(spread <= 1e-3 * size)
  return one_point or (embeddings.shape[1] > 1 and rank < 1.5)


def _centered(
  embeddings: Float[np.ndarray | Array, "n d"],
) -> Float[np.ndarray, "n d"]:
  # Subtracts the first row first, so that equal rows become exactly zero.
  moved = np.asarray(embeddings, np.float64)
  moved = moved - moved[:1]
  return moved - moved.mean(axis=0)


def _singular_values(
  matrix: Float[np.ndarray, "n d"],
) -> Float[np.ndarray, " k"]:
  # For a tall matrix, threads wait for each other longer than they compute: a
  # matrix of 1,084 x 64 takes 8 ms on two free cores and 400 ms on two busy
  # ones, but 2 ms in one thread. A wide matrix, such as that of large images,
  # takes twice as long as its transpose: 13 and 5.6 s for 1,500 x 30,000.
  tall = matrix.T if matrix.shape[1] > len(matrix) else matrix
  with one_thread():
    return np.linalg.svd(tall, compute_uv=False)


def _rho_spectrum(embeddings: Float[np.ndarray, "n d"]) -> float:
  singular = _singular_values(embeddings.astype(np.float64))
  # By rounding, a singular value of 0 may become as large as this.
  least = np.finfo(float).eps * max(embeddings.shape) * singular.max(initial=0)
  if not np.all(singular > least):
    return float("inf")
  share = singular / singular.sum()
  return float(-np.log(len(share)) - np.mean(np.log(share)))


def _uniformity(unit: Float[np.ndarray, "n d"]) -> float:
  n = len(unit)
  if n < 2:
    return float("nan")
  squares = np.sum(unit * unit, axis=1)
  total = 0.0
  for start in range(0, n, _BLOCK):
    rows = slice(start, start + _BLOCK)
    # The product form is accurate enough here: an error of 1e-7 in a distance
    # changes a term by as much, and no rank depends on it.
    squared = squares[rows, None] + squares - 2 * unit[rows] @ unit.T
    total += np.exp(-2 * squared).sum(dtype=np.float64)
  diagonal = float(n)  # exp(0) for each row with itself
  return float(np.log((total - diagonal) / (n * (n - 1))))


def _alignment(
  unit: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]
) -> float:
  total, pairs = 0.0, 0
  for label in np.unique(labels):
    members = unit[labels == label].astype(np.float64)
    n = len(members)
    # Over the pairs of n points, Σ |x - y|² = n Σ |x - mean|².
    total += n * np.sum((members - members.mean(axis=0)) ** 2)
    pairs += n * (n - 1) // 2
  return float(total / pairs) if pairs else float("nan")
