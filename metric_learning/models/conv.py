"""Small convolutional networks for small images."""

import math

from flax import nnx
from jaxtyping import Array, Float

from metric_learning.errors import InputError, check_choice
from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import BatchNorm, Conv, WideConv, max_pool


class Conv3(nnx.Module):
  """Three 3x3 convolutions of stride 2 with ReLU, then a dense head.

  16, 32 and 64 channels; 60,224 parameters at 24x24x1 with 64 dimensions.
  """

  sees = ("image",)

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    rngs: nnx.Rngs,
  ):
    """It has no options."""
    height, width, channels = item_shape
    conv = lambda cin, cout: Conv(
      cin, cout, (3, 3), 2, kernel_init=lecun_normal, rngs=rngs
    )
    self.conv1 = conv(channels, 16)
    self.conv2 = conv(16, 32)
    self.conv3 = conv(32, 64)
    # Padding "SAME" rounds up at each of the three halvings.
    features = math.ceil(height / 8) * math.ceil(width / 8) * 64
    self.head = nnx.Linear(
      features, embedding_dim, kernel_init=lecun_normal, rngs=rngs
    )

  def __call__(
    self, images: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the images."""
    x = nnx.relu(self.conv1(images))
    x = nnx.relu(self.conv2(x))
    x = nnx.relu(self.conv3(x))
    return self.head(x.reshape(x.shape[0], -1))


class _Block(nnx.Module):
  """3x3 convolution to 64 channels, normalization, ReLU, 2x2 max pool."""

  def __init__(self, channels: int, normalization: str, *, rngs: nnx.Rngs):
    self.conv = WideConv(
      channels, 64, (3, 3), kernel_init=lecun_normal, rngs=rngs
    )
    self.norm = NORMALIZATIONS[normalization](rngs)

  def __call__(self, x: Array, *, train: bool) -> Array:
    x = self.conv(x)
    if isinstance(self.norm, BatchNorm):
      x = self.norm(x, use_running_average=not train)
    elif self.norm is not None:
      x = self.norm(x)
    return max_pool(nnx.relu(x))


NORMALIZATIONS = {
  "group": lambda rngs: nnx.GroupNorm(64, num_groups=8, rngs=rngs),
  "batch": lambda rngs: BatchNorm(64, momentum=0.9, rngs=rngs),
  "none": lambda rngs: None,
}


class Conv4(nnx.Module):
  """The backbone of few-shot learning: four blocks, then a dense head.

  Each block is a 3x3 convolution to 64 channels, normalization, ReLU and a
  2x2 max pool. Batch normalization over class-balanced batches leaks
  information between images: in training, but not later, the embedding of an
  image depends on the classes in its batch. Therefore group normalization
  (8 groups) is the default.

  Raises:
    InputError: for images too small to halve four times, or an unknown
      normalization.

  Source: Vinyals et al., Matching Networks, NeurIPS 2016, and Snell et al.,
  Prototypical Networks, NeurIPS 2017. Departures: group normalization, and
  the head.
  """

  sees = ("image",)

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    normalization: str = "group",
    rngs: nnx.Rngs,
  ):
    """`normalization` is a name in `NORMALIZATIONS`."""
    check_choice("normalization", normalization, NORMALIZATIONS)
    height, width, channels = item_shape
    if min(height, width) < 16:
      raise InputError(
        f"conv4 halves an image four times: image_size=({height}, {width}) is "
        "too small, the smallest side is 16."
      )
    self.block1 = _Block(channels, normalization, rngs=rngs)
    self.block2 = _Block(64, normalization, rngs=rngs)
    self.block3 = _Block(64, normalization, rngs=rngs)
    self.block4 = _Block(64, normalization, rngs=rngs)
    features = (height // 16) * (width // 16) * 64
    self.head = nnx.Linear(
      features, embedding_dim, kernel_init=lecun_normal, rngs=rngs
    )

  def __call__(
    self, images: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the images; `train` affects batch normalization alone."""
    x = images
    for block in (self.block1, self.block2, self.block3, self.block4):
      x = block(x, train=train)
    return self.head(x.reshape(x.shape[0], -1))
