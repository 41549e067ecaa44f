"""Which points of a batch are anchors, and which are their candidates."""

import math
from typing import Any

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
  """For each item, how many earlier items have its label, without padding.

  >>> rank_in_class(jnp.array([7, 3, 7, 7]), jnp.ones(4))
  Array([0, 0, 1, 2], dtype=int32)
  """
  n = labels.shape[0]
  index = jnp.arange(n)
  # Sorted by class, then in the order of the batch; padding comes last.
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
  """Joins two sets of points; all points keep their groups."""
  return Points(*(jnp.concatenate(pair) for pair in zip(a, b, strict=True)))


def _check_one_positive(points: Points, limit: int, where: str) -> Points:
  """Returns the points if no label occurs more often than the limit.

  Outside a trace, more occurrences raise an error. Traced labels cannot raise
  one: items beyond the limit become NaN, and so does the value of the batch.
  """
  labels, weight = points.labels, points.weight
  if isinstance(labels, jax.core.Tracer) or isinstance(weight, jax.core.Tracer):
    beyond = (weight > 0) & (rank_in_class(labels, weight) >= limit)
    return _poisoned(points, beyond)
  without_padding = np.asarray(labels)[np.asarray(weight) > 0]
  values, counts = np.unique(without_padding, return_counts=True)
  if counts.size and counts.max() > limit:
    worst = counts.argmax()
    raise InputError(
      f"label {values[worst]} occurs {counts[worst]} times {where}, and at most"
      f" {limit} is allowed, since this loss has one positive per anchor: give"
      " each pair its own label, or use infonce_per_pair, infonce_all or"
      " supcon."
    )
  return points


def _poisoned(points: Points, which: Bool[Array, " n"]) -> Points:
  """Replaces the points at `which` by NaN, as a trace cannot raise an error."""
  poisoned = jnp.where(which[:, None], jnp.nan, points.embeddings)
  return points._replace(embeddings=poisoned)


def two_views(
  params: Any,
  points: Points,
  references: Points | None,
  *,
  symmetric: bool = False,
) -> tuple[Points, Points]:
  """Anchors are the first view, and candidates are the second view.

  The views are the batch and the references. Without references, they are the
  first and the second item of each class in the batch. With `symmetric`, the
  items of both views are anchors and candidates.
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
    # Separate sides instead of masks: half the rows and half the candidates.
    n = points.labels.shape[0]
    first = Points(*(x[:n] for x in both))
    return first, Points(*(x[n:] for x in both))
  only = lambda v: both._replace(weight=jnp.where(view == v, both.weight, 0))
  return only(0), _compact(only(1))


def _compact(points: Points) -> Points:
  """The points of positive weight, if only second items of classes have any.

  There are at most n // 2 of them, so that each anchor has half the candidates.
  """
  order = jnp.argsort(points.weight <= 0, stable=True)
  indices = order[: max(points.labels.shape[0] // 2, 1)]
  return Points(*(x[indices] for x in points))


def joined_views(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Joins both views in one batch, where each item meets all others."""
  both = points if references is None else join(points, references)
  both = _check_one_positive(both, 2, "in the two views")
  return both, both


def first_pairs(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """One (anchor, positive) pair of each class: its first two items.

  With references, the pair is the first item of the class in the batch and its
  first item in the references. If a class in the batch has no pair, its anchor
  has no positive and no term, and the class is not a candidate.
  """
  rank = rank_in_class(points.labels, points.weight)
  first = lambda side, ranks, r: side._replace(
    weight=jnp.where(ranks == r, side.weight, 0)
  )
  if references is None:
    return first(points, rank, 0), _compact(first(points, rank, 1))
  ranks = rank_in_class(references.labels, references.weight)
  return first(points, rank, 0), first(references, ranks, 0)


def check_labels(points: Points, classes: int) -> Points:
  """Returns the points if all labels are 0..C-1; padding may have any label.

  Outside a trace, another label raises an error. A traced label cannot raise
  one: its item becomes NaN, and so does the value of the batch. Otherwise the
  item, which has no positive, would be ignored silently.
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

  For a table `[c, k, d]`, the first rows of all classes come first, then all
  second rows, and so on. Joining the k rows of a class then works on whole
  vectors of classes, which is several times as fast as joining neighbors.
  """
  if table.ndim == 3:
    rows = jnp.moveaxis(table, 1, 0).reshape(-1, table.shape[-1])
  else:
    rows = table
  index = jnp.arange(rows.shape[0])
  # No item has a group below 0, so that all items meet all candidates.
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
      "a classification loss compares items with its class weights; it takes no"
      " references."
    )


def meet_classes(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Anchors are the batch, and candidates are the class weights."""
  refuse_references(references)
  return class_table(params["weights"], points)


def init_table(
  key: Array,
  num_classes: int | None,
  embedding_dim: int | None,
  num_centers: int | None = None,
) -> dict[str, Array]:
  """Class weights `[c, d]`, or `[c, k, d]`, drawn from N(0, 1/d)."""
  if num_classes is None or embedding_dim is None:
    raise InputError(
      "this loss learns weights for each class: call"
      " init(key, num_classes=…, embedding_dim=…)."
    )
  centers = () if num_centers is None else (num_centers,)
  shape = (num_classes, *centers, embedding_dim)
  return {"weights": jax.random.normal(key, shape) / math.sqrt(embedding_dim)}
