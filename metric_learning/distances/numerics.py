"""Numbers that distances share: types, shapes, and derivatives at 0."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Casts to float32, or leaves a wider type as it is."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def comparable(x: Any, y: Any, rank: int = 1) -> tuple[Array, Array]:
  """Both sides, widened, once their shapes are known to fit.

  Raises:
    InputError: if the numbers of features differ: a missing one is not 0.
  """
  x, y = jnp.asarray(x), jnp.asarray(y)
  if (x.ndim, y.ndim) != (rank, rank) or x.shape[-1] != y.shape[-1]:
    wanted = "[d] and [d]" if rank == 1 else "[n, d] and [m, d]"
    raise InputError(
      f"points of shapes {x.shape} and {y.shape} cannot be compared: they must"
      f" be {wanted}, with the same d. References and galleries come from the"
      " network that made the embeddings; init and init_state need its"
      " embedding_dim."
    )
  return widen(x), widen(y)


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Square root of max(x, 0) whose gradient at 0 is 0 and not infinite.

  >>> float(jax.grad(safe_sqrt)(0.0))
  0.0
  """
  # Both selects are needed: the derivative of the branch that is not taken
  # would still enter as 0 * inf = NaN.
  # Compared with <=, so that a NaN stays one.
  x = jnp.asarray(x)
  empty = x <= 0
  return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, x)))


def absolute(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """|x| with derivative 0 at 0, where that of `jnp.abs` is 1."""
  return x * jax.lax.stop_gradient(jnp.sign(x))
