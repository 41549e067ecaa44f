"""Distances in tiles: the whole matrix never exists.

Distances are exact float32 differences, computed in square tiles of one size,
so that one compilation serves every data set of a metric and dimension. They
become integers that sort alike, their codes: then (distance, position) is one
64-bit key.
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

# Queries and references of one tile. 512 x 512 float32 numbers stay in a
# CPU's cache; an accelerator wants fewer and larger pieces.
_CPU_TILE = 512
_ACCELERATOR_TILE = 2048

# Blocks at a time: each takes memory.
_MAX_THREADS = 8

# Up to this, no sum of squares of differences leaves float32.
_SQUARES = 1e15

# The code of a reference that must not be found: later than infinity.
HIDDEN = np.int32(2**31 - 1)

# A NumPy array on a CPU, a JAX array on an accelerator.
Codes = Int[np.ndarray | Array, "b m"]


class Keys(NamedTuple):
  """An integer for each query and reference; equal ones do not meet."""

  queries: Int[np.ndarray, " n"]
  references: Int[np.ndarray, " m"]


def check_metric(metric: MetricName) -> None:
  """Raises `InputError` unless the metric ranks embeddings as they are."""
  metric, _ = split_metric(metric)
  if space := METRICS[metric].learned:
    raise InputError(
      f"metric {metric!r} has a learned factor L and is the {space} distance of"
      f" L x: score embeddings @ L.T under {space!r}."
    )


def check_embeddings(
  name: str, embeddings: Float[np.ndarray | Array, "n d"]
) -> Float[np.ndarray, "n d"]:
  """Returns the embeddings as a NumPy array of float32, or float64 if wider.

  Raises:
    InputError: if they are not one point a row, there are none, or a number is
      not finite: such a row has no neighbors.
  """
  array = np.asarray(embeddings)
  if array.dtype.kind in "OUSc":
    raise InputError(f"{name}: give real numbers, not dtype {array.dtype}.")
  if array.ndim != 2 or 0 in array.shape:
    empty = "there are none, " if array.ndim == 2 and not len(array) else ""
    raise InputError(
      f"{name}: {empty}shape {array.shape}; give one embedding a row, shape"
      " (n, d) with at least one row and one number in each."
    )
  array = array.astype(np.float32 if _fits(array) else np.float64, copy=False)
  finite = np.isfinite(array).all(axis=1)
  if not finite.all():
    raise InputError(
      f"{name}: {np.count_nonzero(~finite)} of {len(finite)} rows hold NaN or "
      f"infinity (the first is row {np.argmin(finite)}). The training that "
      "made them diverged: lower the learning rate, or score a checkpoint "
      "from before."
    )
  return array


def _fits(array: np.ndarray) -> bool:
  """Whether the cast to float32 loses nothing, or loses it to NaN alone."""
  if array.dtype.kind not in "fiu" or np.can_cast(array.dtype, np.float32):
    return True
  with np.errstate(over="ignore"):
    return np.array_equal(array.astype(np.float32), array, equal_nan=True)


def as_float32(
  metric: MetricName, *sets: Float[np.ndarray, "_ d"]
) -> tuple[Float[np.ndarray, "_ d"], ...]:
  """Sets of checked embeddings in float32, as the metric compares them.

  What the cast would lose far from the origin is kept where the metric does
  not see the origin: the sets are centered first, in float64.

  >>> (moved,) = as_float32("l1", np.array([[1e8], [1e8 + 1]]))
  >>> moved[1] - moved[0]
  array([1.], dtype=float32)

  Raises:
    InputError: for an unknown metric, unlike dimensions, or if a distance is
      beyond float32.
  """
  check_metric(metric)
  name, _ = split_metric(metric)
  if len(dims := {points.shape[1] for points in sets}) > 1:
    raise InputError(
      f"embeddings of {' and '.join(map(str, sorted(dims)))} dimensions have no"
      " distance: compare embeddings of one network."
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
    # It sees variances over the coordinates of a row.
    return tuple(p - p.mean(axis=1, keepdims=True, dtype=float) for p in sets)
  return sets


def _is_finite(metric: MetricName, largest: float, dim: int) -> bool:
  """Whether the distance of the farthest two such points is."""
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

  With `several`, they may have a row for each item and a column for each class.

  Raises:
    InputError: if there is not one for each of `count` embeddings, or they are
      not of one kind.
  """
  array = np.asarray(labels)
  if not hasattr(labels, "dtype") or array.dtype == object:
    # NumPy would make texts of the numbers beside a text.
    items = np.ravel(np.array(labels, object)).tolist()
    if not any(
      all(isinstance(item, kind) for item in items)
      for kind in (str, int | np.integer)
    ):
      found = sorted({type(item).__name__ for item in items})
      raise InputError(
        f"{name}: holds {', '.join(found)}; give integers, or texts, and not"
        " both."
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
    raise InputError(f"{name}: dtype {array.dtype}; give integers, or texts.")
  return array


def check_whole(name: str, value: int, least: int) -> None:
  """Raises `InputError` unless the value is an integer of at least `least`."""
  whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not whole or value < least:
    raise InputError(f"{name}={value!r}: choose {least} or more, an integer.")


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

  Hides column `hidden[i]` of row i, the columns of its key, and the padding
  from `count` on.
  """
  metric = (name, dict(options))
  distances = pairwise(metric, queries, references, exact=True)
  distances = jnp.where(distances == 0, 0, distances)  # -0 equals 0
  bits = jax.lax.bitcast_convert_type(distances, jnp.int32)
  # As integers, positive floats are in order and negative ones in reverse.
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
  """The distances that codes stand for.

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

  `rows` is a slice of the queries; codes [rows, m] stand for the distances to
  the references, and are overwritten after the call. See `in_threads`.

  Args:
    use: what is done with a block; it writes to places of its own.
    metric: a name in `METRICS`, or `(name, {options})`.
    queries: rows that look for neighbors.
    references: rows among which they look.
    own: position of each query among the references, -1 if it is not there;
      that column is hidden.
    keys: of queries and of references; a query does not see those of its key.

  Raises:
    InputError: for an unknown metric.
  """
  check_metric(metric)
  name, options = split_metric(metric)
  tile = tile_size()
  nobody = np.full(len(queries), -1)
  own = nobody if own is None else own
  keys = keys or Keys(nobody, np.zeros(len(references), int))
  count, codes_of = np.int32(len(references)), _compiled_tiles()
  pieces = {}
  for device in devices_here():
    with jax.default_device(device):
      pieces[device] = _pieces(references, keys.references, tile)

  def work(rows: slice, memory: Int[np.ndarray, "b m"]) -> None:
    # Put as they are: to convert arrays on the device takes longer.
    block = jax.device_put(_pad(queries[rows], tile))
    hidden, of_queries = (
      jax.device_put(_pad(some[rows].astype(np.int32), tile))
      for some in (own, keys.queries)
    )
    (device,) = block.devices()
    found = (
      codes_of(
        *(name, tuple(sorted(options.items()))),
        *(block, piece, hidden, of_queries, of_piece, first, count),
      )
      for _, piece, of_piece, first in pieces[device]
    )
    if jax.default_backend() == "cpu":
      for (start, *_), codes in zip(pieces[device], found, strict=True):
        part = memory[:, start : start + tile]
        part[:] = np.asarray(codes)[: len(part), : part.shape[1]]
      use(rows, memory)
    else:
      whole = jnp.concatenate(list(found), axis=1)
      use(rows, whole[: rows.stop - rows.start, : len(references)])

  in_threads(work, len(queries), len(references))


def _pieces(
  references: Float[np.ndarray, "m d"], keys: Int[np.ndarray, " m"], tile: int
) -> list[tuple[int, Array, Array, Array]]:
  """References, padded to whole tiles: start, points, keys, start as an array.

  They are made once: making them anew for each block is a tenth of the time.
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
  """Within it, NumPy multiplies matrices in one thread."""
  return _thread_pools().limit(limits=1, user_api="blas")


@functools.cache
def _thread_pools() -> ThreadpoolController:
  """Found once: looking for them takes 7 ms (measured)."""
  return ThreadpoolController()


def in_threads(
  work: Callable[[slice, Int[np.ndarray, "b m"]], None], count: int, width: int
) -> None:
  """Calls work(rows, memory) for blocks of rows, each in one of some threads.

  In any order: JAX and NumPy leave the interpreter free while they compute. The
  threads take the devices of `devices_here` in turn, as their default.
  `memory` is [rows, width] 32-bit integers with anything in them, and again
  used for other rows: to ask for new memory each time costs as much as a
  product (measured). It takes 4 bytes x tile size x width for each thread.
  """
  tile = tile_size()
  firsts = range(0, count, tile)
  on, on_cpu = devices_here(), jax.default_backend() == "cpu"
  most = os.cpu_count() or 1 if on_cpu else 2 * len(on)
  num_threads = min(most, max(_MAX_THREADS, len(on)), max(1, len(firsts)))

  def run(thread: int) -> None:
    memory = np.empty((min(tile, count), width), np.int32)
    with jax.default_device(on[thread % len(on)]):
      for first in firsts[thread::num_threads]:
        rows = slice(first, min(first + tile, count))
        work(rows, memory[: rows.stop - first])

  # Each thread multiplies alone: to share products costs a fifth (measured).
  alone = one_thread()
  with alone, ThreadPoolExecutor(num_threads) as pool:
    # A list, so that what a thread raised is raised here.
    list(pool.map(run, range(num_threads)))


def devices_here() -> list[jax.Device]:
  """The devices that share the blocks: those of this process, or the default.

  Where `jax.default_device` is set, that one alone.
  """
  default = getattr(jax.config, "jax_default_device")  # noqa: B009
  if isinstance(default, str):
    return jax.local_devices(backend=default)[:1]
  return jax.local_devices() if default is None else [default]


def tile_size() -> int:
  """Queries, and references, of one tile."""
  return _CPU_TILE if jax.default_backend() == "cpu" else _ACCELERATOR_TILE


def _pad(rows: np.ndarray, length: int) -> np.ndarray:
  """The first `length` rows, filled up with zeros."""
  rows = rows[:length]
  width = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
  return np.pad(rows, width)
