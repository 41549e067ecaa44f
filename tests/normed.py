"""A network with batch normalization that compiles in a second."""

import jax.numpy as jnp
from flax import nnx

from metric_learning.models.layers import BatchNorm


class Normed(nnx.Module):
  """One hidden layer, normalized over the batch."""

  sees = ("image", "features")

  def __init__(self, item_shape, embedding_dim, *, rngs):
    size = 1
    for side in item_shape:
      size *= side
    # Biases would have gradient 0, before a normalization and under a distance:
    # Adam divides their rounding by itself, and they walk at random.
    self.first = nnx.Linear(size, 16, use_bias=False, rngs=rngs)
    self.norm = BatchNorm(16, rngs=rngs)
    self.head = nnx.Linear(16, embedding_dim, use_bias=False, rngs=rngs)

  def __call__(self, inputs, *, train):
    hidden = self.first(inputs.reshape(len(inputs), -1))
    hidden = self.norm(hidden, use_running_average=not train)
    return self.head(jnp.tanh(hidden))
