"""Families of comparisons, by enumeration, SciPy and hand calculation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from metric_learning.study import multiple
from metric_learning.study.multiple import (
  equivalence_p,
  sign_patterns,
  step_down_max,
)


def enumerated(differences):
  """By definition: all 2ⁿ patterns, and Student's t of each comparison."""
  m, n = len(differences), len(differences[0])
  patterns = list(itertools.product((1, -1), repeat=n))

  def t(place, pattern):
    x = [s * d for s, d in zip(pattern, differences[place], strict=True)]
    return abs(stats.ttest_1samp(x, 0).statistic)

  table = [[t(place, pattern) for place in range(m)] for pattern in patterns]
  observed = table[0]
  p, left, largest = [None] * m, list(range(m)), 0.0
  while left:
    first = max(left, key=lambda place: observed[place])
    far = [
      max(line[j] for j in left) >= observed[first] - 1e-9 for line in table
    ]
    largest = max(largest, sum(far) / len(far))
    p[first] = largest
    left.remove(first)
  return p


@pytest.mark.parametrize(("m", "n", "shift"), [(1, 4, 0.5), (4, 6, 1.0)])
def test_every_pattern_is_tried_on_all_comparisons_at_once(m, n, shift):
  rng = np.random.default_rng(10 * m + n)
  # The reference that all share makes them depend on each other.
  x = rng.normal(size=(m, n)) - rng.normal(size=n)
  x += shift * np.arange(m)[:, None]
  np.testing.assert_allclose(step_down_max(x), enumerated(x))


def test_one_comparison_alone_has_the_p_of_sign_flips():
  x = np.random.default_rng(0).normal(0.4, 1, 9)
  found = stats.permutation_test(
    (x,), np.mean, permutation_type="samples", n_resamples=np.inf
  )
  assert step_down_max(x[None])[0] == pytest.approx(found.pvalue, abs=1e-12)


def test_the_smallest_p_is_that_of_one_comparison_whatever_the_family():
  rng = np.random.default_rng(1)
  family = rng.normal(size=(150, 10))
  family[7] = 1 + 0.01 * rng.normal(size=10)
  found = step_down_max(family)
  assert found[7] == 2 / 2**10
  assert np.all(found[np.arange(150) != 7] > 0.05)
  # Copies of it take nothing away: they are far in the same patterns.
  assert np.all(step_down_max(np.tile(family[7], (20, 1))) == 2 / 2**10)


def test_neither_order_nor_unit_of_a_comparison_matters():
  x = np.random.default_rng(2).normal(0.5, 1, (5, 8))
  order = np.array([3, 0, 4, 1, 2])
  units = np.array([1.0, 100.0, 1e-3, 5.0, 7.0])[:, None]
  found = step_down_max(x)
  np.testing.assert_array_equal(step_down_max((units * x)[order]), found[order])
  np.testing.assert_array_equal(step_down_max(-x[:, ::-1]), found)


def test_comparisons_without_units_or_spread():
  x = np.array([[0.2] * 6, [0.0] * 6, [np.nan] * 6])
  np.testing.assert_array_equal(step_down_max(x), [2 / 2**6, 1, 1])
  # A missing unit is as one whose sign changes nothing.
  short = np.array([[0.2, 0.3, 0.1, 0.2, np.nan, np.nan]])
  assert step_down_max(short)[0] == 2 / 2**4
  assert step_down_max(np.empty((0, 5))).shape == (0,)
  assert step_down_max(np.empty((2, 0))).tolist() == [1, 1]


def test_beyond_what_is_enumerated_patterns_are_drawn():
  x = np.random.default_rng(3).normal(0.7, 1, (3, 12))
  exact, drawn = step_down_max(x), step_down_max(x, draws=4_000)
  np.testing.assert_allclose(drawn, exact, atol=0.02)
  assert step_down_max(np.ones((1, 30)), draws=999)[0] == 1 / 1000
  several = sum(len(some) for some in sign_patterns(15))
  assert several == 2**14 > multiple._CHUNK


def test_the_error_of_a_family_is_at_most_the_level():
  """The share of 400 families without differences, within three errors."""
  rng = np.random.default_rng(4)
  scores = rng.normal(size=(400, 11, 8))
  false = sum(step_down_max(own[1:] - own[0]).min() <= 0.05 for own in scores)
  assert 0.01 < false / 400 < 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


def test_equivalence_is_two_one_sided_t_tests():
  x, delta = np.random.default_rng(5).normal(0.1, 1, (6, 9)), 0.8
  low = stats.ttest_1samp(x, -delta, axis=1, alternative="greater").pvalue
  high = stats.ttest_1samp(x, delta, axis=1, alternative="less").pvalue
  np.testing.assert_allclose(equivalence_p(x, delta), np.maximum(low, high))
  # At 5 % it is the 90 % interval inside ±δ.
  short = x[:, :5].copy()
  padded = np.concatenate([short, np.full((6, 4), np.nan)], axis=1)
  np.testing.assert_allclose(
    equivalence_p(padded, delta), equivalence_p(short, delta)
  )


def test_equivalence_of_units_without_spread():
  x = np.array([[0.1] * 4, [0.3] * 4, [np.nan] * 4])
  assert equivalence_p(x, 0.2).tolist() == [0, 1, 1]
  assert equivalence_p(np.array([0.1]), 0.2) == 1
