"""The network of Chopra, Hadsell and LeCun for faces, half a siamese pair."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from metric_learning.errors import InputError
from metric_learning.models.initializers import glorot_normal
from metric_learning.models.layers import Conv

IMAGE_SIZE = (56, 46)


class _Subsample(nnx.Module):
  """tanh(gain * mean of a patch + bias), with one gain and one bias per map."""

  def __init__(self, channels: int, patch: tuple[int, int]):
    self.patch = patch
    self.gain = nnx.Param(jnp.ones(channels))
    self.bias = nnx.Param(jnp.zeros(channels))

  def __call__(self, x: Array) -> Array:
    x = nnx.avg_pool(x, self.patch, self.patch)
    return jnp.tanh(self.gain[...] * x + self.bias[...])


class Chopra2005(nnx.Module):
  """C1 to F6 on 56x46 gray images; embeddings lie in (-1, 1).

    C1  15 maps, 7x7      15 @ 50x40
    S2  2x2 subsampling   15 @ 25x20
    C3  45 maps, 6x6      45 @ 20x15
    S4  4x3 subsampling   45 @ 5x5
    C5  250 maps, 5x5     250 @ 1x1
    F6  dense             embedding_dim (50 in the paper)

  Convolutions have no padding, and tanh follows every layer. The layers are
  those of later descriptions of the paper, and fit 56x46 images exactly. Some
  details are our reading, which we have not checked against the paper: the
  image size, the trained gain and bias of the subsampling, tanh, and tanh on F6
  too, since the loss of 2005 assumes a bounded output.

  Departures: C3 is connected to all maps of S2, where descriptions connect it
  to only some of them. The initialization is Glorot's. Gray values x in [0, 1]
  enter as 4(x - ½). In photographs these have about mean 0 and variance 1,
  which suits tanh.

  Raises:
    InputError: for images of another shape.

  Source: Chopra, Hadsell & LeCun, Learning a similarity metric
  discriminatively, CVPR 2005.
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
    if item_shape != (*IMAGE_SIZE, 1):
      raise InputError(
        f"chopra2005 sees gray images of 56x46, not {item_shape}: set "
        f"image_size={IMAGE_SIZE} and one channel, or choose conv3 or conv4."
      )

    def conv(cin: int, cout: int, size: tuple[int, int]) -> Conv:
      return Conv(
        cin, cout, size, padding="VALID", kernel_init=glorot_normal, rngs=rngs
      )

    self.c1 = conv(1, 15, (7, 7))
    self.s2 = _Subsample(15, (2, 2))
    self.c3 = conv(15, 45, (6, 6))
    self.s4 = _Subsample(45, (4, 3))
    self.c5 = conv(45, 250, (5, 5))
    self.head = nnx.Linear(
      250, embedding_dim, kernel_init=glorot_normal, rngs=rngs
    )

  @staticmethod
  def preprocess(images: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Gray values in [0, 1] on the scale of tanh."""
    return 4 * (images - 0.5)

  def __call__(
    self, images: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the images."""
    return self.feature_maps(images)["f6"]

  def feature_maps(
    self, images: Float[Array, "n h w c"]
  ) -> dict[str, Float[Array, " n *map"]]:
    """The output of each layer, by the name of the layer."""
    c1 = jnp.tanh(self.c1(images))
    s2 = self.s2(c1)
    c3 = jnp.tanh(self.c3(s2))
    s4 = self.s4(c3)
    c5 = jnp.tanh(self.c5(s4))
    f6 = jnp.tanh(self.head(c5.reshape(c5.shape[0], -1)))
    return {"c1": c1, "s2": s2, "c3": c3, "s4": s4, "c5": c5, "f6": f6}
