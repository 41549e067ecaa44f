"""Networks that compile in a second: one normalizes batches, one is a trunk."""

import jax.numpy as jnp
from flax import nnx

from metric_learning.models import layers, trunks
from metric_learning.models.layers import BatchNorm
from metric_learning.models.weights import Layout


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


class TinyTrunk(trunks.Trunk):
  """One convolution, with weights files in the table."""

  features = 4
  layout = Layout({r"stem\.conv": "conv", r"stem\.norm": "bn"})
  preprocess = staticmethod(trunks.in_color)

  def add_layers(self, *, frozen, rngs):
    conv = layers.WideConv(3, 4, (2, 2), use_bias=False, rngs=rngs)
    self.stem = trunks.ConvNorm(conv, epsilon=1e-3, frozen=frozen, rngs=rngs)

  def maps_of(self, images, *, train, key):
    return nnx.relu(self.stem(images, train=train))
