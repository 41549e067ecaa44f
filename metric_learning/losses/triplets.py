"""Triplet losses. All triplets of a batch, without an array of triplets.

Margins are in units of the distance: of D² under `squared_l2`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.losses.base import DISTANCES, Loss
from metric_learning.rows import Row, Terms, make_terms

Number = float | Array


def _hinge_and_slopes(distances, positives, negatives, margin, low, high):
  """One pass over the positives of a row: its Terms and their derivatives.

  Each step meets one positive with all negatives, so a row of m candidates
  needs O(m) memory. The derivative of a sum of hinges by a distance is a
  weighted count of violations.
  """
  index = jnp.arange(distances.shape[0])
  dtype = distances.dtype

  def following(p):
    """The first positive after p, or m."""
    later = (index > p) & (positives > 0)
    return jnp.where(jnp.any(later), jnp.argmax(later), index.shape[0])

  def step(carry):
    p, terms, slopes, margin_slope = carry
    gap = distances - distances[p]
    weight = jnp.where((low < gap) & (gap < high), positives[p] * negatives, 0)
    violation = jax.nn.relu(margin - gap)
    counted = jnp.where(violation > 0, weight, 0)
    violated = jnp.sum(counted)
    # A sum over hinges is the sum over its active terms. Selected, because a
    # violation of weight 0 may be infinite.
    total = jnp.sum(jnp.where(weight > 0, weight * violation, 0))
    update = Terms(total, jnp.sum(weight), total, violated)
    terms = jax.tree.map(jnp.add, terms, update)
    slopes += jnp.where(index == p, violated, 0) - counted
    return following(p), terms, slopes, margin_slope + violated

  zero = jnp.zeros((), dtype)
  start = (
    following(-1),
    Terms(zero, zero, zero, zero),
    jnp.zeros_like(distances),
    zero,
  )
  unfinished = lambda carry: carry[0] < index.shape[0]
  _, terms, slopes, margin_slope = jax.lax.while_loop(unfinished, step, start)
  return terms, (slopes, margin_slope)


# Every traced number is an argument of its own: one that were closed over
# would fail under `vmap` of `lax.map`.
@jax.custom_vjp
def triplet_hinge(
  distances: Float[Array, " m"],
  positives: Float[Array, " m"],
  negatives: Float[Array, " m"],
  margin: Float[Array, ""],
  low: Float[Array, ""],
  high: Float[Array, ""],
) -> Terms:
  """Σ over p, n of [D_p - D_n + α]+ where low < D_n - D_p < high, as Terms.

  A triplet weighs w_p · w_n. Distances and margin have cotangents; weights and
  the window are constants. O(m) memory, reverse mode only.
  """
  return _hinge_and_slopes(distances, positives, negatives, margin, low, high)[
    0
  ]


def _forward(*args):
  return _hinge_and_slopes(*args)


def _backward(slopes, bar):
  by_distance, by_margin = slopes
  scale = bar.total + bar.active_total
  weights, window = jnp.zeros_like(by_distance), jnp.zeros_like(by_margin)
  return (
    scale * by_distance,
    weights,
    weights,
    scale * by_margin,
    window,
    window,
  )


triplet_hinge.defvjp(_forward, _backward)


def _hinge(row: Row, margin: Number, low: Number, high: Number) -> Terms:
  as_number = functools.partial(jnp.asarray, dtype=row.distances.dtype)
  return triplet_hinge(
    row.distances,
    row.positives,
    row.negatives,
    as_number(margin),
    as_number(low),
    as_number(high),
  )


def triplet_loss(row: Row, *, margin: Number = 0.2) -> dict[str, Terms]:
  """Triplet loss over all triplets ("batch all"): [D_ap - D_an + α]+.

  Every p in P(a) meets every n in N(a); neither value nor gradient stores
  triplets. Reverse mode only.

  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_loss(row, margin=0.5)["triplet"].total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)

  Source: Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet), equation 3, where
  α = .2 is for squared L2 on the unit sphere; "batch all" of Hermans, Beyer,
  Leibe 2017. FaceNet itself mines; see `triplet_semihard`.
  """
  return {"triplet": _hinge(row, margin, -jnp.inf, jnp.inf)}


def triplet_semihard_loss(
  row: Row, *, margin: Number = 0.2
) -> dict[str, Terms]:
  """Triplet loss over semi-hard triplets: D_ap < D_an < D_ap + α, strictly.

  The negative is farther than the positive, and within the margin.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_semihard_loss(row, margin=0.5)["triplet"].total  # 1 - 1.25 + .5
  Array(0.25, dtype=float32)

  Source: Schroff et al., CVPR 2015, section 3.2. All semi-hard negatives of a
  pair count, not one that is drawn.
  """
  return {"triplet": _hinge(row, margin, 0.0, margin)}


def triplet_batch_hard_loss(
  row: Row, *, margin: Number = 0.2
) -> dict[str, Terms]:
  """Triplet loss of the hardest: [α + max_p D_ap - min_n D_an]+ per anchor.

  Ties take the lowest index, whose distance alone has a gradient.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_batch_hard_loss(row, margin=0.5)["triplet"].total
  Array(0.75, dtype=float32)

  Source: Hermans, Beyer, Leibe 2017 (arXiv 1703.07737), equation 5; a mean over
  anchors, where the paper sums.
  """
  positive = row.positives > 0
  negative = row.negatives > 0
  far = jnp.argmax(jnp.where(positive, row.distances, -jnp.inf))
  near = jnp.argmin(jnp.where(negative, row.distances, jnp.inf))
  exists = jnp.any(positive) & jnp.any(negative)
  value = jax.nn.relu(margin + row.distances[far] - row.distances[near])
  return {"triplet": make_terms(value, exists.astype(value.dtype))}


TRIPLET_LOSSES: dict[str, Loss] = {
  "triplet": Loss(
    triplet_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, equation 3",
  ),
  "triplet_semihard": Loss(
    triplet_semihard_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, section 3.2",
  ),
  "triplet_batch_hard": Loss(
    triplet_batch_hard_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Hermans, Beyer, Leibe 2017, arXiv 1703.07737, equation 5",
  ),
}
