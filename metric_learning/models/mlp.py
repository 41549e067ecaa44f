"""A multilayer perceptron on pixels."""

from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float

from metric_learning.models.initializers import lecun_normal


class MLP(nnx.Module):
  """Flattened pixels, dense layers with ReLU, a dense embedding head."""

  def __init__(
    self,
    image_shape: tuple[int, int, int],
    embedding_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    rngs: nnx.Rngs,
  ):
    """`hidden` holds the widths of the layers before the head."""
    height, width, channels = image_shape
    sizes = [height * width * channels, *hidden, embedding_dim]
    dense = lambda i: nnx.Linear(
      sizes[i], sizes[i + 1], kernel_init=lecun_normal, rngs=rngs
    )
    # By name, since whole numbers as keys do not survive a checkpoint.
    self.hidden = nnx.Dict(
      {f"dense{i + 1}": dense(i) for i in range(len(hidden))}
    )
    self.head = dense(len(hidden))

  def __call__(
    self, images: Float[Array, "n h w c"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the images."""
    x = images.reshape(len(images), -1)
    for layer in self.hidden.values():
      x = nnx.relu(layer(x))
    return self.head(x)
