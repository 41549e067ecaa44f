"""Distances in tiles: the whole matrix never exists.

Distances are exact float32 differences, computed in square tiles of one size,
so that one compilation serves every data set of a metric and dimension. They
become integers that sort alike, their codes: then (distance, position) is one
64-bit key.
"""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import (
  LEARNED,
  MetricName,
  pairwise,
  split_metric,
)
from metric_learning.errors import InputError

# Queries and references of one tile. 512 x 512 float32 numbers stay in a
# CPU's cache; an accelerator wants fewer and larger pieces.
_CPU_TILE = 512
_ACCELERATOR_TILE = 2048

# Blocks at a time: each takes memory.
_MAX_THREADS = 8

# The code of a reference that must not be found: later than infinity.
HIDDEN = np.int32(2**31 - 1)

# A NumPy array on a CPU, a JAX array on an accelerator.
Codes = Int[np.ndarray | Array, "b m"]


def check_metric(metric: MetricName) -> None:
  """Raises `InputError` unless the metric ranks embeddings as they are."""
  metric, _ = split_metric(metric)
  if metric in LEARNED:
    space = LEARNED[metric]
    raise InputError(
      f"metric {metric!r} has a learned factor L and is the {space} distance of"
      f" L x: score embeddings @ L.T under {space!r}."
    )


def check_embeddings(
  name: str, embeddings: Float[np.ndarray | Array, "n d"]
) -> Float[np.ndarray, "n d"]:
  """Returns the embeddings as a float32 NumPy array.

  Raises:
    InputError: if a number is not finite: such a row has no neighbours.
  """
  embeddings = np.asarray(embeddings, np.float32)
  finite = np.isfinite(embeddings).all(axis=1)
  if not finite.all():
    raise InputError(
      f"{name}: {np.count_nonzero(~finite)} of {len(finite)} rows hold NaN or "
      f"infinity (the first is row {np.argmin(finite)}). The training that "
      "made them diverged: lower the learning rate, or score a checkpoint "
      "from before."
    )
  return embeddings


def check_labels(
  name: str, labels: Int[np.ndarray | Array, " _"], count: int
) -> Int[np.ndarray, " n"]:
  """Returns the labels as a NumPy array.

  Raises:
    InputError: if there is not one for each of `count` embeddings.
  """
  labels = np.asarray(labels)
  if labels.shape != (count,):
    raise InputError(
      f"{name}: shape {labels.shape} does not fit {count} embeddings; give "
      f"one integer for each, shape ({count},)."
    )
  return labels


@functools.partial(jax.jit, static_argnames=("name", "options", "exact"))
def _tile_codes(
  name: str,
  options: tuple[tuple[str, Any], ...],
  exact: bool,
  queries: Float[Array, "n d"],
  references: Float[Array, "m d"],
  hidden: Int[Array, " n"],
  count: Int[Array, ""],
) -> Int[Array, "n m"]:
  """The codes of one tile.

  Hides column `hidden[i]` of row i, and the padding from `count` on.
  """
  metric = (name, dict(options))
  distances = pairwise(metric, queries, references, exact=exact)
  distances = jnp.where(distances == 0, 0, distances)  # -0 equals 0
  bits = jax.lax.bitcast_convert_type(distances, jnp.int32)
  # As integers, positive floats are in order and negative ones in reverse.
  codes = jnp.where(bits < 0, bits ^ HIDDEN, bits)
  column = jnp.arange(codes.shape[1])
  hide = (column == hidden[:, None]) | (column >= count)
  return jnp.where(hide, HIDDEN, codes)


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
  *,
  exact: bool = True,
) -> None:
  """Calls use(rows, codes) for blocks of queries, with all their distances.

  `rows` is a slice of the queries, codes [rows, m] stand for the distances to
  the references. They are overwritten after the call. Blocks come in any
  order, some at a time, each in a thread of its own: JAX and NumPy's sorting
  leave the interpreter free. Memory for each thread: 4 bytes x references x
  tile size.

  Args:
    use: what is done with a block; it writes to places of its own.
    metric: a name in `METRICS`, or `(name, {options})`.
    queries: rows that look for neighbours.
    references: rows among which they look.
    own: position of each query among the references; that column is hidden.
    exact: from differences, and not by a product; see `pairwise`.

  Raises:
    InputError: for an unknown metric.
  """
  check_metric(metric)
  name, options = split_metric(metric)
  on_cpu = jax.default_backend() == "cpu"
  tile = _CPU_TILE if on_cpu else _ACCELERATOR_TILE
  if own is None:
    own = np.full(len(queries), -1)
  pieces = [
    (start, jnp.asarray(_pad(references[start : start + tile], tile)))
    for start in range(0, len(references), tile)
  ]
  firsts = range(0, len(queries), tile)
  num_threads = min(os.cpu_count() or 1, _MAX_THREADS, max(1, len(firsts)))

  def tiles(rows: slice) -> Iterator[tuple[int, Int[Array, "t t"]]]:
    block = jnp.asarray(_pad(queries[rows], tile))
    hidden = _pad(own[rows], tile)
    for start, piece in pieces:
      codes = _tile_codes(
        name,
        tuple(sorted(options.items())),
        exact,
        block,
        piece,
        jnp.asarray(hidden - start, jnp.int32),
        jnp.asarray(len(references) - start, jnp.int32),
      )
      yield start, codes

  def work(thread: int) -> None:
    # One piece of memory for all blocks of a thread: new memory for each costs
    # about as much as the distances (measured).
    if on_cpu:
      kept = np.empty((tile, tile * len(pieces)), np.int32)
    for first in firsts[thread::num_threads]:
      rows = slice(first, min(first + tile, len(queries)))
      if on_cpu:
        for start, codes in tiles(rows):
          kept[:, start : start + tile] = codes
        use(rows, kept[: rows.stop - first, : len(references)])
      else:
        whole = jnp.concatenate([codes for _, codes in tiles(rows)], axis=1)
        use(rows, whole[: rows.stop - first, : len(references)])

  with ThreadPoolExecutor(num_threads) as pool:
    # A list, so that what a thread raised is raised here.
    list(pool.map(work, range(num_threads)))


def _pad(rows: np.ndarray, length: int) -> np.ndarray:
  width = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
  return np.pad(rows, width)
