"""Soft histograms of distances: sums that have a gradient."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError

Range = tuple[float | Array, float | Array]


def soft_histogram(
  values: Float[Array, " m"],
  weights: Float[Array, " m"],
  num_bins: int,
  value_range: Range | None,
) -> Float[Array, " edges"]:
  """Weight at the num_bins + 1 edges of equal bins.

  A value shares its weight between the two edges of its bin, by nearness; a
  value outside of the range counts at its end, with gradient 0.

  >>> soft_histogram(jnp.array([0.25, 2.0]), jnp.ones(2), 2, (0.0, 2.0))
  Array([0.75, 0.25, 1.  ], dtype=float32)
  """
  if value_range is None:
    raise InputError("a histogram needs value_range, the range of the distance")
  low, high = value_range
  place = (values - low) * (num_bins / (high - low))
  place = jnp.clip(place, 0, num_bins)
  # The largest value is the upper end of the last bin, not a bin of its own.
  left = jnp.minimum(jnp.floor(place), num_bins - 1).astype(jnp.int32)
  share = place - left
  # Measured: adding at indices beats a pass over the values for each edge, and
  # no array of values by edges exists, in the gradient neither.
  edges = jnp.zeros(num_bins + 1, weights.dtype)
  edges = edges.at[left].add(weights * (1 - share))
  return edges.at[left + 1].add(weights * share)
