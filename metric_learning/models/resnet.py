"""Residual networks, as in torchvision."""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import Conv, WideConv
from metric_learning.models.trunks import (
  ConvNorm,
  Trunk,
  depth_rates,
  dropped,
  standardized,
  through,
)
from metric_learning.models.weights import Layout

_EPSILON = 1e-5


def _conv(
  cin: int,
  cout: int,
  size: int,
  stride: int = 1,
  *,
  frozen: bool,
  rngs: nnx.Rngs,
) -> ConvNorm:
  """A convolution that pads all sides by half the kernel, as torch does.

  "SAME" pads unevenly at stride 2.
  """
  kind = Conv if cin == 3 else WideConv
  conv = kind(
    cin,
    cout,
    (size, size),
    stride,
    padding="VALID",
    use_bias=False,
    kernel_init=lecun_normal,
    rngs=rngs,
  )
  return ConvNorm(
    conv, pad=size // 2, epsilon=_EPSILON, frozen=frozen, rngs=rngs
  )


class _Block(nnx.Module):
  """Convolutions with ReLU between them, added to the maps or a shortcut.

  There are two of 3×3; or, in a bottleneck, 1×1, 3×3, and 1×1 to four times the
  channels. The first 3×3 has the stride.
  """

  def __init__(
    self,
    cin: int,
    width: int,
    stride: int,
    bottleneck: bool,
    rate: float,
    **more: Any,
  ):
    # The sizes, strides and channels of its convolutions.
    parts = [(3, stride, width), (3, 1, width)]
    if bottleneck:
      parts = [(1, 1, width), (3, stride, width), (1, 1, 4 * width)]
    convolutions, wide = {}, cin
    for i, (size, by, cout) in enumerate(parts):
      convolutions[f"part{i + 1}"] = _conv(wide, cout, size, by, **more)
      wide = cout
    self.parts = nnx.Dict(convolutions)
    fits = stride == 1 and cin == wide
    self.shortcut = None if fits else _conv(cin, wide, 1, stride, **more)
    self.rate = rate

  def __call__(
    self, maps: Array, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Array:
    *first, last = self.parts.values()
    x = maps
    for part in first:
      x = nnx.relu(part(x, train=train))
    x = last(x, train=train)
    if self.shortcut is not None:
      maps = self.shortcut(maps, train=train)
    return nnx.relu(dropped(x, self.rate, key) + maps)


_WITHIN = r"layer(\d)\.block(\d+)\."


class ResNet(Trunk):
  """A stem, four groups of residual blocks, a pool, and a head.

  Weights: it takes files of torchvision, and files with the same names, such as
  those of timm.
  """

  layout = Layout(
    {
      r"stem\.conv": "conv1",
      r"stem\.norm": "bn1",
      _WITHIN + r"parts\.part(\d)\.conv": r"layer\1.\2.conv\3",
      _WITHIN + r"parts\.part(\d)\.norm": r"layer\1.\2.bn\3",
      _WITHIN + r"shortcut\.conv": r"layer\1.\2.downsample.0",
      _WITHIN + r"shortcut\.norm": r"layer\1.\2.downsample.1",
    },
    left_over=(r"fc\.(weight|bias)", r".*\.num_batches_tracked"),
  )
  # Each subclass sets these.
  repeats: tuple[int, ...]
  bottleneck: bool

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the stem and the groups of blocks."""
    more: dict[str, Any] = {"frozen": frozen, "rngs": rngs}
    self.stem = _conv(3, 64, 7, 2, **more)
    cin, groups = 64, []
    rates = iter(depth_rates(self.stochastic_depth, sum(self.repeats)))
    for group, repeats in enumerate(self.repeats):
      width, blocks = 64 * 2**group, {}
      for i in range(repeats):
        stride = 2 if group and not i else 1
        blocks[f"block{i}"] = _Block(
          cin, width, stride, self.bottleneck, next(rates), **more
        )
        cin = 4 * width if self.bottleneck else width
      groups.append(nnx.Dict(blocks))
    self.layer1, self.layer2, self.layer3, self.layer4 = groups

  preprocess = staticmethod(standardized)

  def maps_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Float[Array, "n h2 w2 c"]:
    """The input of the pool."""
    x = nnx.relu(self.stem(images, train=train))
    x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    groups = (self.layer1, self.layer2, self.layer3, self.layer4)
    for i, group in enumerate(groups):
      group_key = None if key is None else jax.random.fold_in(key, i)
      x = through(group, x, train=train, remat=self.remat, key=group_key)
    return x


class ResNet18(ResNet):
  """ResNet-18: 512 features of RGB images, then a head.

  Made for 224×224; any size works.

  Raises:
    InputError: for images that have neither one nor three channels.

  Source: He et al., Deep residual learning for image recognition, CVPR 2016.
  """

  features, repeats, bottleneck = 512, (2, 2, 2, 2), False


class ResNet50(ResNet):
  """ResNet-50: 2048 features of RGB images, then a head.

  The 3×3 convolution of a block has the stride, as in torchvision ("v1.5").

  Raises:
    InputError: for images that have neither one nor three channels.

  Source: He et al., Deep residual learning for image recognition, CVPR 2016.
  """

  features, repeats, bottleneck = 2048, (3, 4, 6, 3), True
