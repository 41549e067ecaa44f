"""Which references are relevant to a query: loops over sets of labels."""

import numpy as np
import pytest

from metric_learning import relevance
from metric_learning.errors import InputError

GENERATOR = np.random.default_rng(0)
ONE = GENERATOR.integers(0, 4, size=9), GENERATOR.integers(0, 4, size=7)
SEVERAL = tuple(
  np.eye(5, dtype=int)[GENERATOR.integers(0, 5, size=n)]
  | GENERATOR.integers(0, 2, size=(n, 5)) * (np.arange(n) % 3 == 0)[:, None]
  for n in (9, 7)
)


def common(a, b):
  """Whether two labels, or rows of several labels, have a class in common."""
  sets = [set(np.flatnonzero(x)) if np.ndim(x) else {int(x)} for x in (a, b)]
  return bool(sets[0] & sets[1])


@pytest.mark.parametrize("sides", [ONE, SEVERAL], ids=["one", "several"])
def test_answers_are_those_with_a_common_label(sides):
  labels, others = sides
  expected = np.array([[common(a, b) for b in others] for a in labels])
  assert 0 < expected.mean() < 1
  np.testing.assert_array_equal(relevance.related(labels, others), expected)
  at = GENERATOR.integers(0, 7, size=(9, 4))
  np.testing.assert_array_equal(
    relevance.related_at(labels, others, at),
    np.take_along_axis(expected, at, axis=1),
  )
  right, wrong = relevance.answers(labels, reference_labels=others)
  assert right.tolist() == expected.sum(axis=1).tolist()
  assert wrong.tolist() == (~expected).sum(axis=1).tolist()
  right, wrong = relevance.answers(labels)
  among = np.array([[common(a, b) for b in labels] for a in labels])
  assert right.tolist() == (among.sum(axis=1) - 1).tolist()
  assert wrong.tolist() == (~among).sum(axis=1).tolist()


def test_counts_do_not_depend_on_blocks(monkeypatch):
  whole = relevance.answers(SEVERAL[0])
  monkeypatch.setattr(relevance, "_BLOCK", 4)
  np.testing.assert_array_equal(relevance.answers(SEVERAL[0]), whole)


def test_groups_take_one_label():
  with pytest.raises(InputError, match="have no single class: leave the"):
    relevance.answers(SEVERAL[0], groups=np.zeros(9, int))


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (np.array([[1, 0], [0, 2]]), "x: 2 in the row of item 1;"),
    (np.array([[1.0, 0.0]]), r"x: float64 \(1, 2\).* integers 0 and 1"),
    (
      np.eye(9, 2, dtype=int),
      "7 of 9 items have no label: item 2, 3, 4, 5, 6 and 2 more",
    ),
  ],
)
def test_labels_that_are_no_several_labels(labels, message):
  with pytest.raises(InputError, match=message):
    relevance.check_several("x", labels)
