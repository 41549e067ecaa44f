"""Value and gradient of a batch that passes through the network in chunks.

The loss always sees all embeddings at once, so that value and gradient do not
depend on the number of chunks. Networks that mix the items of a batch, as batch
normalization does, are refused in chunks. With random layers (dropout), a batch
in chunks draws other random numbers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from metric_learning.errors import InputError

Gradient = tuple[tuple[Array, tuple[Any, Any]], Any]


def in_one(
  embed: Callable[..., Any],
  loss: Callable[..., Any],
  params: Any,
  inputs: Shaped[Array, " n *item"],
  key: Array,
) -> Gradient:
  """((value, (stats, aux)), gradient) of the whole batch at once.

  Args:
    embed: (params, inputs, key) → (embeddings, stats).
    loss: (params, embeddings) → (value, aux).
    params: the parameters of network and loss.
    inputs: the inputs of the batch.
    key: the random key of the network.
  """

  def loss_of(params: Any) -> tuple[Array, tuple[Any, Any]]:
    embeddings, stats = embed(params, inputs, key)
    value, aux = loss(params, embeddings)
    return value, (stats, aux)

  return jax.value_and_grad(loss_of, has_aux=True)(params)


def in_chunks(
  chunks: int,
  embed: Callable[..., Any],
  loss: Callable[..., Any],
  params: Any,
  inputs: Shaped[Array, " n *item"],
  key: Array,
) -> Gradient:
  """Like `in_one`, holding the activations of one chunk at a time.

  A first pass embeds all chunks; the loss gives the gradient with respect to
  the embeddings; a second pass propagates it to the parameters, chunk by chunk.
  A batch must not change the stats of the network; the returned stats are None.

  Source: the gradient cache of Gao et al. 2021 (arXiv 2101.06983), section 3.

  Raises: InputError: if the chunks would differ in size.
  """
  n = inputs.shape[0]
  check_chunks(chunks, n)
  # A chunk takes every k-th item, not k neighbors: devices that share the batch
  # then also share each chunk.
  parts = inputs.reshape(n // chunks, chunks, *inputs.shape[1:]).swapaxes(0, 1)
  keys = jax.random.split(key, chunks)

  def embedded(carry: Any, part: Any) -> tuple[Any, Array]:
    return carry, embed(params, *part)[0]

  def pulled(sums: Any, part: Any) -> tuple[Any, None]:
    inputs, key, slopes = part
    _, pull = jax.vjp(lambda params: embed(params, inputs, key)[0], params)
    return jax.tree.map(jnp.add, sums, pull(slopes)[0]), None

  _, embedded_parts = jax.lax.scan(embedded, (), (parts, keys))
  embeddings = embedded_parts.swapaxes(0, 1).reshape(
    n, *embedded_parts.shape[2:]
  )
  (value, aux), (gradient, slopes) = jax.value_and_grad(
    loss, argnums=(0, 1), has_aux=True
  )(params, embeddings)
  slopes = slopes.reshape(n // chunks, chunks, -1).swapaxes(0, 1)
  gradient, _ = jax.lax.scan(pulled, gradient, (parts, keys, slopes))
  return (value, (None, aux)), gradient


def check_chunks(chunks: int, n: int) -> None:
  """Raises `InputError` if `chunks` does not divide n items evenly."""
  if n % chunks:
    raise InputError(
      f"config.train.chunks={chunks} does not divide a batch of {n} items: take"
      " a divisor of it."
    )
