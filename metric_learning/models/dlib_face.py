"""The face recognition network of dlib, in the form of face-api.js."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from metric_learning.errors import InputError
from metric_learning.intervals import ShareBelowOne
from metric_learning.models.initializers import lecun_normal
from metric_learning.models.layers import Conv, WideConv
from metric_learning.models.trunks import Trunk, in_color, through
from metric_learning.models.weights import Dialect, Layout
from metric_learning.models.weights.scales import Tensors

# The mean of red, green and blue, for values from 0 to 255.
_MEAN = (122.782, 117.001, 104.298)
# Names of the blocks in the file, and their channels; a "down" block halves the
# maps.
_BLOCKS = (
  *((f"conv32_{i}", 32) for i in (1, 2, 3)),
  ("conv64_down", 64),
  *((f"conv64_{i}", 64) for i in (1, 2, 3)),
  ("conv128_down", 128),
  *((f"conv128_{i}", 128) for i in (1, 2)),
  ("conv256_down", 256),
  *((f"conv256_{i}", 256) for i in (1, 2)),
  ("conv256_down_out", 256),
)
_SMALLEST = 71  # is reduced to 33, 16, 8, 4, 2 and 1


def from_face_api(tensors: Tensors) -> Tensors:
  """Translates the names and axes of face-api.js to those of PyTorch."""
  leaves = {
    "filters": "weight",
    "weights": "weight",
    "bias": "bias",
    "biases": "bias",
  }
  parts = {}
  for name, tensor in tensors.items():
    layer, _, leaf = name.rpartition("/")
    if tensor.ndim == 4:
      tensor = tensor.transpose(3, 2, 0, 1)
    elif name == "fc":
      layer, leaf, tensor = "fc", "weights", tensor.T
    parts[f"{layer.replace('/', '.')}.{leaves.get(leaf, leaf)}"] = tensor
  return parts


class _Scale(nnx.Module):
  """A factor and a summand per channel, with the batch statistics built in."""

  def __init__(self, channels: int):
    self.scale = nnx.Param(jnp.ones(channels))
    self.bias = nnx.Param(jnp.zeros(channels))

  def __call__(self, maps: Array) -> Array:
    return maps * self.scale[...] + self.bias[...]


class _ConvScale(nnx.Module):
  """A convolution with a bias, then a scale; without padding at stride 2."""

  def __init__(
    self, cin: int, cout: int, size: int, stride: int, *, rngs: nnx.Rngs
  ):
    kind = Conv if cin == 3 else WideConv
    self.conv = kind(
      cin,
      cout,
      (size, size),
      stride,
      padding="SAME" if stride == 1 else "VALID",
      kernel_init=lecun_normal,
      rngs=rngs,
    )
    self.scale = _Scale(cout)

  def __call__(self, maps: Array) -> Array:
    return self.scale(self.conv(maps))


class _Block(nnx.Module):
  """Two convolutions, added to the maps, or to their 2×2 means if it halves.

  Zeros pad the smaller summand, in size and in channels.
  """

  def __init__(self, cin: int, cout: int, halves: bool, *, rngs: nnx.Rngs):
    self.halves = halves
    self.conv1 = _ConvScale(cin, cout, 3, 2 if halves else 1, rngs=rngs)
    self.conv2 = _ConvScale(cout, cout, 3, 1, rngs=rngs)

  def __call__(
    self, maps: Array, *, train: bool, key: PRNGKeyArray | None = None
  ) -> Array:
    x = self.conv2(nnx.relu(self.conv1(maps)))
    if self.halves:
      maps = nnx.avg_pool(maps, (2, 2), (2, 2))
    shapes = zip(x.shape, maps.shape, strict=True)
    shape = [max(pair) for pair in shapes]
    x, maps = (
      jnp.pad(
        part, [(0, n - m) for n, m in zip(shape, part.shape, strict=True)]
      )
      for part in (x, maps)
    )
    return nnx.relu(x + maps)


class DlibFace(Trunk):
  """dlib's face network: 128 features of RGB faces, then a head.

  Made for aligned faces of 150×150. Two faces of one person have features that
  are nearer than 0.6 under L2. With the head "none", the embeddings are these
  features.
  `config.model.weights` takes face_recognition_model-weights_manifest.json of
  the npm package @vladmandic/face-api, with its .bin file in the same folder.
  That file has 8 bits per number. (dlib reports an LFW accuracy of 99.38 % for
  the original.)

  Raises:
    InputError: for images that have neither one nor three channels, or are
      smaller than 71×71.

  Source: King, dlib_face_recognition_resnet_model_v1, 2017; face-api.js.
  """

  features = 128
  layout = Layout(
    {
      r"stem\.(conv|scale)": r"conv32_down.\1",
      **{
        rf"blocks\.block{i}\.(conv[12])\.(conv|scale)": rf"{name}.\1.\2"
        for i, (name, _) in enumerate(_BLOCKS)
      },
      r"fc": "fc",
    },
    dialects=(Dialect("conv32_down/conv/filters", from_face_api),),
  )

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    head: str = "linear",
    dropout: ShareBelowOne = 0.0,
    remat: bool = False,
    rngs: nnx.Rngs,
  ):
    """The options are fields of a config, as in `Trunk`."""
    if min(item_shape[:2]) < _SMALLEST:
      raise InputError(
        "dlib_face is made for faces of 150×150 and needs at least"
        f" {_SMALLEST}×{_SMALLEST}, not {item_shape[0]}×{item_shape[1]}: set"
        " config.data.image_size=(150, 150)."
      )
    super().__init__(
      item_shape,
      embedding_dim,
      head=head,
      dropout=dropout,
      remat=remat,
      rngs=rngs,
    )

  def add_layers(self, *, frozen: bool, rngs: nnx.Rngs) -> None:
    """Creates the stem, the blocks, and the dense layer of the features."""
    self.stem = _ConvScale(3, 32, 7, 2, rngs=rngs)
    cin, blocks = 32, {}
    for i, (name, cout) in enumerate(_BLOCKS):
      blocks[f"block{i}"] = _Block(cin, cout, "down" in name, rngs=rngs)
      cin = cout
    self.blocks = nnx.Dict(blocks)
    self.fc = nnx.Linear(
      cin, self.features, use_bias=False, kernel_init=lecun_normal, rngs=rngs
    )

  @staticmethod
  def preprocess(
    images: Float[Array, "n h w c"],
  ) -> Float[Array, "n h w rgb"]:
    """(v - mean) / 255 of values v from 0 to 255."""
    return in_color(images) - jnp.array(_MEAN) / 255

  def features_of(
    self,
    images: Float[Array, "n h w rgb"],
    *,
    train: bool,
    key: PRNGKeyArray | None,
  ) -> Float[Array, "n c"]:
    """The input of the head."""
    x = nnx.max_pool(nnx.relu(self.stem(images)), (3, 3), (2, 2))
    x = through(self.blocks, x, train=train, remat=self.remat)
    return self.fc(self.pool(x))
