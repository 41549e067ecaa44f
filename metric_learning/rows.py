"""Rows (what one anchor sees) and terms (what a loss computes from a row).

    embeddings ──metric──▶ rows ──miner──▶ rows ──loss──▶ terms ──▶ one number

A loss is written for one anchor, in one dimension. `over_rows` maps it over all
anchors, at once or in blocks, and `reduce_terms` reduces the terms to one
number. This module is independent of particular losses, metrics and miners.
"""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning.devices import batch_axes, sharers
from metric_learning.errors import check_choice
from metric_learning.relations import Weights, same_label


class Row(NamedTuple):
  """One anchor and its m candidates.

  Positives and negatives are weights >= 0, which are 0 or 1 for plain labels.
  The anchor itself has weight 0 in both. `weight` is 0 for padding. `triplets`
  holds the triplets that a miner chose, if these are not all combinations of
  positives and negatives: see `miners`.
  """

  distances: Float[Array, "*n m"]
  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  weight: Float[Array, "*n"]
  label: Int[Array, "*n"]
  triplets: Any = None


class Context(NamedTuple):
  """The inputs of a loss beyond the row of an anchor.

  own: values of the anchor.
  shared: values of the candidates (`[m]`) or of the batch.
  state: the state for the next batch.
  """

  own: Any = None
  shared: Any = None
  state: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Terms:
  """Four sums over the terms of an anchor; the sums of anchors can be added.

  total: the weighted sum of the values of existing terms.
  count: the sum of the weights of existing terms.
  active_total, active: the same sums over strictly positive terms.
  """

  # Each has the shape `[*n]`. The type is Any, since JAX also builds this tuple
  # from values that are not arrays.
  total: Any
  count: Any
  active_total: Any
  active: Any


# The result of a loss on a row. Each part is reduced separately. In a part with
# one of these names, every term is active.
Parts = dict[str, Terms]
ALWAYS_ACTIVE = ("softmax", "regularization")


_WINDOW: contextvars.ContextVar[tuple[float, float] | None] = (
  contextvars.ContextVar("window", default=None)
)


@contextlib.contextmanager
def _within(window: tuple[float, float] | None) -> Iterator[None]:
  token = _WINDOW.set(window)
  try:
    yield
  finally:
    _WINDOW.reset(token)


def only_between(
  low: float, high: float
) -> contextlib.AbstractContextManager[None]:
  """A context in which a term exists only if low < value < high.

  It takes effect when terms are made, that is, when a loss is traced.

  >>> with only_between(0.0, 5.0):
  ...   make_terms(jnp.array([3.0, 0.0, 7.0]), jnp.ones(3)).count
  Array(1., dtype=float32)
  """
  return _within((low, high))


def on_the_way() -> contextlib.AbstractContextManager[None]:
  """Disables the value window; use it for intermediate sums."""
  return _within(None)


def made_here(make: Callable[..., Any]) -> Callable[..., Any]:
  """Captures the active value window for later calls of `make`.

  A custom derivative needs this: it is traced later, perhaps outside the
  window.
  """
  window = _WINDOW.get()

  def made(*args: Any) -> Any:
    with _within(window):
      return make(*args)

  return made


def make_terms(
  values: Float[Array, "*n"], weights: Float[Array, "*n"]
) -> Terms:
  """Sums values into Terms; a value of weight 0 does not count.

  >>> values = jnp.array([3.0, 0.0, 7.0])
  >>> make_terms(values, jnp.array([1.0, 1.0, 0.0])).total
  Array(3., dtype=float32)
  """
  exists = weights > 0
  window = _WINDOW.get()
  if window is not None:
    exists &= (window[0] < values) & (values < window[1])
  weighted = jnp.where(exists, weights * values, 0)
  active = exists & (values > 0)
  return Terms(
    total=jnp.sum(weighted),
    count=jnp.sum(jnp.where(exists, weights, 0)),
    active_total=jnp.sum(jnp.where(active, weighted, 0)),
    active=jnp.sum(jnp.where(active, weights, 0)),
  )


def add_terms(a: Terms, b: Terms) -> Terms:
  """The sum of two Terms, which joins two kinds of terms into one part."""
  return jax.tree.map(jnp.add, a, b)


def exists(weights: Float[Array, "*m"]) -> Float[Array, ""]:
  """1 if any weight is positive, else 0."""
  # A maximum of numbers is faster than an "or" of truth values.
  return (jnp.max(weights, initial=0) > 0).astype(weights.dtype)


def weighted_logsumexp(
  values: Float[Array, " m"], weights: Float[Array, " m"]
) -> Float[Array, ""]:
  """log Σ_j w_j exp(z_j) over w_j > 0; -inf with gradient 0 if there are none.

  >>> weighted_logsumexp(jnp.zeros(3), jnp.array([2.0, 2.0, 0.0]))
  Array(1.3862944, dtype=float32)
  """
  exists = weights > 0
  top = jnp.max(jnp.where(exists, values, -jnp.inf), initial=-jnp.inf)
  top = jax.lax.stop_gradient(jnp.where(jnp.isneginf(top), 0, top))
  # Select before the exponential: its overflow would give 0 * inf in the
  # gradient.
  shifted = jnp.where(exists, values - top, 0)
  total = jnp.sum(jnp.where(exists, weights * jnp.exp(shifted), 0))
  any_term = total > 0
  log_total = jnp.log(jnp.where(any_term, total, 1))
  return jnp.where(any_term, log_total + top, -jnp.inf)


# The size of the groups that make a search among the candidates fast.
_GROUP = 64


def _in_groups(
  values: Shaped[Array, "*n m"], fill: float | bool
) -> Shaped[Array, "*n groups size"]:
  """Splits the last axis into groups of `_GROUP`; `fill` completes the last."""
  missing = -values.shape[-1] % _GROUP
  padding = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
  padded = jnp.pad(values, padding, constant_values=fill)
  return padded.reshape(*values.shape[:-1], -1, _GROUP)


def nearest(
  distances: Float[Array, " m"], allowed: Bool[Array, " m"]
) -> Int[Array, ""]:
  """The index of the smallest allowed distance; ties take the lowest index.

  It equals an argmin, NaN included, and is faster on a CPU. If none is allowed,
  it is 0.

  >>> distances = jnp.array([2.0, 0.0, 1.0, 1.0])
  >>> int(nearest(distances, jnp.array([True, False, True, True])))
  2
  """
  groups = _in_groups(jnp.where(allowed, distances, jnp.inf), jnp.inf)
  group = jnp.argmin(jnp.min(groups, axis=-1))
  return _GROUP * group + jnp.argmin(groups[group])


def farthest(
  distances: Float[Array, " m"], allowed: Bool[Array, " m"]
) -> Int[Array, ""]:
  """The index of the largest allowed distance, like `nearest`."""
  return nearest(-distances, allowed)


def each_positive(
  positives: Float[Array, "*n m"],
  step: Callable[[Array, Any], Any],
  start: Any,
) -> Any:
  """Applies `step(p, carry)` to each p of weight > 0, in order.

  For several rows at once, p is an array with one index per row. The index of a
  row that has no further positives is m.
  """
  m = positives.shape[-1]
  # A search through all m at each step would cost as much as the step itself.
  # This one looks into the group of p, and at the first positive of each other.
  exists = _in_groups(positives > 0, False)
  groups, place = exists.shape[-2], jnp.arange(_GROUP)
  starts = _GROUP * jnp.arange(groups)
  indices = starts[:, None] + place
  firsts = jnp.min(jnp.where(exists, indices, m), axis=-1, initial=m)

  def following(p: Array) -> Array:
    """The first positive after p, or m."""
    group = jnp.minimum((p + 1) // _GROUP, groups - 1)[..., None]
    here = jnp.take_along_axis(exists, group[..., None], axis=-2)[..., 0, :]
    index = _GROUP * group + place
    later = here & (index > p[..., None])
    in_group = jnp.min(jnp.where(later, index, m), axis=-1, initial=m)
    others = jnp.where(starts > _GROUP * group, firsts, m)
    return jnp.minimum(in_group, jnp.min(others, axis=-1, initial=m))

  return jax.lax.while_loop(
    lambda state: jnp.any(state[0] < m),
    lambda state: (following(state[0]), step(*state)),
    (following(jnp.full(positives.shape[:-1], -1)), start),
  )[1]


# --- Reductions -------------------------------------------------------------


def ratio(
  total: Float[Array, "*n"], count: Float[Array, "*n"]
) -> Float[Array, "*n"]:
  """total / count; 0 with gradient 0 if the count is 0."""
  is_counted = count > 0
  return jnp.where(is_counted, total / jnp.where(is_counted, count, 1), 0)


def _mean(t: Terms, w: Array | float) -> Array:
  """The mean over all terms: Σ_i w_i·total_i / Σ_i w_i·count_i."""
  return ratio(jnp.sum(w * t.total), jnp.sum(w * t.count))


def _mean_active(t: Terms, w: Array | float) -> Array:
  """The mean over the terms that are not 0."""
  return ratio(jnp.sum(w * t.active_total), jnp.sum(w * t.active))


def _per_anchor_mean(t: Terms, w: Array | float) -> Array:
  """The mean over anchors of the mean over the terms of each anchor."""
  anchors = jnp.sum(w * (t.count > 0).astype(t.total.dtype))
  return ratio(jnp.sum(w * ratio(t.total, t.count)), anchors)


def _sum(t: Terms, w: Array | float) -> Array:
  """The sum of all terms: Σ_i w_i·total_i."""
  return jnp.sum(w * t.total)


def _none(t: Terms, w: Array | float) -> Array:
  """The mean over the terms of each anchor, without further reduction."""
  return ratio(w * t.total, w * t.count)


# Functions of the terms and the weight of each anchor.
REDUCTIONS: dict[str, Callable[[Terms, Array | float], Array]] = {
  "mean": _mean,
  "mean_active": _mean_active,
  "per_anchor_mean": _per_anchor_mean,
  "sum": _sum,
  "none": _none,
}


def reduce_terms(
  terms: Terms,
  reduction: str,
  weights: Float[Array, " anchors"] | None = None,
) -> Float[Array, "*n"]:
  """Reduces the Terms of n anchors; without terms, to 0 with gradient 0.

  mean: total / count.
  mean_active: the mean over strictly positive terms.
  per_anchor_mean: the mean of each anchor, then the mean over anchors that have
    a term.
  sum: the total.
  none: the mean of each anchor, `[n]`.

  An anchor of weight w counts w times, with all its terms.

  >>> two = Terms(*jnp.array([[6.0, 0.0], [2.0, 1.0], [6.0, 0.0], [1.0, 0.0]]))
  >>> [float(reduce_terms(two, name)) for name in ("mean", "mean_active")]
  [2.0, 6.0]
  >>> float(reduce_terms(two, "mean", jnp.array([1.0, 4.0])))  # 6 / (2 + 4)
  1.0
  """
  check_choice("reduction", reduction, REDUCTIONS)
  return REDUCTIONS[reduction](terms, 1.0 if weights is None else weights)


# --- From points to rows ----------------------------------------------------


class Points(NamedTuple):
  """Embeddings, with the labels, weights and groups that rows need.

  weight: 0 for padding.
  group: points of the same group are never compared, such as a point with
    itself, or two items of the same view.
  """

  embeddings: Float[Array, "n d"]
  labels: Int[Array, " n *k"]
  weight: Float[Array, " n"]
  group: Int[Array, " n"]


def make_rows(
  anchors: Points,
  candidates: Points,
  distance: Callable[[Array, Array], Array],
  affinity: Float[Array, "n m"] | None = None,
  relation: Callable[[Array, Array], Weights] = same_label,
) -> Row:
  """The rows of all anchors, with a leading axis n.

  The relation turns labels into positives and negatives. An affinity a in
  [0, 1] replaces the labels: the pair is positive with weight a and negative
  with weight 1 - a, or neither if a is NaN.
  """
  distances = distance(anchors.embeddings, candidates.embeddings)
  if affinity is None:
    positives, negatives = relation(anchors.labels, candidates.labels)
  else:
    positives, negatives = (
      jnp.where(jnp.isnan(affinity), 0, side)
      for side in (affinity, 1 - affinity)
    )
  comparable = anchors.group[:, None] != candidates.group[None, :]
  weight = jnp.where(comparable, candidates.weight[None, :], 0)
  weight = jnp.where(anchors.weight[:, None] > 0, weight, 0)
  return Row(
    distances=distances,
    positives=weight * positives.astype(distances.dtype),
    negatives=weight * negatives.astype(distances.dtype),
    weight=anchors.weight,
    label=anchors.labels,
  )


def over_rows(
  anchors: Points,
  candidates: Points,
  distance: Callable[[Array, Array], Array],
  affinity: Float[Array, "n m"] | None = None,
  block_size: int | None = None,
  relation: Callable[[Array, Array], Weights] = same_label,
  mesh: Mesh | None = None,
) -> Callable[..., Any]:
  """Maps `f(row, *own)` over the rows of all anchors.

  The returned function takes f and any number of trees with leading axis n: the
  further arguments of f for each anchor. With `batched=True`, f gets a block of
  rows at once. With `block_size`, only that many rows exist at a time in the
  forward and the backward pass: memory is O(block_size * m), and the value is
  the same as without blocks.

  With a `mesh`, each device calls this function (see `on_devices`). It maps f
  over its share of the anchors and gathers the results of all devices. A device
  then holds only the affinity rows of its share.
  """
  if mesh is not None:
    return _over_share(
      mesh, anchors, candidates, distance, affinity, block_size, relation
    )
  if block_size is None or block_size >= anchors.labels.shape[0]:
    rows = make_rows(anchors, candidates, distance, affinity, relation)
    return lambda f, *own, batched=False: (f if batched else jax.vmap(f))(
      rows, *own
    )

  n = anchors.labels.shape[0]
  blocks = -(-n // block_size)

  def split(x: Array) -> Array:
    # Pads the last block with anchors of weight 0.
    x = jnp.pad(x, [(0, blocks * block_size - n)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(blocks, block_size, *x.shape[1:])

  def mapped(f: Callable[..., Any], *own: Any, batched: bool = False) -> Any:
    f = f if batched else jax.vmap(f)

    # The loop keeps the passes apart. The barriers that `checkpoint` adds by
    # default would also keep inside the loop what all blocks share.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(inputs: Any) -> Any:
      points, pairs, own_values = inputs
      rows = make_rows(points, candidates, distance, pairs, relation)
      return f(rows, *own_values)

    out = jax.lax.map(block, jax.tree.map(split, (anchors, affinity, own)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], out)

  return mapped


def _over_share(
  mesh: Mesh,
  anchors: Points,
  candidates: Points,
  distance: Callable[[Array, Array], Array],
  affinity: Array | None,
  block_size: int | None,
  relation: Callable[[Array, Array], Weights],
) -> Callable[..., Any]:
  """`over_rows` for one device, which maps over its share of the anchors."""
  axes, count, n = batch_axes(mesh), sharers(mesh), anchors.labels.shape[0]
  each = -(-n // count)

  def share_of(x: Array) -> Array:
    # Pads the last share with anchors of weight 0.
    x = jnp.pad(x, [(0, each * count - n)] + [(0, 0)] * (x.ndim - 1))
    return jax.lax.dynamic_slice_in_dim(
      x, jax.lax.axis_index(axes) * each, each
    )

  over_anchors = over_rows(
    jax.tree.map(share_of, anchors),
    candidates,
    distance,
    affinity,
    block_size,
    relation,
  )

  def mapped(f: Callable[..., Any], *own: Any, batched: bool = False) -> Any:
    out = over_anchors(f, *jax.tree.map(share_of, own), batched=batched)
    gather = lambda x: jax.lax.all_gather(x, axes, tiled=True)[:n]
    return jax.tree.map(gather, out)

  return mapped
