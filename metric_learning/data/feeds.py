"""From the number of a step to its batch on the device.

Two feeds: of a set that lies on the device, steps are told indices, and the
batch is gathered inside the compiled step; what does not fit there is read
ahead of the steps. In both a batch is a pure function of (seed, step).
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
  """What one step sees; a tree of arrays.

  inputs: as they are stored.
  labels: of the kind that the relation compares.
  affinity: similarities in place of labels, NaN where two are no pair.
  where: False for items that only pad; None if none does.
  """

  inputs: Shaped[AnyArray, " n *item"]
  labels: Int[AnyArray, " n *k"]
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
  *,
  levels: bool = False,
) -> Feed:
  """The feed of a part that lies on the device, where `put` brings it."""

  def own() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    for step in steps:
      indices, affinity = draws(step)
      yield np.tile(indices, views), affinity

  arrays = np.asarray(part.inputs), labels_of(part, views, levels)
  shared = tuple(put(padded(array)) for array in arrays)
  return Feed(shared, own(), gather_resident)


def padded(array: np.ndarray) -> np.ndarray:
  """Rows of zeros at the end, which no index reaches: at most an eighth more.

  Parts of nearly one size, such as the folds of a set, so have one shape, and
  share one compiled step.

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
  """The feed of a part that stays on the host or on disk, and is read ahead.

  cut: above 0, of each file a random part is read, another one in each step and
    view; the largest share of the area that is cut away.
  seed: of these parts.
  mesh: devices that share each batch; a process reads what is for its own.
  """
  labels = labels_of(part, views, levels)
  if cut and not isinstance(part.inputs, ImageFiles):
    raise InputError(
      f"config.data.random_crop={cut:g} reads parts of image files, and"
      f" {part.name} is in memory: set it to 0, or unpack the images into a"
      " folder."
    )

  items = len(draws(0).indices)
  # Of all places in a batch, those that are read here.
  places = devices.rows_here(views * items, mesh)
  view, item = np.divmod(places, items)

  def inputs_of(step: int, indices: np.ndarray) -> np.ndarray:
    if not cut:
      # Each is read once for all of its views.
      once, back = np.unique(item, return_inverse=True)
      return np.asarray(part.inputs[indices[once]])[back]
    # A stream of its own for each place in the batch.
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
  """Batches on the device, where the next ones go while a step runs."""
  waiting: collections.deque[Any] = collections.deque()
  for batch in batches:
    waiting.append(put(batch))
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting


def gather_streamed(shared: Any, own: Batch) -> Batch:
  """The batch, which is read as a whole."""
  return own


def labels_of(
  part: data.Dataset, views: int, levels: bool
) -> Int[np.ndarray, " n *k"]:
  """What a relation compares: labels, or with `levels` super-class and class.

  Where an item has several views, each item is its own class.
  """
  if views > 1:
    return np.arange(len(part.labels), dtype=np.int32)
  return part.levels if levels else part.labels
