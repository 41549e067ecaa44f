"""Feeds turn the number of a step into its batch on the device.

There are two feeds. If the set is on the device, steps receive indices, and the
batch is gathered inside the compiled step. A larger set is read ahead of the
steps. In both, a batch is a pure function of (seed, step).
"""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning import data, devices
from metric_learning.data import crops
from metric_learning.data.samplers import Draw
from metric_learning.data.stream import ImageFiles, read_ahead
from metric_learning.errors import InputError

AnyArray = Array | np.ndarray


class Batch(NamedTuple):
  """The input of a step; a tree of arrays.

  inputs: the inputs as they are stored.
  labels: labels of the kind that the relation compares.
  affinity: similarities instead of labels, NaN for pairs that are not compared.
  where: False for padding; None if there is none.
  """

  inputs: Shaped[AnyArray, " n *item"]
  labels: Int[AnyArray, " n *k"]
  affinity: Float[AnyArray, "n n"] | None = None
  where: Bool[AnyArray, " n"] | None = None


class Feed(NamedTuple):
  """The batches of all steps, each as `gather(shared, own)`.

  shared: arrays on the device that all steps use.
  own: the function from a step to its own arrays.
  gather: makes the batch from both, inside the compiled step.
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
  *,
  levels: bool = False,
) -> Feed:
  """The feed of a part that `put` places on the device."""

  def own() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for step in steps:
      indices, affinity = draws(step)
      yield np.tile(indices, views), affinity

  arrays = np.asarray(part.inputs), labels_of(part, views, levels)
  shared = tuple(put(padded(array)) for array in arrays)
  return Feed(shared, own(), gather_resident)


def padded(array: np.ndarray) -> np.ndarray:
  """Pads with rows of zeros that no index points to: at most an eighth more.

  Parts of nearly equal size, such as the folds of a set, then have the same
  shape and share one compiled step.

  >>> [len(padded(np.zeros(n))) for n in (7, 1001, 1024, 1025)]
  [7, 1024, 1024, 1152]
  """
  unit = 2 ** max(0, len(array).bit_length() - 4)
  rows = -len(array) % unit
  if not rows:
    return array
  return np.concatenate(
    [array, np.zeros((rows, *array.shape[1:]), array.dtype)]
  )


def gather_resident(shared: Any, own: Any) -> Batch:
  """The batch at some indices of arrays on the device."""
  (inputs, labels), (indices, affinity) = shared, own
  return Batch(inputs[indices], labels[indices], affinity)


def streamed(
  part: data.Dataset,
  draws: Callable[[int], Draw],
  steps: range,
  views: int = 1,
  *,
  levels: bool = False,
  cut: float = 0.0,
  seed: int = 0,
  mesh: Mesh | None = None,
) -> Feed:
  """The feed of a part on the host or on disk, which is read ahead.

  cut: the largest share of the area that is cut away at random. Above 0, a
    different random part of each file is read in each step and view.
  seed: the seed of these random parts.
  mesh: devices that share each batch; a process reads the items of its devices.
  """
  labels = labels_of(part, views, levels)
  if cut and not isinstance(part.inputs, ImageFiles):
    raise InputError(
      f"config.data.random_crop={cut:g} reads parts of image files, but"
      f" {part.name} is in memory: set it to 0, or unpack the images into a"
      " folder."
    )

  items = len(draws(0).indices)
  # The positions in the batch that this process reads.
  places = devices.rows_here(views * items, mesh)
  view, item = np.divmod(places, items)

  def inputs_of(step: int, indices: np.ndarray) -> np.ndarray:
    if not cut:
      # Each image is read once for all of its views.
      once, back = np.unique(item, return_inverse=True)
      return np.asarray(part.inputs[indices[once]])[back]
    # An independent random stream for each position in the batch.
    random = lambda *place: np.random.default_rng([seed, step, *place])
    return part.inputs[indices[item]].read(
      [crops.Draw(cut, random(v, i)) for v, i in zip(view, item, strict=True)]
    )

  def read(step: int) -> Batch:
    indices, affinity = draws(step)
    return Batch(
      inputs_of(step, indices),
      labels[indices[item]],
      None if affinity is None else affinity[places],
    )

  put = jax.device_put
  if mesh is not None:
    put = functools.partial(
      devices.put_rows, here=places, count=views * items, mesh=mesh
    )
  return Feed((), on_device(read_ahead(read, steps), put), gather_streamed)


def on_device(
  batches: Iterator[Any],
  put: Callable[[Any], Any] = jax.device_put,
  ahead: int = 2,
) -> Iterator[Any]:
  """Places batches on the device, the next batches during the present step."""
  waiting: collections.deque[Any] = collections.deque()
  for batch in batches:
    waiting.append(put(batch))
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting


def gather_streamed(shared: Any, own: Batch) -> Batch:
  """The batch, unchanged."""
  return own


def labels_of(
  part: data.Dataset, views: int, levels: bool
) -> Int[np.ndarray, " n *k"]:
  """The labels that a relation compares; for `levels`, super-class and class.

  With several views, each item is its own class.
  """
  if views > 1:
    return np.arange(len(part.labels), dtype=np.int32)
  return part.levels if levels else part.labels
