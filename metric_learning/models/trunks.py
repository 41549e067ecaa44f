"""What networks for large photographs share: inputs, options, pools, heads."""

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

# Of the channels of ImageNet, between 0 and 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    """Pads all four sides; frozen means running statistics in training too."""
    self.pad = pad
    self.conv = conv
    self.norm = BatchNorm(
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
  blocks: Mapping[str, Any],
  x: Float[Array, " n *maps"],
  *,
  train: bool,
  remat: bool,
  key: PRNGKeyArray | None = None,
) -> Float[Array, " n *maps2"]:
  """Maps or tokens through block0, block1 and so on.

  remat: keeps only what enters a block, and computes what is within it again
    for the gradient: less memory, and about a third more time.
  key: of what blocks draw, each by its own; None if they draw nothing.
  """
  call = lambda block, x, more: block(x, train=train, **more)
  if remat:
    call = nnx.remat(call)
  for i in range(len(blocks)):  # by number: Flax sorts them as texts
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
  """The branch of a residual block, left out of items at random.

  With probability `rate` an item's branch is 0, else it is divided by 1 - rate,
  so that its mean stays. Without a key it stays as it is.

  Source: Huang et al., Deep networks with stochastic depth, ECCV 2016, with
  the division in training.
  """
  if key is None or not rate:
    return branch
  shape = (len(branch), *[1] * (branch.ndim - 1))
  kept = jax.random.bernoulli(key, 1 - rate, shape)
  return jnp.where(kept, branch / (1 - rate), 0)


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


class Trunk(nnx.Module):
  """Layers for photographs, a pool, and an embedding head.

  A network makes its layers in `add_layers`, and by them in `maps_of` maps of
  `features` channels, which the pool and the head take.
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
      head: "linear"; "norm_linear", layer normalization before it; or "none",
        whose embeddings are the pooled features themselves.
      dropout: share of the pooled features that are 0 in training.
      stochastic_depth: share of items that skip the last residual block in
        training; of blocks before it fewer do (`depth_rates`).
      frozen_norm: normalizes by the running statistics in training too.
      remat: keeps only what enters a block, and computes the rest of it again
        for the gradient: less memory, more time.
      rngs: of the initial weights.

    Raises:
      InputError: for an unknown pool or head, and with the head "none" for
        another dimension than the number of features.
    """
    check_choice("head", head, HEADS)
    if head == "none" and embedding_dim != self.features:
      raise InputError(
        f"config.model.head='none' embeds by the {self.features} pooled"
        " features as they are: set config.model.embedding_dim="
        f"{self.features}, not {embedding_dim}."
      )
    self.stochastic_depth, self.remat = float(stochastic_depth), remat
    self.add_layers(frozen=frozen_norm, rngs=rngs)
    self.pool, self.dropout = Pool(pool), float(dropout)
    self.head = HEADS[head](self.features, embedding_dim, rngs)

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Makes the layers, in the order in which images pass them."""
    raise NotImplementedError

  def maps_of(
    self, images: Maps, *, train: bool, key: PRNGKeyArray | None
  ) -> Float[Array, "n h2 w2 c2"]:
    """What the pool takes; `key` is None where nothing is drawn."""
    raise NotImplementedError

  def features_of(
    self, images: Maps, *, train: bool, key: PRNGKeyArray | None
  ) -> Float[Array, "n k"]:
    """What the head takes."""
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
        "a network with dropout or stochastic_depth draws in training: call"
        " `apply` with key=."
      )
    features = self.features_of(images, train=train, key=key)
    if key is not None and self.dropout:
      # A stream of its own, beside those of the blocks.
      own = jax.random.fold_in(key, 2**20)
      kept = jax.random.bernoulli(own, 1 - self.dropout, features.shape)
      features = jnp.where(kept, features / (1 - self.dropout), 0)
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
