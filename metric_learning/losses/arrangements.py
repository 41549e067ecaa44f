"""Who meets whom: from a batch to anchors and candidates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from metric_learning.errors import InputError
from metric_learning.inputs import labels_outside
from metric_learning.rows import Points


def rank_in_class(
  labels: Int[Array, " n"], weight: Float[Array, " n"]
) -> Int[Array, " n"]:
  """How many earlier items have the item's label; padding is passed over.

  >>> rank_in_class(jnp.array([7, 3, 7, 7]), jnp.ones(4))
  Array([0, 0, 1, 2], dtype=int32)
  """
  n = labels.shape[0]
  index = jnp.arange(n)
  # Within a class, in batch order, with padding behind all classes.
  order = jnp.lexsort((index, labels, weight <= 0))
  ordered = labels[order]
  first = jnp.concatenate(
    [jnp.ones(min(n, 1), bool), ordered[1:] != ordered[:-1]]
  )
  first |= jnp.concatenate(
    [jnp.zeros(min(n, 1), bool), jnp.diff(weight[order] > 0)]
  )
  start = jax.lax.cummax(jnp.where(first, index, 0))
  return jnp.zeros(n, index.dtype).at[order].set(index - start)


def join(a: Points, b: Points) -> Points:
  """Both sets of points as one; each keeps its groups."""
  return Points(*(jnp.concatenate(pair) for pair in zip(a, b, strict=True)))


def _check_one_positive(points: Points, limit: int, where: str) -> Points:
  """Points of which no label stands more often than the limit.

  Outside a trace more are an error. Traced ones cannot be: those beyond the
  limit become NaN, and so the value of the batch.
  """
  labels, weight = points.labels, points.weight
  if isinstance(labels, jax.core.Tracer) or isinstance(weight, jax.core.Tracer):
    beyond = (weight > 0) & (rank_in_class(labels, weight) >= limit)
    return _poisoned(points, beyond)
  kept = np.asarray(labels)[np.asarray(weight) > 0]
  values, counts = np.unique(kept, return_counts=True)
  if counts.size and counts.max() > limit:
    worst = counts.argmax()
    raise InputError(
      f"label {values[worst]} occurs {counts[worst]} times {where}, and this"
      f" loss has one positive in a row (at most {limit}): give each pair a"
      " label of its own, or use infonce_per_pair, infonce_all or supcon."
    )
  return points


def _poisoned(points: Points, which: Bool[Array, " n"]) -> Points:
  """The points with NaN in place of some: what cannot be said of a trace."""
  poisoned = jnp.where(which[:, None], jnp.nan, points.embeddings)
  return points._replace(embeddings=poisoned)


def two_views(
  params, points: Points, references: Points | None, *, symmetric: bool = False
):
  """Anchors are the first view, candidates the second; or both ways.

  The views are the batch and the references, or else the first and the second
  item of each class in the batch.
  """
  if references is None:
    points = _check_one_positive(points, 2, "in the batch")
    view = rank_in_class(points.labels, points.weight)
    both = points._replace(group=view)
  else:
    points = _check_one_positive(points, 1, "in the batch")
    references = _check_one_positive(references, 1, "in the references")
    both = join(
      points._replace(group=jnp.zeros_like(points.group)),
      references._replace(group=jnp.ones_like(references.group)),
    )
  if symmetric:
    return both, both
  if references is not None:
    # Sides of their own, not one masked: half the rows, half the candidates.
    n = points.labels.shape[0]
    first = Points(*(x[:n] for x in both))
    return first, Points(*(x[n:] for x in both))
  only = lambda v: both._replace(weight=jnp.where(view == v, both.weight, 0))
  return only(0), _seconds(only(1))


def _seconds(points: Points) -> Points:
  """Of points that are the second of their classes, those that weigh anything.

  There are at most n // 2: half the candidates for every anchor.
  """
  order = jnp.argsort(points.weight <= 0, stable=True)
  kept = order[: max(points.labels.shape[0] // 2, 1)]
  return Points(*(x[kept] for x in points))


def joined_views(params, points: Points, references: Points | None):
  """Both views in one batch: each item meets all others."""
  both = points if references is None else join(points, references)
  both = _check_one_positive(both, 2, "in the two views")
  return both, both


def first_pairs(params, points: Points, references: Points | None):
  """One (anchor, positive) pair of each class: its first two items.

  With references, the first item of the class in either. Classes that have
  no pair have no positive, and so no term; they are no candidates.
  """
  rank = rank_in_class(points.labels, points.weight)
  first = lambda side, ranks, r: side._replace(
    weight=jnp.where(ranks == r, side.weight, 0)
  )
  if references is None:
    return first(points, rank, 0), _seconds(first(points, rank, 1))
  ranks = rank_in_class(references.labels, references.weight)
  return first(points, rank, 0), first(references, ranks, 0)


def check_labels(points: Points, classes: int) -> Points:
  """Points whose labels are 0..C-1; padding may have any.

  Outside a trace another label is an error. A traced one cannot be: its item
  becomes NaN, and so the value of the batch, where without a positive it would
  silently count nothing.
  """
  outside = labels_outside(
    points,
    classes,
    f"this loss learned weights for {classes} classes. Number the classes from"
    " 0, or call init(key, num_classes=…) with all of them.",
  )
  return _poisoned(points, outside)


def class_table(
  table: Float[Array, "c *k d"], points: Points
) -> tuple[Points, Points]:
  """The candidates are the rows of a table for the classes 0..C-1.

  Of a table `[c, k, d]` the first rows of all classes come first, then the
  second: what joins the k of a class works on whole vectors of classes, which
  is several times as fast as joining neighbors.
  """
  if table.ndim == 3:
    rows = jnp.moveaxis(table, 1, 0).reshape(-1, table.shape[-1])
  else:
    rows = table
  index = jnp.arange(rows.shape[0])
  # Groups below 0 are those of no item.
  candidates = Points(
    rows,
    index % table.shape[0],
    jnp.ones(rows.shape[0], rows.dtype),
    -1 - index,
  )
  return check_labels(points, table.shape[0]), candidates


def refuse_references(references: Points | None) -> None:
  """Raises `InputError` if there are references."""
  if references is not None:
    raise InputError(
      "a classification loss compares with its class weights; it takes no"
      " references."
    )


def meet_classes(params, points: Points, references: Points | None):
  """Anchors are the batch, candidates the class weights."""
  refuse_references(references)
  return class_table(params["weights"], points)


def init_table(key, num_classes, embedding_dim, num_centers=None):
  """Class weights `[c, d]`, or `[c, k, d]`, drawn from N(0, 1/d)."""
  if num_classes is None or embedding_dim is None:
    raise InputError(
      "this loss learns weights for each class: call"
      " init(key, num_classes=…, embedding_dim=…)."
    )
  centers = () if num_centers is None else (num_centers,)
  shape = (num_classes, *centers, embedding_dim)
  return {"weights": jax.random.normal(key, shape) / math.sqrt(embedding_dim)}
