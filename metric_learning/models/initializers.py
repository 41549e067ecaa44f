"""Random initial weights that need one compilation for all networks.

XLA takes about a second on a CPU to compile a random draw of a new shape, and
a network has many shapes. Numbers are therefore drawn in blocks of one size.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

_BLOCK = 2**16


@jax.jit
def _block(key: Key[Array, ""]) -> Float[Array, " b"]:
  return jax.random.normal(key, (_BLOCK,))


def _normal(key: Key[Array, ""], shape: Sequence[int]) -> Float[Array, "..."]:
  size = math.prod(shape)
  count = math.ceil(size / _BLOCK)
  blocks = [_block(jax.random.fold_in(key, i)) for i in range(count)]
  return jnp.concatenate(blocks)[:size].reshape(shape)


def lecun_normal(
  key: Key[Array, ""], shape: Sequence[int], dtype: Any = jnp.float32
) -> Float[Array, "..."]:
  """Normal with variance 1 / inputs, for ReLU and linear layers.

  Source: LeCun et al., Efficient BackProp, 1998, section 4.6.
  """
  inputs = math.prod(shape[:-1])
  return (_normal(key, shape) * inputs**-0.5).astype(dtype)


def glorot_normal(
  key: Key[Array, ""], shape: Sequence[int], dtype: Any = jnp.float32
) -> Float[Array, "..."]:
  """Normal with variance 2 / (inputs + outputs), for tanh layers.

  Source: Glorot & Bengio, AISTATS 2010, equation 12.
  """
  *patch, cin, cout = shape
  mean = math.prod(patch) * (cin + cout) / 2
  return (_normal(key, shape) * mean**-0.5).astype(dtype)
