"""Nearest neighbors under a metric, with one rule for ties.

References are ranked by (distance, position). The position comes from one
shuffle of the references that does not depend on labels, so that files sorted
by class cannot help a model whose embeddings coincide. Distances come from
exact float32 differences; see `tiles`.

A search for a few neighbors under L2 or cosine first narrows the references
down to candidates, by the product form of the distance, which is fast but
rounds. The bound on its error proves that all neighbors are among the
candidates. Exact distances of the candidates then decide.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from metric_learning.distances import (
  METRICS,
  Metric,
  MetricName,
  l2_normalize,
  split_metric,
)
from metric_learning.errors import InputError
from metric_learning.evaluation.tiles import (
  HIDDEN,
  Codes,
  Keys,
  as_float32,
  check_embeddings,
  check_whole,
  decode,
  for_each_block,
  in_threads,
)

# A function that uses the neighbors of a block of queries: it gets the indices
# of the queries, the positions of their nearest references, and the codes of
# the distances.
UseNearest = Callable[
  [
    Int[np.ndarray, " b"],
    Int[np.ndarray, "b k"],
    Int[np.ndarray, "b k"],
  ],
  None,
]

# Candidates are faster if k is at most this share of the references, and if
# there are at most this many candidates for each neighbor.
_SHARE = 1 / 32
_PER_NEIGHBOR = 4

# The most columns of a group, and the number of rows that are searched
# together: their values stay in the cache of a core.
_GROUP = 16
_ROWS = 32

# The number of differences of coordinates held in memory at a time: what the
# cache of a core holds. At 27,648 dimensions, blocks of 4,096 pairs took three
# times as long (measured).
_DIFFERENCES = 2**16

_unit = jax.jit(l2_normalize)


def shuffled(num_references: int) -> Int[np.ndarray, " m"]:
  """The fixed order of references that breaks ties between equal distances."""
  return np.random.default_rng(0).permutation(num_references)


def for_each_nearest(
  use: UseNearest,
  metric: MetricName,
  queries: Float[np.ndarray, "n d"],
  references: Float[np.ndarray, "m d"],
  k: int,
  own: Int[np.ndarray, " n"] | None = None,
  keys: Keys | None = None,
) -> None:
  """Calls use(queries, positions, codes) for the k nearest of each query.

  Each call handles a block of queries, and the blocks come in any order; see
  `for_each_block`. References that a query does not see come last, with the
  code HIDDEN.
  """
  remaining = np.arange(len(queries))
  is_faster = k <= _SHARE * len(references) and keys is None
  if is_faster and jax.default_backend() == "cpu":
    remaining = _by_candidates(use, metric, queries, references, k, own)
  if not len(remaining):
    return

  def from_block(rows: slice, codes: Codes) -> None:
    use(remaining[rows], *nearest(codes, k))

  own = None if own is None else own[remaining]
  if keys is not None:
    keys = keys._replace(queries=keys.queries[remaining])
  for_each_block(from_block, metric, queries[remaining], references, own, keys)


def nearest(
  codes: Codes, k: int
) -> tuple[Int[np.ndarray, "b k"], Int[np.ndarray, "b k"]]:
  """The k smallest codes of each row, ordered by (code, position).

  >>> nearest(np.array([[7, 3, 3, 1]], np.int32), 2)
  (array([[3, 1]]), array([[1, 3]]...))

  Returns:
    the positions, and the codes at these positions.
  """
  if isinstance(codes, Array):
    positions, values = _nearest_on_device(codes, k)
    return np.asarray(positions, np.int64), np.asarray(values)
  keys = np.empty((len(codes), k), np.int64)
  # Row by row, since a row fits the fastest cache. A partition of 32-bit
  # numbers is twice as fast as a partition of keys.
  for i, row in enumerate(codes):
    # Includes all columns that tie for the last place; the sort decides.
    near = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
    key = row[near].astype(np.int64) << 32 | near
    key.sort()
    keys[i] = key[:k]
  return _split(keys)


@functools.partial(jax.jit, static_argnames="k")
def _nearest_on_device(
  codes: Int[Array, "b m"], k: int
) -> tuple[Int[Array, "b k"], Int[Array, "b k"]]:
  """As `nearest`, by `top_k`, which is too slow on a CPU.

  The time of `top_k` grows with the number of columns. So columns are split
  into groups. `top_k` first chooses the k groups whose least codes are
  smallest, then the k nearest columns within these groups. The result is the
  same: before a column of any other group, each of the k groups has a code.
  """
  num_rows, num_columns = codes.shape
  num_groups = -(-num_columns // _GROUP)
  if k * _GROUP >= num_groups:
    # The lower position comes first among equals.
    negated, positions = jax.lax.top_k(~codes, k)
    return positions, ~negated
  filled = [(0, 0), (0, num_groups * _GROUP - num_columns)]
  groups = jnp.pad(codes, filled, constant_values=HIDDEN)
  groups = groups.reshape(num_rows, num_groups, _GROUP)
  _, chosen = jax.lax.top_k(~groups.min(axis=2), k)
  chosen = jnp.sort(chosen, axis=1)  # keeps equal codes in order of position
  columns = jnp.take_along_axis(groups, chosen[:, :, None], axis=1)
  negated, places = jax.lax.top_k(~columns.reshape(num_rows, -1), k)
  group = jnp.take_along_axis(chosen, places // _GROUP, axis=1)
  return group * _GROUP + places % _GROUP, ~negated


def _by_candidates(
  use: UseNearest,
  metric: MetricName,
  queries: Float[np.ndarray, "n d"],
  references: Float[np.ndarray, "m d"],
  k: int,
  own: Int[np.ndarray, " n"] | None,
) -> Int[np.ndarray, " r"]:
  """As `for_each_nearest`, but only for queries that have few candidates.

  Returns:
    the indices of the remaining queries.
  """
  known = METRICS[split_metric(metric)[0]]
  points = _in_product_form(known, queries, references)
  if points is None:
    return np.arange(len(queries))
  x, y = points.x, points.y
  slack = _slack(points)
  group = min(_GROUP, len(y) // (4 * k))
  left_side, right_side = _factors(points, slack, group)
  remaining: list[int] = []

  def work(rows: slice, memory: Int[np.ndarray, "b m"]) -> None:
    np.matmul(left_side[rows], right_side.T, out=memory.view(np.float32))
    numbers = np.arange(rows.start, rows.stop)
    if own is not None:
      is_reference = np.flatnonzero(own[rows] >= 0)
      memory[is_reference, own[rows][is_reference]] = HIDDEN
    candidates = []
    for start in range(0, len(memory), _ROWS):
      block = slice(start, start + _ROWS)
      row, near = _near(memory[block], k, slack[numbers[block]], group)
      counts = np.bincount(row, minlength=len(memory[block]))
      many = counts > _PER_NEIGHBOR * k
      remaining.extend(numbers[block][many])
      candidates.append((counts * ~many, near[~many[row]]))
    counts, near = map(np.concatenate, zip(*candidates, strict=True))
    few, counts = numbers[counts > 0], counts[counts > 0]
    if len(few):
      squared = _squared_differences(x, y, np.repeat(few, counts), near)
      use(few, *_first(points.from_squared(squared), near, counts, k))

  in_threads(work, len(queries), len(right_side))
  return np.array(sorted(remaining), int)


class _Points(NamedTuple):
  """Points whose distance is a function of |x - y|², and their norms."""

  from_squared: Callable[[np.ndarray], np.ndarray]
  x: Float[np.ndarray, "n d"]
  y: Float[np.ndarray, "m d"]
  x_norms: Float[np.ndarray, " n"]
  y_norms: Float[np.ndarray, " m"]


def _in_product_form(
  known: Metric,
  queries: Float[np.ndarray, "n d"],
  references: Float[np.ndarray, "m d"],
) -> _Points | None:
  """Points for the product form; None if it cannot be used."""
  if known.from_squared is None:
    return None
  x, y = queries, references
  if known.on_sphere:
    x, y = (np.asarray(_unit(z)) for z in (x, y))
  x_norms, y_norms = (np.linalg.norm(z.astype(float), axis=1) for z in (x, y))
  norms = np.concatenate([x_norms, y_norms])
  if norms.max() > 1e15 or (known.on_sphere and norms.min() == 0):
    # Squares would overflow. On the sphere, a zero vector is a special case.
    return None
  return _Points(known.from_squared, x, y, x_norms, y_norms)


def _slack(points: _Points) -> Float[np.ndarray, " n"]:
  """How far a candidate may lie beyond the k-th of its query, in |x - y|².

  With u = 2^-24 and N = |x| + |y|, the product form of |x - y|² and the sum of
  squared differences each have an error of at most (d + 8) u N²: sums of d
  terms, a few more roundings, and those of the square root. So they differ by
  at most D = 2 (d + 8) u N². The k references that the product form ranks first
  bound the true k-th distance up to D. Any reference within that bound is, in
  the product form, within 2 D of its k-th. Below the smallest normal number,
  the rounding error is absolute.
  """
  _, x, _, x_norms, y_norms = points
  rounding = np.finfo(np.float32)
  slack = 2 * (x.shape[1] + 8) * rounding.eps * (x_norms + y_norms.max()) ** 2
  return slack + 4 * (x.shape[1] + 8) * rounding.tiny


def _factors(
  points: _Points, slack: Float[np.ndarray, " n"], group: int
) -> tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "p e"]]:
  """The factors of |x|² + |y|² - 2 x·y as one product, plus the slack.

  The result is positive, so its bits have the same order when read as integers,
  which are partitioned faster than floats. References at a very large distance
  pad the last group.
  """
  _, x, y, x_norms, y_norms = points
  left_side = np.column_stack([-2 * x, np.ones(len(x)), x_norms**2 + slack])
  right_side = np.column_stack([y, y_norms**2, np.ones(len(y))])
  padding = np.zeros((-len(y) % group, right_side.shape[1]))
  padding[:, -2] = 1e38
  right_side = np.vstack([right_side, padding])
  return left_side.astype(np.float32), right_side.astype(np.float32)


def _first(
  distances: Float[np.ndarray, " p"],
  near: Int[np.ndarray, " p"],
  counts: Int[np.ndarray, " q"],
  k: int,
) -> tuple[Int[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
  """Positions and codes of the k nearest candidates of each query.

  `near` lists the candidates of the first query, then those of the second, and
  so on. `counts` gives the number of candidates of each query.
  """
  # The code of a nonnegative float is its bits.
  codes = distances.view(np.int32)
  # Pads rows with keys that sort last.
  place = np.arange(max(counts)) < counts[:, None]
  keys = np.full(place.shape, np.iinfo(np.int64).max)
  keys[place] = codes.astype(np.int64) << 32 | near
  keys.sort(axis=1)
  return _split(keys[:, :k])


def _near(
  values: Int[np.ndarray, "b m"],
  k: int,
  slack: Float[np.ndarray, " b"],
  group: int,
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
  """Rows and columns of the values that may be among the k least of their row.

  The values are the bits of positive floats, known up to `slack`. Columns are
  split into groups, and the least value of each group is found. The k-th least
  of these is an upper bound of the k-th least value of the row, and few columns
  are below it. This takes half the time of a partition of the whole row
  (measured).
  """
  groups = values.reshape(len(values), group, -1)
  least = groups.min(axis=1)
  kth = np.partition(least, k - 1, axis=1)[:, k - 1].view(np.float32)
  limit = np.nextafter((kth + slack).astype(np.float32), np.float32(np.inf))
  limit = limit.view(np.int32)[:, None]
  row, which = np.nonzero(least <= limit)
  pair, place = np.nonzero(groups[row, :, which] <= limit[row])
  return row[pair], which[pair] + place * least.shape[1]


def _squared_differences(
  x: Float[np.ndarray, "_ d"],
  y: Float[np.ndarray, "_ d"],
  rows: Int[np.ndarray, " p"],
  columns: Int[np.ndarray, " p"],
) -> Float[np.ndarray, " p"]:
  """|x[rows] - y[columns]|², computed from exact differences."""
  squared = np.empty(len(rows), np.float32)
  pairs = max(1, _DIFFERENCES // x.shape[1])
  for start in range(0, len(rows), pairs):
    block = slice(start, start + pairs)
    difference = x[rows[block]] - y[columns[block]]
    np.einsum("pd,pd->p", difference, difference, out=squared[block])
  return squared


def _split(
  keys: Int[np.ndarray, "b k"],
) -> tuple[Int[np.ndarray, "b k"], Int[np.ndarray, "b k"]]:
  """The positions and the codes that keys hold."""
  return keys & 0xFFFFFFFF, (keys >> 32).astype(np.int32)


def neighbors(
  queries: Float[np.ndarray | Array, "n d"],
  references: Float[np.ndarray | Array, "m d"],
  k: int,
  *,
  metric: MetricName = "l2",
  exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
  """The k nearest references of each query, nearest first.

  Equal distances are ordered by one fixed shuffle of the references. With
  `exclude_self`, a query that *is* a reference does not find itself: its index
  is excluded, not every reference at distance zero.

  >>> points = np.array([[0.0], [1.0], [3.0]])
  >>> neighbors(points, points, 1, exclude_self=True)
  (array([[1], [0], [1]]), array([[1.], [1.], [2.]], dtype=float32))

  Args:
    queries: one point per row.
    references: the points to search.
    k: the number of neighbors of each query.
    metric: a name in `METRICS`, or `(name, {options})`.
    exclude_self: True if query i is reference i; or the index of each query
      among the references, -1 for a query that is not a reference.

  Returns:
    the indices of the references, and the distances.

  Raises:
    InputError: if the metric is unknown, if embeddings are not finite, if an
      index is outside the references, or if k is not between 1 and the number
      of references that a query can find.
  """
  queries = check_embeddings("queries", queries)
  references = check_embeddings("references", references)
  queries, references = as_float32(metric, queries, references)
  order = shuffled(len(references))
  own = places(exclude_self, len(queries), order)
  available = len(references) - bool(own is not None and own.max() >= 0)
  if not 1 <= k <= available:
    raise InputError(
      f"k={k}: each query can find {available} references; choose k from 1 "
      f"to {available}."
    )
  check_whole("k", k, 1)
  indices = np.empty((len(queries), k), np.int64)
  distances = np.empty((len(queries), k), np.float32)

  def use(rows: np.ndarray, positions: np.ndarray, codes: np.ndarray) -> None:
    indices[rows] = order[positions]
    distances[rows] = decode(codes)

  for_each_nearest(use, metric, queries, references[order], k, own)
  return indices, distances


def places(
  exclude_self: bool | Int[np.ndarray | Array, " n"],
  num_queries: int,
  order: Int[np.ndarray, " m"],
) -> Int[np.ndarray, " n"] | None:
  """The place of each query in an order of the references, or None.

  A place is -1 if the query is not a reference. None means that no query is.

  >>> places(np.array([0, -1]), 2, np.array([2, 0, 1]))
  array([ 1, -1])

  Raises:
    InputError: if an index is out of range, or if there is not one index for
      each query.
  """
  if exclude_self is False:
    return None
  num_references = len(order)
  if exclude_self is True:
    if num_queries != num_references:
      raise InputError(
        f"exclude_self: query i must be reference i, but there are "
        f"{num_queries} queries and {num_references} references; give the index"
        " of each query among the references, or -1."
      )
    return np.argsort(order)
  own = np.asarray(exclude_self)
  if own.shape != (num_queries,) or own.dtype.kind not in "iu":
    raise InputError(
      f"exclude_self: shape {own.shape} of {own.dtype}; give True, False, or"
      f" one integer for each of {num_queries} queries."
    )
  own = own.astype(np.int64)
  if own.min() < -1 or own.max() >= num_references:
    raise InputError(
      f"exclude_self: indices from {own.min()} to {own.max()}; there are"
      f" {num_references} references: give 0 to {num_references - 1}, or -1"
      " for a query that is not a reference."
    )
  return np.where(own >= 0, np.argsort(order)[own], -1)
