"""SqueezeNet: a small trunk without normalization."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import ShareBelowOne
from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import Conv, WideConv
from metric_learning.models.trunks import Trunk, standardized, through
from metric_learning.models.weights import SCALES, Dialect, Layout
from metric_learning.models.weights.scales import Tensors

# For each block: its inner channels, the channels of each of the two halves of
# its output, and its number among torchvision's layers. Before each row, the
# maps are halved.
_FIRES = (
  ((16, 64, 3), (16, 64, 4)),
  ((32, 128, 6), (32, 128, 7)),
  ((48, 192, 9), (48, 192, 10), (64, 256, 11), (64, 256, 12)),
)
_LAYERS = tuple(number for row in _FIRES for _, _, number in row)
_LEAVES = {"0": "weight", "1": "bias"}
_SMALLEST = 17  # is halved to 8, 4, 2 and 1


def from_caffe(tensors: Tensors) -> Tensors:
  """Translates Caffe's names (conv1, fire2 to fire9) and axes (HWIO)."""
  parts = {}
  for name, tensor in tensors.items():
    layer, _, leaf = name.rpartition(".")
    block, _, part = layer.partition("/")
    if layer == "conv1":
      layer = "features.0"
    elif block in [f"fire{i + 2}" for i in range(len(_LAYERS))]:
      part = part.replace("squeeze1x1", "squeeze")
      layer = f"features.{_LAYERS[int(block[-1]) - 2]}.{part}"
    if leaf == "0" and tensor.ndim == 4:
      tensor = tensor.transpose(3, 2, 0, 1)
    parts[f"{layer}.{_LEAVES.get(leaf, leaf)}"] = tensor
  return parts


def _conv(cin: int, cout: int, size: int, rngs: nnx.Rngs) -> WideConv:
  return WideConv(cin, cout, (size, size), kernel_init=lecun_normal, rngs=rngs)


def _halved(maps: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
  """A 3×3 max pool of stride 2; the last patch may reach beyond the edge."""
  padding = [(0, 1 - side % 2) for side in maps.shape[1:3]]
  return nnx.max_pool(maps, (3, 3), (2, 2), padding=padding)


class _Fire(nnx.Module):
  """1×1 to fewer channels, then 1×1 and 3×3 side by side to more channels."""

  def __init__(self, cin: int, within: int, half: int, *, rngs: nnx.Rngs):
    self.squeeze = _conv(cin, within, 1, rngs)
    self.expand1x1 = _conv(within, half, 1, rngs)
    self.expand3x3 = _conv(within, half, 3, rngs)

  def __call__(
    self, maps: Array, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Array:
    narrow = nnx.relu(self.squeeze(maps))
    wide = [self.expand1x1(narrow), self.expand3x3(narrow)]
    return nnx.relu(jnp.concatenate(wide, axis=-1))


class SqueezeNet(Trunk):
  """SqueezeNet 1.1: 512 features of RGB images, then a head.

  Made for 224×224; any size from 17×17 works. `config.model.weights` takes
  torchvision's file, or squeezenet_weights.pkl of the package ndf, which holds
  Caffe's weights.

  Raises:
    InputError: for images that have neither one nor three channels, or are
      smaller than 17×17.

  Source: Iandola et al., SqueezeNet, 2016.
  """

  features = 512
  layout = Layout(
    {
      r"stem": "features.0",
      **{
        rf"fires{row}\.block{i}\.(\w+)": rf"features.{number}.\1"
        for row, fires in enumerate(_FIRES)
        for i, (_, _, number) in enumerate(fires)
      },
    },
    left_over=(r"classifier\.1\.(weight|bias)", r"conv10\.(weight|bias)"),
    dialects=(Dialect(r"fire2/squeeze1x1\.0", from_caffe, "caffe"),),
    first="features.0",
  )

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    pool: str = "avg",
    head: str = "linear",
    inputs: str | None = None,
    dropout: ShareBelowOne = 0.0,
    remat: bool = False,
    rngs: nnx.Rngs,
  ):
    """The options are fields of a config.

    Args:
      item_shape: (height, width, channels) of an image.
      embedding_dim: length of an embedding.
      pool: as in `Trunk`.
      head: as in `Trunk`.
      inputs: the scale of the images on which the network of a weights file was
        trained, a name in `weights.SCALES`; None for the usual one of the file.
      dropout: as in `Trunk`.
      remat: as in `Trunk`.
      rngs: for the initial weights.
    """
    if inputs is not None:
      check_choice("inputs", inputs, SCALES)
    if min(item_shape[:2]) < _SMALLEST:
      raise InputError(
        f"squeezenet halves images four times, and {item_shape[0]}×"
        f"{item_shape[1]} is too small: set config.data.image_size to"
        f" ({_SMALLEST}, {_SMALLEST}) or more."
      )
    super().__init__(
      item_shape,
      embedding_dim,
      pool=pool,
      head=head,
      dropout=dropout,
      remat=remat,
      rngs=rngs,
    )

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the stem and three rows of blocks."""
    self.stem = Conv(
      3, 64, (3, 3), 2, padding="VALID", kernel_init=lecun_normal, rngs=rngs
    )
    cin, rows = 64, []
    for fires in _FIRES:
      blocks = {}
      for i, (within, half, _) in enumerate(fires):
        blocks[f"block{i}"] = _Fire(cin, within, half, rngs=rngs)
        cin = 2 * half
      rows.append(nnx.Dict(blocks))
    self.fires0, self.fires1, self.fires2 = rows

  preprocess = staticmethod(standardized)

  def maps_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Float[Array, "n h2 w2 c"]:
    """The input of the pool."""
    x = nnx.relu(self.stem(images))
    for fires in (self.fires0, self.fires1, self.fires2):
      x = through(fires, _halved(x), train=train, remat=self.remat)
    return x
