"""From the number of a step to its batch on the device.

Two feeds: of a set that lies on the device, steps are told indices, and the
batch is gathered inside the compiled step; what does not fit there is read
ahead of the steps. In both a batch is a pure function of (seed, step).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning import data
from metric_learning.data.samplers import Draw
from metric_learning.data.stream import read_ahead

AnyArray = Array | np.ndarray


class Batch(NamedTuple):
  """What one step sees; a tree of arrays.

  inputs: as they are stored.
  affinity: similarities in place of labels, NaN where two are no pair.
  where: False for items that only pad; None if none does.
  """

  inputs: Shaped[AnyArray, "n *item"]
  labels: Int[AnyArray, " n"]
  affinity: Float[AnyArray, "n n"] | None = None
  where: Bool[AnyArray, " n"] | None = None


class Feed(NamedTuple):
  """The batches of all steps, each as `gather(shared, own)`.

  shared: what all steps see: arrays on the device.
  own: for each step, what it alone sees.
  gather: makes the batch of both; it is called inside the compiled step.
  """

  shared: Any
  own: Iterator[Any]
  gather: Callable[[Any, Any], Batch]


def resident(
  part: data.Dataset,
  draws: Callable[[int], Draw],
  steps: range,
  views: int = 1,
  put: Callable[[np.ndarray], Array] = jnp.asarray,
) -> Feed:
  """The feed of a part that lies on the device, where `put` brings it."""

  def own() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for step in steps:
      indices, affinity = draws(step)
      yield np.tile(indices, views), affinity

  shared = put(np.asarray(part.inputs)), put(_labels(part, views))
  return Feed(shared, own(), gather_resident)


def gather_resident(shared: Any, own: Any) -> Batch:
  """The batch at some indices of arrays on the device."""
  (inputs, labels), (indices, affinity) = shared, own
  return Batch(inputs[indices], labels[indices], affinity)


def streamed(
  part: data.Dataset,
  draws: Callable[[int], Draw],
  steps: range,
  views: int = 1,
) -> Feed:
  """The feed of a part that stays on the host or on disk, and is read ahead."""
  labels = _labels(part, views)

  def read(step: int) -> Batch:
    indices, affinity = draws(step)
    inputs = np.asarray(part.inputs[indices])
    every = [1] * (inputs.ndim - 1)
    return Batch(
      np.tile(inputs, (views, *every)),
      np.tile(labels[indices], views),
      affinity,
    )

  return Feed((), read_ahead(read, steps), gather_streamed)


def gather_streamed(shared: Any, own: Batch) -> Batch:
  """The batch, which is read as a whole."""
  return own


def _labels(part: data.Dataset, views: int) -> np.ndarray:
  """Classes; or, where an item has several views, each item is its own."""
  if views > 1:
    return np.arange(len(part.labels), dtype=np.int32)
  return part.labels
