"""Which references are relevant to a query: those that share a label.

Items have one label each, `[n]`, or several, `[n, k]`, with 1 in the column of
each class of an item and 0 elsewhere. Scores and data checks use this module.
"""

import numpy as np
from jaxtyping import Bool, Int, Shaped

from metric_learning.errors import InputError

Labels = Shaped[np.ndarray, "n *k"]
Counts = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]

# The number of rows of the query-reference matrix in memory at a time.
_BLOCK = 512


def check_several(where: str, labels: Shaped[np.ndarray, "n k"]) -> None:
  """Checks an array of labels with several labels per item.

  Raises:
    InputError: if a number is not 0 or 1, or if an item has no label.

  >>> check_several("labels", np.array([[1, 1, 0], [0, 0, 0]]))
  Traceback (most recent call last):
  metric_learning.errors.InputError: labels: 1 of 2 items have no label: item \
1. Give each a label, or leave these items out.
  """
  if labels.dtype.kind not in "biu":
    raise InputError(
      f"{where}: {labels.dtype} {labels.shape}; if items have several labels,"
      " give integers 0 and 1, with a row for each item and a column for each"
      " class."
    )
  other = (labels != 0) & (labels != 1)
  if other.any():
    raise InputError(
      f"{where}: {labels[other][0]} in the row of item"
      f" {np.argmax(other.any(axis=1))}; if items have several labels, give 1"
      " in the column of each class of an item, and 0 elsewhere."
    )
  bare = np.flatnonzero(~labels.any(axis=1))
  if len(bare):
    numbers = ", ".join(map(str, bare[:5]))
    more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""
    raise InputError(
      f"{where}: {len(bare)} of {len(labels)} items have no label: item"
      f" {numbers}{more}. Give each a label, or leave these items out."
    )


def related(
  labels: Shaped[np.ndarray, " n *k"], others: Shaped[np.ndarray, " m *k"]
) -> Bool[np.ndarray, "n m"]:
  """Whether each item shares a label with each of the others.

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
  """Whether each item shares a label with the others at the given positions.

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
  """The numbers of relevant and of irrelevant references of each image.

  Without reference labels, the references of an image are all other images.

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
  """The numbers of relevant and of irrelevant references that each query sees.

  Args:
    labels: the labels of the queries.
    reference_labels: the labels of the references.
    own: the index of each query among the references, -1 if it is not a
      reference; a query does not see itself.
    keys: the result of `keys_of`; a query does not see references with its key.
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
    is_hidden = own >= 0
    if keys is not None:
      # Do not count a reference twice if its key already hides it.
      is_hidden = is_hidden & (keys[1][own] != keys[0])
    hidden += is_hidden
  return with_label - hidden, len(reference_labels) - with_label


def keys_of(
  labels: Labels,
  reference_labels: Shaped[np.ndarray, " m *k"],
  groups: Shaped[np.ndarray, " n"] | None,
  reference_groups: Shaped[np.ndarray, " m"] | None,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]] | None:
  """Integers that are equal for items of the same class and group.

  Returns None if there are no groups.

  Raises:
    InputError: if items have several labels, or if one side has strings and the
      other integers.
  """
  if groups is None or reference_groups is None:
    return None
  if labels.ndim > 1:
    raise InputError(
      "groups hide items of the same class and group, but items with several"
      " labels have no single class: leave the groups out."
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
    InputError: if one side has strings and the other integers.
  """
  check_kinds(name, of_queries, of_references)
  both = np.concatenate([of_queries, of_references])
  _, numbers = np.unique(both, return_inverse=True)
  return numbers[: len(of_queries)], numbers[len(of_queries) :]


def _frequencies(
  of_queries: Int[np.ndarray, " n"], of_references: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " n"]:
  """The number of references with the same integer as each query."""
  return np.bincount(of_references, minlength=of_queries.max() + 1)[of_queries]


def check_kinds(
  name: str, of_queries: np.ndarray, of_references: np.ndarray
) -> None:
  """Checks that the values of two sides have comparable types.

  Raises:
    InputError: if one side has strings and the other integers.
  """
  kinds = [values.dtype.kind for values in (of_queries, of_references)]
  if kinds[0] != kinds[1] and any(kind in "US" for kind in kinds):
    raise InputError(
      f"{name} and reference_{name}: dtypes {of_queries.dtype} and"
      f" {of_references.dtype} are never equal; give both as integers, or both"
      " as strings."
    )
