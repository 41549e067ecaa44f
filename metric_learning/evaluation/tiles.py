"""Distances in tiles, so that the whole matrix is never in memory.

Distances are computed from exact float32 differences, in square tiles of one
size, so that one compilation serves all data sets under a metric and dimension.
They are turned into codes: integers with the same order. A (distance, position)
pair is then one 64-bit key.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from threadpoolctl import ThreadpoolController

from metric_learning import devices
from metric_learning.distances import (
  METRICS,
  MetricName,
  pairwise,
  split_metric,
)
from metric_learning.errors import InputError
from metric_learning.relevance import check_several

# The number of queries, and of references, in one tile. 512 x 512 float32
# numbers fit the cache of a CPU; an accelerator needs fewer and larger tiles.
_CPU_TILE = 512
_ACCELERATOR_TILE = 2048

# The most blocks computed at a time, since each takes memory.
_MAX_THREADS = 8

# Up to this size of numbers, no sum of squared differences exceeds float32.
_SQUARES = 1e15

# The code of a reference that must not be found: it sorts after infinity.
HIDDEN = np.int32(2**31 - 1)

# A NumPy array on a CPU, a JAX array on an accelerator.
Codes = Int[np.ndarray | Array, "b m"]


class Keys(NamedTuple):
  """An integer for each query and reference; equal ones are not compared."""

  queries: Int[np.ndarray, " n"]
  references: Int[np.ndarray, " m"]


def check_metric(metric: MetricName) -> None:
  """Raises `InputError` if the metric has a learned factor."""
  metric, _ = split_metric(metric)
  if space := METRICS[metric].learned:
    raise InputError(
      f"metric {metric!r} has a learned factor L: it is the {space} distance of"
      f" L x. Score embeddings @ L.T under {space!r}."
    )


def check_embeddings(
  name: str, embeddings: Float[np.ndarray | Array, "n d"]
) -> Float[np.ndarray, "n d"]:
  """Returns embeddings as a float32 array, or float64 if float32 would round.

  Raises:
    InputError: if the array does not have one point per row, if it is empty, or
      if a number is not finite, since such a row has no neighbors.
  """
  array = np.asarray(embeddings)
  if array.dtype.kind in "OUSc":
    paths = ": embed paths first" if array.dtype.kind in "US" else ""
    raise InputError(
      f"{name}: give real numbers, not dtype {array.dtype}{paths}."
    )
  if array.ndim != 2 or 0 in array.shape:
    empty = "there are none, " if array.ndim == 2 and not len(array) else ""
    raise InputError(
      f"{name}: {empty}shape {array.shape}; give one embedding per row, shape"
      " (n, d) with at least one row and one column."
    )
  array = array.astype(np.float32 if _fits(array) else np.float64, copy=False)
  finite = np.isfinite(array).all(axis=1)
  if not finite.all():
    raise InputError(
      f"{name}: {np.count_nonzero(~finite)} of {len(finite)} rows hold NaN or "
      f"infinity (the first is row {np.argmin(finite)}). The training "
      "diverged: lower the learning rate, or score an earlier checkpoint."
    )
  return array


def _fits(array: np.ndarray) -> bool:
  """Whether a cast to float32 changes no number; NaN may stay NaN."""
  if array.dtype.kind not in "fiu" or np.can_cast(array.dtype, np.float32):
    return True
  with np.errstate(over="ignore"):
    return np.array_equal(array.astype(np.float32), array, equal_nan=True)


def as_float32(
  metric: MetricName, *sets: Float[np.ndarray, "_ d"]
) -> tuple[Float[np.ndarray, "_ d"], ...]:
  """Sets of checked embeddings in float32, as the metric compares them.

  float64 sets are centered before the cast if the metric does not depend on the
  origin, so that points far from the origin keep their differences.

  >>> (moved,) = as_float32("l1", np.array([[1e8], [1e8 + 1]]))
  >>> moved[1] - moved[0]
  array([1.], dtype=float32)

  Raises:
    InputError: if the metric is unknown, if dimensions differ, or if a distance
      exceeds float32.
  """
  check_metric(metric)
  name, _ = split_metric(metric)
  if len(dims := {points.shape[1] for points in sets}) > 1:
    raise InputError(
      f"embeddings of {' and '.join(map(str, sorted(dims)))} dimensions cannot"
      " be compared: use embeddings of the same network."
    )
  if any(points.dtype == np.float64 for points in sets):
    sets = _centered(name, sets)
  with np.errstate(over="ignore"):
    sets = tuple(points.astype(np.float32, copy=False) for points in sets)
  largest = max(float(np.abs(points).max()) for points in sets)
  if largest > _SQUARES and not _is_finite(metric, largest, sets[0].shape[1]):
    raise InputError(
      f"embeddings hold numbers as large as {largest:.1g}, and distances under"
      f" {name!r} would be beyond float32 (3e38): divide all embeddings by one"
      " large number."
    )
  return sets


def _centered(
  name: str, sets: tuple[Float[np.ndarray, "_ d"], ...]
) -> tuple[Float[np.ndarray, "_ d"], ...]:
  if METRICS[name].of_differences:
    low = np.min([points.min(axis=0) for points in sets], axis=0)
    high = np.max([points.max(axis=0) for points in sets], axis=0)
    center = low / 2 + high / 2
    return tuple(points - center for points in sets)
  if name == "snr":
    # This metric uses variances over the coordinates of a row.
    return tuple(p - p.mean(axis=1, keepdims=True, dtype=float) for p in sets)
  return sets


def _is_finite(metric: MetricName, largest: float, dim: int) -> bool:
  """Whether the distance of the farthest two points of this size is finite."""
  corner = jnp.where(jnp.arange(dim) % 2 == 0, largest, -largest)[None]
  return bool(jnp.isfinite(pairwise(metric, corner, -corner, exact=True)).all())


def check_labels(
  name: str,
  labels: Any,
  count: int,
  *,
  several: bool = False,
) -> Shaped[np.ndarray, " n *k"]:
  """Returns the labels as a NumPy array.

  With `several`, the array may have a row for each item and a column for each
  class.

  Raises:
    InputError: if there is not one label for each of `count` embeddings, or if
      labels mix integers and strings.
  """
  array = np.asarray(labels)
  if not hasattr(labels, "dtype") or array.dtype == object:
    # NumPy would turn integers into strings if one label is a string.
    items = np.ravel(np.array(labels, object)).tolist()
    if not any(
      all(isinstance(item, kind) for item in items)
      for kind in (str, int | np.integer)
    ):
      types = sorted({type(item).__name__ for item in items})
      raise InputError(
        f"{name}: holds {', '.join(types)}; give integers or strings, not both."
      )
    array = np.array(array.tolist())
  if several and array.ndim == 2 and len(array) == count and array.size:
    check_several(name, array)
    return array
  if array.shape != (count,):
    raise InputError(
      f"{name}: shape {array.shape} does not fit {count} embeddings; give "
      f"one integer for each, shape ({count},)."
    )
  if array.dtype.kind not in "biuUS":
    raise InputError(f"{name}: dtype {array.dtype}; give integers or strings.")
  return array


def check_whole(name: str, value: int, least: int) -> None:
  """Raises `InputError` unless the value is an integer of at least `least`."""
  whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not whole or value < least:
    raise InputError(f"{name}={value!r}: choose an integer of {least} or more.")


def _tile_codes(
  name: str,
  options: tuple[tuple[str, Any], ...],
  queries: Float[Array, "n d"],
  references: Float[Array, "m d"],
  hidden: Int[Array, " n"],
  query_keys: Int[Array, " n"],
  reference_keys: Int[Array, " m"],
  start: Int[Array, ""],
  count: Int[Array, ""],
) -> Int[Array, "n m"]:
  """The codes of one tile, whose first column is `start` of `count`.

  Row i hides column `hidden[i]`, the columns with its key, and the padding from
  column `count` on.
  """
  metric = (name, dict(options))
  distances = pairwise(metric, queries, references, exact=True)
  distances = jnp.where(distances == 0, 0, distances)  # -0 equals 0
  bits = jax.lax.bitcast_convert_type(distances, jnp.int32)
  # Read as integers, positive floats keep their order and negative ones reverse
  # it.
  codes = jnp.where(bits < 0, bits ^ HIDDEN, bits)
  column = start + jnp.arange(codes.shape[1])
  hide = (column == hidden[:, None]) | (column >= count)
  hide |= query_keys[:, None] == reference_keys
  return jnp.where(hide, HIDDEN, codes)


@functools.cache
def _compiled_tiles() -> Callable[..., Int[Array, "n m"]]:
  return jax.jit(
    _tile_codes,
    static_argnames=("name", "options"),
    compiler_options=devices.wide_vectors(),
  )


def decode(codes: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
  """The distances that codes encode.

  >>> decode(np.array([0, 0x3F800000], np.int32))  # the bits of 0 and 1
  array([0., 1.], dtype=float32)
  """
  codes = np.asarray(codes, np.int32)
  return np.where(codes < 0, codes ^ HIDDEN, codes).view(np.float32)


def for_each_block(
  use: Callable[[slice, Codes], None],
  metric: MetricName,
  queries: Float[np.ndarray, "n d"],
  references: Float[np.ndarray, "m d"],
  own: Int[np.ndarray, " n"] | None = None,
  keys: Keys | None = None,
) -> None:
  """Calls use(rows, codes) for blocks of queries, with all their distances.

  `rows` is a slice of the queries. The codes, of shape [rows, m], encode the
  distances to all references and are overwritten after the call. See
  `in_threads`.

  Args:
    use: the function that handles a block. Calls run in several threads, so
      each must write to different places.
    metric: a name in `METRICS`, or `(name, {options})`.
    queries: the rows that search for neighbors.
    references: the rows that are searched.
    own: the position of each query among the references, -1 if it is not a
      reference; that column is hidden.
    keys: the keys of queries and references; a query does not see references
      with its key.

  Raises:
    InputError: if the metric is unknown.
  """
  check_metric(metric)
  name, options = split_metric(metric)
  tile = tile_size()
  no_match = np.full(len(queries), -1)
  own = no_match if own is None else own
  keys = keys or Keys(no_match, np.zeros(len(references), int))
  count, codes_of = np.int32(len(references)), _compiled_tiles()
  pieces = _pieces_by_device(references, keys.references, tile)

  def work(rows: slice, memory: Int[np.ndarray, "b m"]) -> None:
    # Converted before the transfer, which is faster than on the device.
    block = jax.device_put(_pad(queries[rows], tile))
    hidden, of_queries = (
      jax.device_put(_pad(integers[rows].astype(np.int32), tile))
      for integers in (own, keys.queries)
    )
    (device,) = block.devices()
    tiles = (
      codes_of(
        *(name, tuple(sorted(options.items()))),
        *(block, piece, hidden, of_queries, of_piece, first, count),
      )
      for _, piece, of_piece, first in pieces[device]
    )
    if jax.default_backend() == "cpu":
      for (start, *_), codes in zip(pieces[device], tiles, strict=True):
        part = memory[:, start : start + tile]
        part[:] = np.asarray(codes)[: len(part), : part.shape[1]]
      use(rows, memory)
    else:
      whole = jnp.concatenate(list(tiles), axis=1)
      use(rows, whole[: rows.stop - rows.start, : len(references)])

  in_threads(work, len(queries), len(references))


def _pieces_by_device(
  references: Float[np.ndarray, "m d"], keys: Int[np.ndarray, " m"], tile: int
) -> dict[jax.Device, list[tuple[int, Array, Array, Array]]]:
  """`_pieces` on each device of this process."""
  pieces = {}
  for device in devices_here():
    with jax.default_device(device):
      pieces[device] = _pieces(references, keys, tile)
  return pieces


def _pieces(
  references: Float[np.ndarray, "m d"], keys: Int[np.ndarray, " m"], tile: int
) -> list[tuple[int, Array, Array, Array]]:
  """References padded to whole tiles: start, points, keys, start as an array.

  They are made once, since making them for each block takes a tenth of the
  time.
  """
  return [
    (
      start,
      jax.device_put(_pad(references[start:], tile)),
      jax.device_put(_pad(keys[start:].astype(np.int32), tile)),
      jax.device_put(np.int32(start)),
    )
    for start in range(0, len(references), tile)
  ]


def one_thread() -> contextlib.AbstractContextManager:
  """A context in which NumPy multiplies matrices in one thread."""
  return _thread_pools().limit(limits=1, user_api="blas")


@functools.cache
def _thread_pools() -> ThreadpoolController:
  """The thread pools of the process, cached since a search takes 7 ms."""
  return ThreadpoolController()


def in_threads(
  work: Callable[[slice, Int[np.ndarray, "b m"]], None], count: int, width: int
) -> None:
  """Calls work(rows, memory) for blocks of rows, in several threads.

  Blocks come in any order. Threads run in parallel, since JAX and NumPy release
  the interpreter while they compute. The default devices of the threads are
  those of `devices_here`, in turn. `memory` is an uninitialized array of 32-bit
  integers of shape [rows, width], which is reused for other rows: new memory
  for each block would cost as much as a product (measured). It takes
  4 bytes x tile size x width for each thread.
  """
  tile = tile_size()
  firsts = range(0, count, tile)
  local, on_cpu = devices_here(), jax.default_backend() == "cpu"
  most = os.cpu_count() or 1 if on_cpu else 2 * len(local)
  num_threads = min(most, max(_MAX_THREADS, len(local)), max(1, len(firsts)))

  def run(thread: int) -> None:
    memory = np.empty((min(tile, count), width), np.int32)
    with jax.default_device(local[thread % len(local)]):
      for first in firsts[thread::num_threads]:
        rows = slice(first, min(first + tile, count))
        work(rows, memory[: rows.stop - first])

  # Each product runs in one thread: sharing products costs a fifth (measured).
  with one_thread(), ThreadPoolExecutor(num_threads) as pool:
    # The list raises the exceptions of threads here.
    list(pool.map(run, range(num_threads)))


def devices_here() -> list[jax.Device]:
  """The devices that share the blocks: all devices of this process.

  If `jax.default_device` is set, it is the only one.
  """
  default = getattr(jax.config, "jax_default_device")  # noqa: B009
  if isinstance(default, str):
    return jax.local_devices(backend=default)[:1]
  return jax.local_devices() if default is None else [default]


def tile_size() -> int:
  """The number of queries, and of references, in one tile."""
  return _CPU_TILE if jax.default_backend() == "cpu" else _ACCELERATOR_TILE


def _pad(rows: np.ndarray, length: int) -> np.ndarray:
  """The first `length` rows, padded with zeros."""
  rows = rows[:length]
  width = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
  return np.pad(rows, width)
