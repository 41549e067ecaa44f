"""Vision transformers: patches of an image are tokens that attend to others."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import ShareBelowOne
from metric_learning.models.initializers import lecun_normal
from metric_learning.models.trunks import (
  POOLS,
  Trunk,
  depth_rates,
  dropped,
  standardized,
  through,
)
from metric_learning.models.vit_files import LAYOUT
from metric_learning.models.weights import SCALES

_EPSILON = 1e-6
_TOKEN = "token"

Tokens = Float[Array, "n t d"]


def _linear(cin: int, cout: int, rngs: nnx.Rngs) -> nnx.Linear:
  return nnx.Linear(cin, cout, kernel_init=lecun_normal, rngs=rngs)


class _Patches(nnx.Conv):
  """A convolution of patches that do not overlap: one matrix product."""

  def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
    n, height, width, channels = inputs.shape
    size = self.kernel_size[0]
    rows, columns = height // size, width // size
    x = inputs.reshape(n, rows, size, columns, size, channels)
    x = x.swapaxes(2, 3).reshape(n, rows, columns, -1)
    return (
      x @ self.kernel[...].reshape(x.shape[-1], -1) + cast(Any, self.bias)[...]
    )


class _Stem(nnx.Module):
  """Turns patches into tokens with positions, after the class token."""

  def __init__(
    self,
    rows: int,
    columns: int,
    patch: int,
    dim: int,
    class_token: bool,
    *,
    rngs: nnx.Rngs,
  ):
    self.conv = _Patches(
      3, dim, (patch, patch), patch, kernel_init=lecun_normal, rngs=rngs
    )
    draw = lambda *shape: nnx.Param(
      0.02 * jax.random.normal(rngs.params(), shape)
    )
    self.positions = draw(rows, columns, dim)
    self.class_token = draw(dim) if class_token else None

  def __call__(self, images: Array) -> Array:
    maps = self.conv(images) + self.positions[...]
    tokens = maps.reshape(len(maps), -1, maps.shape[-1])
    if self.class_token is None:
      return tokens
    first = jnp.broadcast_to(
      self.class_token[...], (len(maps), 1, maps.shape[-1])
    )
    return jnp.concatenate([first, tokens], axis=1)


class _Attention(nnx.Module):
  """Self-attention with several heads."""

  def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
    self.heads = heads
    self.qkv = _linear(dim, 3 * dim, rngs)
    self.proj = _linear(dim, dim, rngs)

  def __call__(self, tokens: Array) -> Array:
    n, count, dim = tokens.shape
    parts = self.qkv(tokens).reshape(n, count, 3, self.heads, -1)
    query, key, value = (parts[:, :, i] for i in range(3))
    attended = jax.nn.dot_product_attention(query, key, value)
    return self.proj(attended.reshape(n, count, dim))


class _Block(nnx.Module):
  """Attention, then two dense layers for each token; both are residual."""

  def __init__(self, dim: int, heads: int, rate: float, *, rngs: nnx.Rngs):
    self.norm1 = nnx.LayerNorm(dim, epsilon=_EPSILON, rngs=rngs)
    self.attention = _Attention(dim, heads, rngs=rngs)
    self.norm2 = nnx.LayerNorm(dim, epsilon=_EPSILON, rngs=rngs)
    self.fc1 = _linear(dim, 4 * dim, rngs)
    self.fc2 = _linear(4 * dim, dim, rngs)
    self.rate = rate

  def __call__(
    self, x: Array, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Array:
    keys = (None, None) if key is None else jax.random.split(key)
    x = x + dropped(self.attention(self.norm1(x)), self.rate, keys[0])
    wide = nnx.gelu(self.fc1(self.norm2(x)), approximate=False)
    return x + dropped(self.fc2(wide), self.rate, keys[1])


class ViT(Trunk):
  """A vision transformer that normalizes the input of each layer.

  Weights: it takes files of DINO, DeiT and timm, of big_vision and
  vision_transformer (.npz), and of Hugging Face. Positions for another image
  size are interpolated (bicubic).

  Departure: the class token and its position are one parameter, since only
  their sum matters. GELU is exact, as in timm; big_vision approximates it.
  """

  layout = LAYOUT
  patch = 16
  depth: int
  heads: int

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    pool: str = _TOKEN,
    head: str = "linear",
    class_token: bool = True,
    inputs: str | None = None,
    dropout: ShareBelowOne = 0.0,
    stochastic_depth: ShareBelowOne = 0.0,
    remat: bool = False,
    rngs: nnx.Rngs,
  ):
    """The options are fields of a config.

    Args:
      item_shape: (height, width, channels) of an image.
      embedding_dim: length of an embedding.
      pool: "token", which takes the class token; or a name in `trunks.POOLS`,
        which pools the patches alone.
      head: as in `Trunk`.
      class_token: whether to add a class token.
      inputs: the scale of the images on which the network of a weights file was
        trained: "imagenet" (DINO, DeiT) or "half" (big_vision, and the AugReg
        files of timm); None for the usual one of the file.
      dropout: as in `Trunk`.
      stochastic_depth: as in `Trunk`.
      remat: as in `Trunk`.
      rngs: for the initial weights.

    Raises:
      InputError: for an image that is not made of whole patches, and for
        pool="token" without a class token.
    """
    check_choice("pool", pool, (_TOKEN, *POOLS))
    if inputs is not None:
      check_choice("inputs", inputs, SCALES)
    if pool == _TOKEN and not class_token:
      raise InputError(
        "config.model.pool='token' needs config.model.class_token=True: choose"
        f" one of {', '.join(POOLS)} for the patches."
      )
    self.grid = _grid(item_shape, self.patch)
    self.by_token, self.class_token = pool == _TOKEN, class_token
    super().__init__(
      item_shape,
      embedding_dim,
      pool="avg" if self.by_token else pool,
      head=head,
      dropout=dropout,
      stochastic_depth=stochastic_depth,
      remat=remat,
      rngs=rngs,
    )

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the stem, the blocks, and the last normalization."""
    dim = self.features
    self.stem = _Stem(*self.grid, self.patch, dim, self.class_token, rngs=rngs)
    rates = depth_rates(self.stochastic_depth, self.depth)
    self.blocks = nnx.Dict(
      {
        f"block{i}": _Block(dim, self.heads, rate, rngs=rngs)
        for i, rate in enumerate(rates)
      }
    )
    self.norm = nnx.LayerNorm(dim, epsilon=_EPSILON, rngs=rngs)

  preprocess = staticmethod(standardized)

  def tokens_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Tokens:
    """The class token, if there is one, then those of patches, row by row."""
    x = self.stem(images)
    x = through(self.blocks, x, train=train, remat=self.remat, key=key)
    return self.norm(x)

  def features_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Float[Array, "n d"]:
    """The input of the head."""
    tokens = self.tokens_of(images, train=train, key=key)
    if self.by_token:
      return tokens[:, 0]
    patches = tokens[:, int(self.class_token) :]
    return self.pool(patches.reshape(len(patches), *self.grid, -1))


def _grid(item_shape: tuple[int, ...], patch: int) -> tuple[int, int]:
  """The number of patches in a column and in a row.

  Raises:
    InputError: if the image does not divide into whole patches.
  """
  height, width = item_shape[:2]
  if height % patch or width % patch:
    near = tuple(
      max(1, round(side / patch)) * patch for side in (height, width)
    )
    raise InputError(
      f"this network cuts images into patches of {patch}×{patch}, and"
      f" {height}×{width} is not a multiple of that: set"
      f" config.data.image_size={near}."
    )
  return height // patch, width // patch


class ViTS16(ViT):
  """ViT-S/16: 384 features of RGB images, then a head.

  Made for 224×224; sides must be multiples of 16.

  Raises:
    InputError: for images that have neither one nor three channels, or other
      sides.

  Source: Dosovitskiy et al., An image is worth 16×16 words, ICLR 2021; the size
  is that of Touvron et al., ICML 2021.
  """

  features, depth, heads = 384, 12, 6


class ViTB16(ViT):
  """ViT-B/16: 768 features of RGB images, then a head.

  Made for 224×224; sides must be multiples of 16.

  Raises:
    InputError: for images that have neither one nor three channels, or other
      sides.

  Source: Dosovitskiy et al., An image is worth 16×16 words, ICLR 2021.
  """

  features, depth, heads = 768, 12, 12
