"""Shared parts of networks for photographs: inputs, options, pools, heads."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import ShareBelowOne
from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import BatchNorm

Maps = Float[Array, "n h w c"]

# The channels of ImageNet, for values from 0 to 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def in_color(images: Maps) -> Float[Array, "n h w rgb"]:
  """Repeats gray images as three equal channels; RGB images do not change.

  Raises:
    InputError: for images that have neither one nor three channels.
  """
  channels = images.shape[-1]
  if channels not in (1, 3):
    raise InputError(
      f"networks with pretrained weights see RGB or gray images, and these"
      f" have {channels} channels: choose conv3 or conv4 by"
      " config.model.name, or convert the images."
    )
  return jnp.repeat(images, 3, axis=-1) if channels == 1 else images


def standardized(
  images: Float[Array, "n h w c"],
) -> Float[Array, "n h w rgb"]:
  """Mean 0 and deviation 1 of each channel of ImageNet; gray ones as RGB."""
  return (in_color(images) - jnp.array(MEAN)) / jnp.array(DEVIATION)


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
    """`pad` is for all four sides; `frozen` trains with running statistics."""
    self.pad = pad
    self.conv = conv
    self.norm = BatchNorm(
      conv.out_features, momentum=0.9, epsilon=epsilon, rngs=rngs
    )
    self.frozen = frozen

  def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "n h2 w2 c2"]:
    """Convolves and normalizes."""
    both_sides = (self.pad, self.pad)
    padded = jnp.pad(maps, ((0, 0), both_sides, both_sides, (0, 0)))
    by_batch = train and not self.frozen
    return self.norm(self.conv(padded), use_running_average=not by_batch)


def through(
  blocks: Mapping[str, Any],
  x: Float[Array, " n *maps"],
  *,
  train: bool,
  remat: bool,
  key: PRNGKeyArray | None = None,
) -> Float[Array, " n *maps2"]:
  """Passes maps or tokens through block0, block1 and so on.

  remat: stores only the inputs of blocks, and computes the rest again for the
    gradient: less memory, and about a third more time.
  key: the key from which each block gets its own; None if blocks draw nothing.
  """
  call = lambda block, x, more: block(x, train=train, **more)
  if remat:
    call = nnx.remat(call)
  for i in range(len(blocks)):  # by number: Flax sorts the names as strings
    more = {} if key is None else {"key": jax.random.fold_in(key, i)}
    x = call(blocks[f"block{i}"], x, more)
  return x


def depth_rates(rate: float, count: int) -> list[float]:
  """Rates of stochastic depth of `count` blocks: linear, from 0 to `rate`.

  >>> depth_rates(0.2, 3)
  [0.0, 0.1, 0.2]
  """
  return [float(each) for each in np.linspace(0, rate, count)]


def dropped(
  branch: Float[Array, " n *maps"], rate: float, key: PRNGKeyArray | None
) -> Float[Array, " n *maps"]:
  """Drops the branch of a residual block for random items.

  With probability `rate`, the branch of an item becomes 0; otherwise it is
  divided by 1 - rate, so that its mean does not change. Without a key, nothing
  is dropped.

  Source: Huang et al., Deep networks with stochastic depth, ECCV 2016, with
  the division in training.
  """
  if key is None or not rate:
    return branch
  shape = (len(branch), *[1] * (branch.ndim - 1))
  keep = jax.random.bernoulli(key, 1 - rate, shape)
  return jnp.where(keep, branch / (1 - rate), 0)


class Pool(nnx.Module):
  """Pools the maps of an image to one vector, by a name in `POOLS`.

  The exponent of `gem` is learned and starts at 3.
  """

  def __init__(self, name: str):
    """Raises `InputError` for an unknown name."""
    check_choice("pool", name, POOLS)
    self.name = name
    if name == "gem":
      self.exponent = nnx.Param(jnp.full(1, 3.0))

  def __call__(self, maps: Maps) -> Float[Array, "n c"]:
    """Pools over the positions."""
    if self.name == "gem":
      return gem(maps, self.exponent[...])
    return POOLS[self.name](maps)


def average(maps: Maps) -> Float[Array, "n c"]:
  """The mean over the positions."""
  return jnp.mean(maps, axis=(1, 2))


def maximum(maps: Maps) -> Float[Array, "n c"]:
  """The maximum over the positions."""
  return jnp.max(maps, axis=(1, 2))


def gem(
  maps: Maps, exponent: Float[Array, " 1"] | float = 3.0
) -> Float[Array, "n c"]:
  """The generalized mean (mean of x^p)^(1/p), with x clipped below at 1e-6.

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


class Trunk(nnx.Module):
  """Layers for photographs, a pool, and an embedding head.

  A network creates its layers in `add_layers`. With them, its `maps_of`
  computes maps of `features` channels, for the pool and the head.
  """

  sees = ("image",)
  features: int

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    pool: str = "avg",
    head: str = "linear",
    dropout: ShareBelowOne = 0.0,
    stochastic_depth: ShareBelowOne = 0.0,
    frozen_norm: bool = False,
    remat: bool = False,
    rngs: nnx.Rngs,
  ):
    """The options are fields of a config.

    Args:
      item_shape: (height, width, channels) of an image.
      embedding_dim: length of an embedding.
      pool: a name in `POOLS`.
      head: "linear"; "norm_linear", which also normalizes the features
        (LayerNorm); or "none", which makes the pooled features the embedding.
      dropout: share of the pooled features that are set to 0 in training.
      stochastic_depth: share of items that skip the last residual block in
        training; fewer items skip earlier blocks (`depth_rates`).
      frozen_norm: whether to use the running statistics in training too.
      remat: whether to store only the inputs of blocks, and to compute the rest
        again for the gradient: less memory, more time.
      rngs: for the initial weights.

    Raises:
      InputError: for an unknown pool or head, or if the head is "none" and
        embedding_dim is not the number of features.
    """
    check_choice("head", head, HEADS)
    if head == "none" and embedding_dim != self.features:
      raise InputError(
        f"config.model.head='none' makes the {self.features} pooled features"
        " the embedding: set config.model.embedding_dim="
        f"{self.features}, not {embedding_dim}."
      )
    self.stochastic_depth, self.remat = float(stochastic_depth), remat
    self.add_layers(frozen=frozen_norm, rngs=rngs)
    self.pool, self.dropout = Pool(pool), float(dropout)
    self.head = HEADS[head](self.features, embedding_dim, rngs)

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the layers, in the order in which images pass through them."""
    raise NotImplementedError

  def maps_of(
    self, images: Maps, *, train: bool, key: PRNGKeyArray | None
  ) -> Float[Array, "n h2 w2 c2"]:
    """The input of the pool; `key` is None if nothing is drawn at random."""
    raise NotImplementedError

  def features_of(
    self, images: Maps, *, train: bool, key: PRNGKeyArray | None
  ) -> Float[Array, "n k"]:
    """The input of the head."""
    return self.pool(self.maps_of(images, train=train, key=key))

  def __call__(
    self, images: Maps, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Float[Array, "n k"]:
    """Embeds the images.

    Raises:
      InputError: without a key in training with dropout or stochastic depth.
    """
    draws = train and (self.dropout or self.stochastic_depth)
    if not draws:
      key = None
    elif key is None:
      raise InputError(
        "a network with dropout or stochastic_depth draws at random in"
        " training: call `apply` with key=…"
      )
    features = self.features_of(images, train=train, key=key)
    if key is not None and self.dropout:
      # A stream of random numbers that no block uses.
      stream = jax.random.fold_in(key, 2**20)
      keep = jax.random.bernoulli(stream, 1 - self.dropout, features.shape)
      features = jnp.where(keep, features / (1 - self.dropout), 0)
    return features if self.head is None else self.head(features)


def _linear(features: int, embedding_dim: int, rngs: nnx.Rngs) -> nnx.Linear:
  return nnx.Linear(
    features, embedding_dim, kernel_init=lecun_normal, rngs=rngs
  )


class NormLinear(nnx.Module):
  """Layer normalization of the features, then a dense layer."""

  def __init__(self, features: int, embedding_dim: int, rngs: nnx.Rngs):
    """It has no options."""
    self.norm = nnx.LayerNorm(features, rngs=rngs)
    self.linear = _linear(features, embedding_dim, rngs)

  def __call__(self, features: Float[Array, "n c"]) -> Float[Array, "n k"]:
    """Embeds pooled features."""
    return self.linear(self.norm(features))


HEADS: dict[str, Callable[..., Any]] = {
  "linear": _linear,
  "norm_linear": NormLinear,
  "none": lambda features, embedding_dim, rngs: None,
}
