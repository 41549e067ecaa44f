"""The quadruplet loss: triplets, and negative pairs of two further classes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metric_learning.intervals import NotNegative
from metric_learning.losses.base import Context, Loss, MetricsThat
from metric_learning.losses.search import MARGIN
from metric_learning.losses.triplets import triplet_loss
from metric_learning.rows import Parts, Points, Row, Terms


class Ladder(NamedTuple):
  """Values sorted within each class, with their cumulative sums."""

  labels: Int[Array, " k"]
  values: Float[Array, " k"]
  weight: Float[Array, " k"]
  total: Float[Array, " k"]


def _ladder(
  labels: Int[Array, " k"],
  values: Float[Array, " k"],
  weights: Float[Array, " k"],
) -> Ladder:
  labels, values, weights = jax.lax.sort((labels, values, weights), num_keys=2)
  first = jnp.concatenate([jnp.ones(1, bool), labels[1:] != labels[:-1]])

  def join(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    """Sums that restart at each class; subtracting sums would lose digits."""
    new, *later = b
    sums = [jnp.where(new, y, x + y) for x, y in zip(a[1:], later, strict=True)]
    return a[0] | new, *sums

  weighted = jnp.where(weights > 0, weights * values, 0)
  _, weight, total = jax.lax.associative_scan(join, (first, weights, weighted))
  return Ladder(labels, values, weight, total)


def _below(
  ladder: Ladder, label: Int[Array, ""], z: Float[Array, " m"]
) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, ""]]:
  """For the values v of a class: Σ w[z - v]+, Σ w over v < z, and Σ w."""
  start, end = (
    jnp.searchsorted(ladder.labels, label, side=side)
    for side in ("left", "right")
  )

  def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = ends
    middle = low + (high - low) // 2
    less = (low < high) & (ladder.values[middle] < z)
    return jnp.where(less, middle + 1, low), jnp.where(less, high, middle)

  whole = jnp.broadcast_to(start, z.shape), jnp.broadcast_to(end, z.shape)
  steps = ladder.values.shape[0].bit_length()
  place, _ = jax.lax.fori_loop(0, steps, halve, whole)
  up_to = lambda sums, k: jnp.where(k > start, sums[k - 1], 0)
  weight = up_to(ladder.weight, place)
  return (
    z * weight - up_to(ladder.total, place),
    weight,
    up_to(ladder.weight, end),
  )


def _negative_pairs(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  """Ladders of the pairs of candidates of different classes.

  The first ladder holds all of them as one class. The second groups them by the
  class of the first candidate.
  """
  distances, weights = over_candidates(
    lambda row: (row.distances, row.negatives)
  )
  labels = jnp.broadcast_to(candidates.labels[:, None], distances.shape)
  flat = distances.ravel(), weights.ravel()
  return Context(
    shared=(
      _ladder(jnp.zeros_like(labels).ravel(), *flat),
      _ladder(labels.ravel(), *flat),
    )
  )


def quadruplet_loss(
  row: Row,
  context: Context,
  *,
  margin: NotNegative = 1.0,
  second_margin: NotNegative = 0.5,
) -> Parts:
  """Quadruplet: [D_ap - D_an + α1]+ and [D_ap - D_nn' + α2]+, in two parts.

  The second part runs over all positive pairs (a, p) and all ordered pairs
  (n, n') of candidates, where a, n and n' are of three different classes. It
  does not loop over the pairs (n, n'). From sorted distances, it gets the sum
  over all pairs of different classes, and subtracts the pairs that contain the
  class of a. Memory is O(m²) for m candidates, whatever the block size. Reverse
  mode only.

  >>> from metric_learning.objectives import make_objective
  >>> objective = make_objective("quadruplet", margin=0.0, second_margin=1.5)
  >>> x = jnp.array([[0.0], [1.0], [4.0], [6.0]])
  >>> value, _ = jax.jit(objective)({}, x, jnp.array([0, 0, 1, 2]))
  >>> round(float(value), 4)  # D_ap = 1, D_nn' = 2: 1 - 2 + 1.5
  0.5

  Source: Chen, Chen, Zhang, Huang, CVPR 2017 (arXiv 1704.01719), equation 8,
  with fixed margins and the distance in place of its square.
  """
  all_pairs, by_class = context.shared
  z = row.distances + second_margin
  zero = jnp.zeros_like(row.label)
  # The class of a may be that of n or of n', and both cases have the same sum.
  total, active, count = (
    every - 2 * with_class
    for every, with_class in zip(
      _below(all_pairs, zero, z), _below(by_class, row.label, z), strict=True
    )
  )
  total = jnp.where(active > 0, jax.nn.relu(total), 0)
  meet = lambda x: jnp.sum(jnp.where(row.positives > 0, row.positives * x, 0))
  second = Terms(meet(total), meet(count), meet(total), meet(active))
  first = triplet_loss(row, margin=margin)["triplet"]
  return {"triplet": first, "pair": second}


QUADRUPLET_LOSSES: dict[str, Loss] = {
  "quadruplet": Loss(
    quadruplet_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    # The sums take both directions of a pair as equal.
    metrics=MetricsThat(lambda m: m.is_distance and m.is_symmetric),
    scaled={"margin": 1, "second_margin": 1},
    context=_negative_pairs,
    closed_form=True,
    search={"margin": MARGIN, "second_margin": MARGIN},
    source="Chen et al., CVPR 2017, arXiv 1704.01719, equation 8",
  ),
}
