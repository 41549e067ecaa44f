"""Triplets of a row that are no product of positives and negatives."""

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
    """Weights of the negatives that the positive p meets."""
    gap = distances - distances[p]
    return jnp.where((self.low < gap) & (gap <= self.high), self.negatives, 0)


class Drawn(NamedTuple):
  """One negative for each positive: `negative[p]` is its index."""

  positives: Float[Array, "*n m"]
  negative: Int[Array, "*n m"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that the positive p meets."""
    index = jnp.arange(distances.shape[0])
    return (index == self.negative[p]).astype(distances.dtype)


class Angle(NamedTuple):
  """The triplets of a row with atan(D_p / 2|x_n - (x_a + x_p)/2|) > angle."""

  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  # Between candidates: of all rows, as long as they are mapped one by one.
  between: Float[Array, "*n m m"]
  angle: Float[Array, "*n"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that the positive p meets."""
    own = distances[p]
    square = distances**2 / 2 + self.between[p] ** 2 / 2 - own**2 / 4
    # Two arguments, so that a negative at the very middle has an angle too.
    found = jnp.arctan2(own, 2 * jnp.sqrt(jnp.maximum(square, 0)))
    return jnp.where(found > self.angle, self.negatives, 0)


def with_triplets(row: Row, triplets: Gap | Drawn | Angle) -> Row:
  """The row with these triplets; its weights count them for pair losses."""

  index = jnp.arange(row.distances.shape[0])

  def count(p, sums):
    positives, negatives = sums
    met = triplets.of(p, row.distances) * triplets.positives[p]
    own = jnp.where(index == p, jnp.sum(met), 0)
    return positives + own, negatives + met

  zeros = jnp.zeros_like(row.distances)
  positives, negatives = each_positive(
    triplets.positives, count, (zeros, zeros)
  )
  return row._replace(
    positives=positives, negatives=negatives, triplets=triplets
  )
