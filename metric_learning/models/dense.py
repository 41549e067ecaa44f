"""Dense networks, on features or on flattened pixels."""

import math
from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Float

from metric_learning.errors import InputError
from metric_learning.models.initializers import lecun_normal


class Identity(nnx.Module):
  """The unchanged features, for example under a learned metric."""

  sees = ("features",)

  def __init__(
    self, item_shape: tuple[int, ...], embedding_dim: int, *, rngs: nnx.Rngs
  ):
    """It has no options and no parameters.

    Raises `InputError` if embedding_dim is not the number of features.
    """
    del rngs  # nothing is drawn
    if (embedding_dim,) != item_shape:
      raise InputError(
        f"identity returns the {item_shape[0]} features unchanged: set"
        f" config.model.embedding_dim={item_shape[0]}, not {embedding_dim}."
      )

  def __call__(
    self, inputs: Float[Array, "n d"], *, train: bool
  ) -> Float[Array, "n d"]:
    """The items."""
    return inputs


class Linear(nnx.Module):
  """One dense layer: the embedding head alone."""

  sees = ("image", "features")

  def __init__(
    self, item_shape: tuple[int, ...], embedding_dim: int, *, rngs: nnx.Rngs
  ):
    """It has no options."""
    self.head = nnx.Linear(
      math.prod(item_shape), embedding_dim, kernel_init=lecun_normal, rngs=rngs
    )

  def __call__(
    self, inputs: Float[Array, " n *item"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the items."""
    return self.head(inputs.reshape(inputs.shape[0], -1))


class MLP(nnx.Module):
  """Dense layers with ReLU, then a dense embedding head."""

  sees = ("image", "features")

  def __init__(
    self,
    item_shape: tuple[int, ...],
    embedding_dim: int,
    *,
    hidden: Sequence[int] = (256, 256),
    rngs: nnx.Rngs,
  ):
    """`hidden` holds the widths of the layers before the head."""
    sizes = [math.prod(item_shape), *hidden, embedding_dim]
    dense = lambda i: nnx.Linear(
      sizes[i], sizes[i + 1], kernel_init=lecun_normal, rngs=rngs
    )
    # By name, since integers as keys do not survive a checkpoint.
    self.hidden = nnx.Dict(
      {f"dense{i + 1}": dense(i) for i in range(len(hidden))}
    )
    self.head = dense(len(hidden))

  def __call__(
    self, inputs: Float[Array, " n *item"], *, train: bool
  ) -> Float[Array, "n k"]:
    """Embeds the items."""
    x = inputs.reshape(inputs.shape[0], -1)
    for i in range(len(self.hidden)):  # by number: Flax sorts names as strings
      x = nnx.relu(self.hidden[f"dense{i + 1}"](x))
    return self.head(x)
