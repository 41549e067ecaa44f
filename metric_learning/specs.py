"""The shape and kind of an item of a data set."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


class InputSpec(NamedTuple):
  """The shape and kind of an item, as stored.

  shape: (height, width, channels) for an image, (d,) for a feature vector.
  kind: "image" for uint8 from 0 to 255, or "features" for float32.
  """

  shape: tuple[int, ...]
  kind: str

  def __str__(self) -> str:
    """A description in words.

    >>> print(InputSpec((24, 24, 1), "image"))
    images of 24×24×1
    """
    if self.kind == "features":
      return f"vectors of {self.shape[0]} features"
    return f"images of {'×'.join(map(str, self.shape))}"


def spec_of(inputs: Any) -> InputSpec:
  """The spec of stored items: uint8 items are images.

  >>> spec_of(np.zeros((3, 24, 24, 1), np.uint8))
  InputSpec(shape=(24, 24, 1), kind='image')
  >>> spec_of(np.zeros((3, 8), np.float32))
  InputSpec(shape=(8,), kind='features')
  """
  kind = "image" if inputs.dtype == np.uint8 else "features"
  return InputSpec(tuple(inputs.shape[1:]), kind)


def as_numbers(
  inputs: Shaped[Array | np.ndarray, " n *item"],
) -> Float[Array, " n *item"]:
  """Stored items as float32: images scaled to [0, 1], features unchanged.

  >>> as_numbers(np.array([[0, 255]], np.uint8))
  Array([[0., 1.]], dtype=float32)
  """
  numbers = jnp.asarray(inputs)
  if numbers.dtype == jnp.uint8:
    return numbers.astype(jnp.float32) / 255
  return numbers.astype(jnp.float32)
