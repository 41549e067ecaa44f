"""Triplets of a row that are not all combinations of its pairs."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metric_learning.rows import Row, each_positive


class Gap(NamedTuple):
  """The triplets of a row with low < D_n - D_p <= high."""

  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  low: Float[Array, "*n"]
  high: Float[Array, "*n"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that are chosen for the positive p."""
    gap = distances - distances[p]
    return jnp.where((self.low < gap) & (gap <= self.high), self.negatives, 0)


class Drawn(NamedTuple):
  """One negative for each positive: `negative[p]` is its index."""

  positives: Float[Array, "*n m"]
  negative: Int[Array, "*n m"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that are chosen for the positive p."""
    index = jnp.arange(distances.shape[0])
    return (index == self.negative[p]).astype(distances.dtype)


class Angle(NamedTuple):
  """The triplets of a row with atan(D_p / 2|x_n - (x_a + x_p)/2|) > angle."""

  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  # Distances between candidates. All rows share one array, unless a loss sees
  # several rows at once.
  between: Float[Array, "*n m m"]
  angle: Float[Array, "*n"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that are chosen for the positive p."""
    base = distances[p]
    square = distances**2 / 2 + self.between[p] ** 2 / 2 - base**2 / 4
    # arctan2, so that a negative at the midpoint has an angle too.
    angles = jnp.arctan2(base, 2 * jnp.sqrt(jnp.maximum(square, 0)))
    return jnp.where(angles > self.angle, self.negatives, 0)


def with_triplets(row: Row, triplets: Gap | Drawn | Angle) -> Row:
  """The row with these triplets; its weights count them, for pair losses."""

  index = jnp.arange(row.distances.shape[0])

  def count(p: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
    positives, negatives = sums
    chosen = triplets.of(p, row.distances) * triplets.positives[p]
    of_positive = jnp.where(index == p, jnp.sum(chosen), 0)
    return positives + of_positive, negatives + chosen

  zeros = jnp.zeros_like(row.distances)
  positives, negatives = each_positive(
    triplets.positives, count, (zeros, zeros)
  )
  return row._replace(
    positives=positives, negatives=negatives, triplets=triplets
  )
