"""What networks for large photographs share: inputs, normalization, pooling."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from metric_learning.errors import InputError, check_choice

Maps = Float[Array, "n h w c"]


def in_color(images: Maps) -> Float[Array, "n h w rgb"]:
  """Images with three equal channels where they are gray.

  Raises:
    InputError: for other than one or three channels.
  """
  channels = images.shape[-1]
  if channels not in (1, 3):
    raise InputError(
      f"networks with pretrained weights see RGB images, and gray ones as RGB;"
      f" these have {channels} channels: choose conv3 or conv4 by"
      " config.model.name, or convert the images."
    )
  return jnp.repeat(images, 3, axis=-1) if channels == 1 else images


class ConvNorm(nnx.Module):
  """A convolution without a bias, then batch normalization."""

  def __init__(
    self,
    conv: nnx.Conv,
    *,
    pad: int = 0,
    epsilon: float,
    frozen: bool,
    rngs: nnx.Rngs,
  ):
    """Pads all four sides; frozen means running statistics in training too."""
    self.pad = pad
    self.conv = conv
    self.norm = nnx.BatchNorm(
      conv.out_features, momentum=0.9, epsilon=epsilon, rngs=rngs
    )
    self.frozen = frozen

  def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "n h2 w2 c2"]:
    """Convolves and normalizes."""
    around = (self.pad, self.pad)
    padded = jnp.pad(maps, ((0, 0), around, around, (0, 0)))
    by_batch = train and not self.frozen
    return self.norm(self.conv(padded), use_running_average=not by_batch)


def through(
  blocks: Mapping[str, Any], maps: Maps, *, train: bool, remat: bool
) -> Float[Array, "n h2 w2 c2"]:
  """Maps through block0, block1 and so on.

  remat: keeps only what enters a block, and computes what is within it again
    for the gradient: less memory, and about a third more time.
  """
  call = lambda block, x: block(x, train=train)
  if remat:
    call = nnx.remat(call)
  for i in range(len(blocks)):  # by number: Flax sorts them as texts
    maps = call(blocks[f"block{i}"], maps)
  return maps


class Pool(nnx.Module):
  """Maps of an image to one vector, by a name in `POOLS`.

  The exponent of `gem` is learned, and 3 at first.
  """

  def __init__(self, name: str):
    """Raises `InputError` for an unknown name."""
    check_choice("pool", name, POOLS)
    self.name = name
    if name == "gem":
      self.exponent = nnx.Param(jnp.full(1, 3.0))

  def __call__(self, maps: Maps) -> Float[Array, "n c"]:
    """Pools over places."""
    if self.name == "gem":
      return gem(maps, self.exponent[...])
    return POOLS[self.name](maps)


def average(maps: Maps) -> Float[Array, "n c"]:
  """The mean over places."""
  return jnp.mean(maps, axis=(1, 2))


def maximum(maps: Maps) -> Float[Array, "n c"]:
  """The maximum over places."""
  return jnp.max(maps, axis=(1, 2))


def gem(
  maps: Maps, exponent: Float[Array, " 1"] | float = 3.0
) -> Float[Array, "n c"]:
  """The generalized mean (mean of x^p)^(1/p), where x is at least 1e-6.

  Source: Radenović, Tolias & Chum, Fine-tuning CNN image retrieval with no
  human annotation, TPAMI 2019.
  """
  powers = jnp.maximum(maps, 1e-6) ** exponent
  return jnp.mean(powers, axis=(1, 2)) ** (1 / exponent)


POOLS: dict[str, Callable[[Maps], Float[Array, "n c"]]] = {
  "avg": average,
  "max": maximum,
  "avg+max": lambda maps: average(maps) + maximum(maps),
  "gem": gem,
}
