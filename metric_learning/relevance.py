"""Which references are relevant to a query: those that share a label.

Items have one label, `[n]`, or several, `[n, k]`: 1 in the column of each class
of the item, else 0. Scores and data checks use this module.
"""

import numpy as np
from jaxtyping import Bool, Int, Shaped

from metric_learning.errors import InputError

Labels = Shaped[np.ndarray, "n *k"]
Counts = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]

# The number of rows of the query-reference matrix in memory at a time.
_BLOCK = 512


def check_several(where: str, labels: Shaped[np.ndarray, "n k"]) -> None:
  """Checks labels with several for an item.

  Raises:
    InputError: for numbers other than 0 and 1, and for items without a label.

  >>> check_several("labels", np.array([[1, 1, 0], [0, 0, 0]]))
  Traceback (most recent call last):
  metric_learning.errors.InputError: labels: 1 of 2 items have no label: item \
1. Give each a label, or leave these items out.
  """
  if labels.dtype.kind not in "biu":
    raise InputError(
      f"{where}: {labels.dtype} {labels.shape}; where an item has several"
      " labels, give integers 0 and 1, a row for each item and a column for"
      " each class."
    )
  other = (labels != 0) & (labels != 1)
  if other.any():
    raise InputError(
      f"{where}: {labels[other][0]} in the row of item"
      f" {np.argmax(other.any(axis=1))}; where an item has several labels, give"
      " 1 in the column of each of its classes, and else 0."
    )
  bare = np.flatnonzero(~labels.any(axis=1))
  if len(bare):
    shown = ", ".join(map(str, bare[:5]))
    more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""
    raise InputError(
      f"{where}: {len(bare)} of {len(labels)} items have no label: item"
      f" {shown}{more}. Give each a label, or leave these items out."
    )


def related(
  labels: Shaped[np.ndarray, " n *k"], others: Shaped[np.ndarray, " m *k"]
) -> Bool[np.ndarray, "n m"]:
  """Whether two items have a label in common.

  >>> related(np.array([4, 7]), np.array([7, 4, 7])).astype(int)
  array([[0, 1, 0],
         [1, 0, 1]])
  >>> related(np.array([[1, 1, 0]]), np.array([[0, 1, 1], [0, 0, 1]]))
  array([[ True, False]])
  """
  if labels.ndim == 1:
    return others == labels[:, None]
  # float32 counts exactly up to 2^24 common labels, and multiplies fast.
  common = labels.astype(np.float32) @ others.astype(np.float32).T
  return common > 0


def related_at(
  labels: Shaped[np.ndarray, " n *k"],
  others: Shaped[np.ndarray, " m *k"],
  positions: Int[np.ndarray, "n d"],
) -> Bool[np.ndarray, "n d"]:
  """Whether an item has a label in common with the others at its positions.

  >>> related_at(np.array([4, 7]), np.array([7, 4]), np.array([[0], [0]]))
  array([[False],
         [ True]])
  """
  if labels.ndim == 1:
    return others[positions] == labels[:, None]
  return np.take_along_axis(related(labels, others), positions, axis=1)


def answers(
  labels: Labels,
  *,
  groups: Int[np.ndarray, " n"] | None = None,
  reference_labels: Shaped[np.ndarray, " m *k"] | None = None,
  reference_groups: Int[np.ndarray, " m"] | None = None,
) -> Counts:
  """How many relevant and irrelevant other images each image has.

  >>> answers(np.array([0, 0, 1]))
  (array([1, 1, 0]), array([1, 1, 2]))
  >>> answers(np.array([0, 0, 0]), groups=np.array([5, 5, 7]))
  (array([1, 1, 2]), array([0, 0, 0]))
  >>> answers(np.array([0, 1]), reference_labels=np.array([1, 1, 2]))
  (array([0, 2]), array([3, 1]))
  >>> answers(np.array([[1, 1], [1, 0], [0, 1]]))
  (array([2, 1, 1]), array([0, 1, 1]))
  """
  own = None
  if reference_labels is None:
    reference_labels, reference_groups = labels, groups
    own = np.arange(len(labels))
  keys = keys_of(labels, reference_labels, groups, reference_groups)
  return count_answers(labels, reference_labels, own, keys)


def count_answers(
  labels: Labels,
  reference_labels: Shaped[np.ndarray, " m *k"],
  own: Int[np.ndarray, " n"] | None,
  keys: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]] | None,
) -> Counts:
  """How many relevant and irrelevant references each query sees.

  Args:
    labels: of the queries.
    reference_labels: of the references.
    own: the index of the query among the references, -1 for none; it does not
      see itself.
    keys: those of `keys_of`; a query does not see references of its key.
  """
  if labels.ndim == 1:
    with_label = _frequencies(*_numbered("labels", labels, reference_labels))
  else:
    with_label = np.concatenate(
      [
        related(labels[start : start + _BLOCK], reference_labels).sum(axis=1)
        for start in range(0, len(labels), _BLOCK)
      ]
    )
  hidden = np.zeros(len(labels), int)
  if keys is not None:
    hidden += _frequencies(*keys)
  if own is not None:
    is_there = own >= 0
    if keys is not None:
      # A reference that is already hidden by its key does not count again.
      is_there = is_there & (keys[1][own] != keys[0])
    hidden += is_there
  return with_label - hidden, len(reference_labels) - with_label


def keys_of(
  labels: Labels,
  reference_labels: Shaped[np.ndarray, " m *k"],
  groups: Shaped[np.ndarray, " n"] | None,
  reference_groups: Shaped[np.ndarray, " m"] | None,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]] | None:
  """Integers that are equal for items of the same class and group.

  None if there are no groups.

  Raises:
    InputError: for items with several labels, and for strings beside integers.
  """
  if groups is None or reference_groups is None:
    return None
  if labels.ndim > 1:
    raise InputError(
      "groups hide items of one class and one group, and items with several"
      " labels have no one class: leave the groups out."
    )
  of_class = _numbered("labels", labels, reference_labels)
  of_group = _numbered("groups", groups, reference_groups)
  size = len(labels) + len(reference_labels)
  return _numbered(
    "keys", *(c * size + g for c, g in zip(of_class, of_group, strict=True))
  )


def _numbered(
  name: str, of_queries: np.ndarray, of_references: np.ndarray
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
  """Values renumbered as integers from 0.

  Raises:
    InputError: for texts on one side and integers on the other.
  """
  check_kinds(name, of_queries, of_references)
  both = np.concatenate([of_queries, of_references])
  _, numbers = np.unique(both, return_inverse=True)
  return numbers[: len(of_queries)], numbers[len(of_queries) :]


def _frequencies(
  of_queries: Int[np.ndarray, " n"], of_references: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " n"]:
  """How many references have the same integer as each query."""
  return np.bincount(of_references, minlength=of_queries.max() + 1)[of_queries]


def check_kinds(
  name: str, of_queries: np.ndarray, of_references: np.ndarray
) -> None:
  """Checks that the values of two sides have comparable types.

  Raises:
    InputError: for texts on one side and integers on the other.
  """
  kinds = [some.dtype.kind for some in (of_queries, of_references)]
  if kinds[0] != kinds[1] and any(kind in "US" for kind in kinds):
    raise InputError(
      f"{name} and reference_{name}: dtypes {of_queries.dtype} and"
      f" {of_references.dtype} are never equal; give both as integers, or both"
      " as texts."
    )
