"""Relations: which labels count as similar.

A relation maps labels `[n, …]` and `[m, …]` to positive and negative weights
`[n, m]`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from metric_learning.errors import InputError

Weights = tuple[Float[Array, "n m"], Float[Array, "n m"]]


def same_label(a: Num[Array, " n"], b: Num[Array, " m"]) -> Weights:
  """Positive if the labels are equal, else negative.

  >>> same_label(jnp.array([1]), jnp.array([1, 2]))[0]
  Array([[1., 0.]], dtype=float32)
  """
  same = a[:, None] == b[None, :]
  return same.astype(float), (~same).astype(float)


def _overlap(a: Array, b: Array) -> tuple[Array, Array]:
  """The sizes of the intersection and the union of each pair of label sets."""
  a, b = (a != 0).astype(float), (b != 0).astype(float)
  common = a @ b.T
  return common, jnp.sum(a, 1)[:, None] + jnp.sum(b, 1)[None, :] - common


def any_label(a: Num[Array, "n k"], b: Num[Array, "m k"]) -> Weights:
  """Multi-hot labels: positive if a label is shared, else negative.

  >>> any_label(jnp.array([[1, 1, 0]]), jnp.array([[0, 1, 1], [0, 0, 1]]))[0]
  Array([[1., 0.]], dtype=float32)
  """
  related = _overlap(a, b)[0] > 0
  return related.astype(float), (~related).astype(float)


def jaccard(a: Num[Array, "n k"], b: Num[Array, "m k"]) -> Weights:
  """Multi-hot labels: positive by |A∩B| / |A∪B|, negative if that is 0.

  >>> jaccard(jnp.array([[1, 1, 0]]), jnp.array([[1, 0, 0], [0, 0, 1]]))[0]
  Array([[0.5, 0. ]], dtype=float32)
  """
  common, union = _overlap(a, b)
  positives = common / jnp.where(union > 0, union, 1)
  return positives, (common == 0).astype(float)


def levels(
  a: Num[Array, "n k"],
  b: Num[Array, "m k"],
  *,
  weights: Sequence[float],
) -> Weights:
  """Labels at k levels: positive with the largest weight of an equal level.

  A pair is negative if no level of positive weight is equal.

  >>> coarse_and_fine = jnp.array([[0, 1]]), jnp.array([[0, 1], [0, 2], [3, 4]])
  >>> levels(*coarse_and_fine, weights=(0.5, 1.0))[0]
  Array([[1. , 0.5, 0. ]], dtype=float32)
  """
  if len(weights) != a.shape[1]:
    raise InputError(
      f"levels has {len(weights)} weights, but labels have {a.shape[1]} levels."
    )
  equal = [
    weight * (a[:, None, level] == b[None, :, level])
    for level, weight in enumerate(weights)
  ]
  positives = jnp.max(jnp.stack(equal), axis=0)
  return positives, (positives == 0).astype(float)


class Relation(NamedTuple):
  """A relation: which labels count as similar.

  weights: `(a, b, *, …) -> (positives, negatives)`, from the labels of two
    sides.
  labels: the kind of labels that it compares. "one": one label for each item,
    `[n]`. "several": `[n, k]` of 0 and 1, with a column for each class.
    "levels": `[n, k]`, with a number for each level, the coarsest level first.
  """

  weights: Callable[..., Weights]
  labels: Literal["one", "several", "levels"]


RELATIONS: dict[str, Relation] = {
  "same_label": Relation(same_label, "one"),
  "any_label": Relation(any_label, "several"),
  "jaccard": Relation(jaccard, "several"),
  "levels": Relation(levels, "levels"),
}
