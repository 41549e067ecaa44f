"""Normalizations of embeddings, by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances.numerics import absolute, safe_sqrt


def _identity(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  """The embeddings as they are."""
  return x


def _divide(
  x: Float[Array, "*n d"], norm: Float[Array, "*n 1"]
) -> Float[Array, "*n d"]:
  zero = norm == 0
  return jnp.where(zero, 0, x / jnp.where(zero, 1, norm))


def l1_normalize(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  """x / Σ|x_j|; the zero vector stays zero, with gradient 0.

  >>> l1_normalize(jnp.array([1.0, -3.0]))
  Array([ 0.25, -0.75], dtype=float32)
  """
  return _divide(x, jnp.sum(absolute(x), axis=-1, keepdims=True))


def l2_normalize(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
  """x / √Σx_j²; the zero vector stays zero, with gradient 0.

  >>> l2_normalize(jnp.array([3.0, -4.0]))
  Array([ 0.6, -0.8], dtype=float32)
  """
  # Dividing by the largest coordinate first keeps the squares of tiny and of
  # huge vectors in the range of float32. The scale cancels, so it has no
  # gradient.
  scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
  x = _divide(x, scale)
  return _divide(x, safe_sqrt(jnp.sum(x * x, axis=-1, keepdims=True)))


NORMALIZATIONS: dict[str, Callable[[Array], Array]] = {
  "none": _identity,
  "l1": l1_normalize,
  "l2": l2_normalize,
}
