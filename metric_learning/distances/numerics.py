"""Numerical helpers of the distances: types, shapes, derivatives at 0."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Casts to float32, or leaves a wider type as it is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def comparable(x: Any, y: Any, rank: int = 1) -> tuple[Array, Array]:
  """Checks that the shapes of x and y fit, and widens both.

  Raises:
    InputError: if they do not fit; missing features are not filled with 0.
  """
  x, y = jnp.asarray(x), jnp.asarray(y)
  if (x.ndim, y.ndim) != (rank, rank) or x.shape[-1] != y.shape[-1]:
    wanted = "[d] and [d]" if rank == 1 else "[n, d] and [m, d]"
    raise InputError(
      f"points of shapes {x.shape} and {y.shape} cannot be compared: they must"
      f" be {wanted}, with the same d. Use the network that made the embeddings"
      " for references and galleries too, and give init and init_state its"
      " embedding_dim."
    )
  return widen(x), widen(y)


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Square root of max(x, 0), with gradient 0 at 0 instead of infinity.

  >>> float(jax.grad(safe_sqrt)(0.0))
  0.0
  """
  # Both selects are needed: without the inner one, the derivative of the branch
  # that is not taken would still enter, as 0 * inf = NaN.
  # The comparison is <=, so that a NaN stays a NaN.
  x = jnp.asarray(x)
  is_zero = x <= 0
  return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


def absolute(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """|x| with derivative 0 at 0, where `jnp.abs` has derivative 1."""
  return x * jax.lax.stop_gradient(jnp.sign(x))
