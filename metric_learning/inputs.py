"""Checks inputs: returns valid arrays, or raises an error with the reason.

Shapes and types are always checked, numbers only outside jit.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from metric_learning.distances import comparable, widen
from metric_learning.errors import InputError
from metric_learning.relations import RELATIONS
from metric_learning.rows import Points

# The advice for labels that an objective does not accept.
_RENUMBER = (
  "Number the classes once for all sides: np.unique(labels,"
  " return_inverse=True)[1]."
)


def is_traced(*arrays: Any) -> bool:
  """Whether any of the arrays is traced, as under jit."""
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arrays))


def _array(name: str, values: Any) -> np.ndarray | Array:
  """A JAX array if the values are JAX arrays, else a NumPy array.

  NumPy keeps all 64 bits, which JAX may truncate to 32.
  """
  if isinstance(values, jax.Array):
    return values
  try:
    # A list may hold traced numbers, which a NumPy array cannot.
    return jnp.asarray(values) if is_traced(values) else np.asarray(values)
  except (TypeError, ValueError) as error:
    raise InputError(f"{name} must be an array of numbers: {error}") from error


def _real(name: str, values: Any, shape: str) -> np.ndarray | Array:
  """An array of real numbers with the rank of `shape`."""
  array = _array(name, values)
  if not (
    jnp.issubdtype(array.dtype, jnp.floating)
    or jnp.issubdtype(array.dtype, jnp.integer)
    or array.dtype == bool
  ):
    raise InputError(f"{name} must be real numbers, got {array.dtype}.")
  if array.ndim != shape.count(",") + 1:
    raise InputError(f"{name} must be {shape}, got shape {array.shape}.")
  return array


def as_labels(labels: Any, name: str = "labels") -> Shaped[Array, " n *k"]:
  """Labels as JAX integers, without overflow.

  Raises:
    InputError: if labels are not integers; or, outside jit, if a number needs
      more than 32 bits (64 in x64 mode). Under jit, JAX has already truncated
      such numbers.

  >>> as_labels([3, -1])
  Array([ 3, -1], dtype=int32)
  """
  if labels is None:
    raise InputError(
      f"{name} are missing; with an affinity, zeros are sufficient."
    )
  array = _array(name, labels)
  if not (jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool):
    raise InputError(
      f"{name} must be integers, got {array.dtype}: they name classes."
      f" {_RENUMBER}"
    )
  limits = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
  if not is_traced(array) and not np.can_cast(array.dtype, limits.dtype):
    numbers = np.asarray(array)
    outside = (numbers < limits.min) | (numbers > limits.max)
    if outside.any():
      raise InputError(
        f"{name} hold {numbers[outside][0]}, which does not fit {limits.bits}"
        f" bits: different classes would become one. {_RENUMBER}"
      )
  return jnp.asarray(array)


def points_of(
  embeddings: Float[Array, "n d"],
  labels: Int[Array, " n *k"],
  where: Bool[Array, " n"] | None = None,
  name: str = "labels",
  relation: str = "same_label",
) -> Points:
  """Checks a batch and returns it as points.

  Raises:
    InputError: if shapes, types or labels do not fit.
  """
  labels = as_labels(labels, name)
  embeddings = jnp.asarray(_real("embeddings", embeddings, "[n, d]"))
  wanted = "[n]" if RELATIONS[relation].labels == "one" else "[n, k]"
  n = embeddings.shape[0]
  if labels.ndim != wanted.count(",") + 1 or labels.shape[0] != n:
    raise InputError(
      f"{name} must be {wanted} and embeddings [n, d]; got {labels.shape} and"
      f" {embeddings.shape}."
    )
  if embeddings.shape[1] == 0:
    raise InputError(
      f"embeddings of shape {embeddings.shape} have no features: all distances"
      " would be 0."
    )
  x = widen(embeddings)
  weight = jnp.ones(n, x.dtype)
  if where is not None:
    where = jnp.asarray(_array("where", where))
    if where.shape != (n,) or where.dtype != bool:
      raise InputError(
        f"where must be boolean, one for each of {n} items; got {where.dtype}"
        f" {where.shape}. To weight items by numbers, use weights=."
      )
    weight = where.astype(x.dtype)
    # Values of padding, even a NaN, must not reach a gradient.
    x = jnp.where(where[:, None], x, 0)
  return Points(x, labels, weight, jnp.arange(n))


def references_of(
  references: Any,
  labels: Any,
  self_index: Any,
  points: Points,
  relation: str,
) -> tuple[Points, Points]:
  """The points and the references, with groups that mark identical items.

  Raises:
    InputError: if shapes, types, labels or indices do not fit.
  """
  if labels is None:
    raise InputError("references need reference_labels, one for each.")
  others = points_of(references, labels, None, "reference_labels", relation)
  comparable(points.embeddings, others.embeddings, rank=2)
  # References get negative groups, so that they match an anchor only by
  # self_index.
  others = others._replace(group=-1 - others.group)
  if self_index is None:
    return points, others
  n, m = points.labels.shape[0], others.labels.shape[0]
  index = as_labels(self_index, "self_index")
  if index.shape != (n,):
    raise InputError(
      f"self_index must be one integer for each of {n} items, got shape"
      f" {index.shape}."
    )
  outside = ((index < -1) | (index >= m)) & (points.weight > 0)
  if not is_traced(outside) and np.any(outside):
    raise InputError(
      f"self_index holds {np.asarray(index)[np.asarray(outside)][0]}, but it"
      f" must be an index of a reference, 0..{m - 1}, or -1 for none."
    )
  # A traced index cannot be checked: if it is out of range, its item and the
  # value of the loss become NaN.
  return points._replace(
    embeddings=jnp.where(outside[:, None], jnp.nan, points.embeddings),
    group=jnp.where(index < 0, points.group, -1 - index),
  ), others


def labels_outside(
  points: Points, classes: int, advice: str
) -> Bool[Array, " n"]:
  """Which points have a label outside 0..C-1; padding may have any label.

  Raises:
    InputError: outside jit, if there is such a point; `advice` ends the
      message.
  """
  labels = points.labels
  outside = (labels < 0) | (labels >= jnp.asarray(classes))
  outside &= points.weight > 0
  if not is_traced(outside) and np.any(outside):
    worst = np.asarray(labels)[np.asarray(outside)][0]
    raise InputError(f"label {worst} is outside 0..{classes - 1}: {advice}")
  return outside


def as_weights(
  name: str, weights: Any, count: int | None = None
) -> Float[Array, " n"]:
  """Weights, which must be at least 0; negative traced ones become NaN.

  Raises:
    InputError: if the shape or type is wrong; or, outside jit, if a weight is
      negative or not finite.

  >>> as_weights("weights", [1, 2.5])
  Array([1. , 2.5], dtype=float32)
  """
  array = _real(name, weights, "[n]")
  if count is None and len(array) == 0:
    raise InputError(f"{name} are empty: give one for each class.")
  if count is not None and len(array) != count:
    raise InputError(f"{name} must be {count} numbers, got {len(array)}.")
  if not is_traced(array):
    bad = ~(np.isfinite(np.asarray(array, float)) & (np.asarray(array) >= 0))
    if bad.any():
      raise InputError(
        f"{name} must be at least 0 and finite; number {np.argmax(bad)} is"
        f" {np.asarray(array)[bad][0]}."
      )
  array = jnp.asarray(array)
  array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
  return jnp.where(jnp.isfinite(array) & (array >= 0), array, jnp.nan)


def as_affinity(
  affinity: Any, points: Points, references: Points | None
) -> Float[Array, "n m"]:
  """The affinity of anchors and candidates, in [0, 1] or NaN.

  Raises:
    InputError: if the shape or type is wrong; or, outside jit, if a number is
      outside this range.
  """
  candidates = points if references is None else references
  shape = (points.labels.shape[0], candidates.labels.shape[0])
  affinity = jnp.asarray(_real("affinity", affinity, "[n, m]"))
  if affinity.shape != shape:
    raise InputError(
      f"affinity must be {shape}, anchors by candidates; got {affinity.shape}."
    )
  if not is_traced(affinity):
    numbers = np.asarray(affinity, float)
    outside = (numbers < 0) | (numbers > 1)
    if outside.any():
      raise InputError(
        f"affinity must be in [0, 1], or NaN for no pair; it holds"
        f" {numbers[outside][0]}."
      )
  return affinity


def warn_if_alone(loss: str, labels: Array) -> None:
  """Outside jit, warns about a batch in which no label occurs twice."""
  if is_traced(labels) or labels.ndim > 1:
    return
  if len(labels) > 1 and len(np.unique(np.asarray(labels))) == len(labels):
    warnings.warn(
      f"{loss} needs positives, but every label occurs once in this batch: the"
      " value is 0. Draw two or more items of a class.",
      stacklevel=3,
    )
