"""The class bootstrap against hand examples and theory."""

import math

import numpy as np
import pytest

from metric_learning.evaluation import class_bootstrap


def interval_of(num_classes, per_class, seed=0, **options):
  """The interval if all queries of a class have the value of the class."""
  values = np.random.default_rng(seed).normal(size=num_classes)
  labels = np.repeat(np.arange(num_classes), per_class)
  return values, class_bootstrap(values[labels], labels, **options)


def test_interval_is_that_of_a_mean_over_classes():
  # Standard error of the mean of 400 classes; more images of the same class
  # do not narrow it.
  for per_class in (1, 9):
    values, (low, high) = interval_of(400, per_class, num_samples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_large_classes_weigh_more():
  # Means of a draw: 1, 0 or 9/10; the last in half of all draws.
  values = np.array([1.0] * 9 + [0.0])
  labels = np.array([0] * 9 + [1])
  low, high = class_bootstrap(values, labels, confidence=0.4)
  assert (low, high) == (pytest.approx(0.9), pytest.approx(0.9))


def test_confidence_widens_and_seed_fixes():
  _, narrow = interval_of(50, 2, confidence=0.5)
  _, wide = interval_of(50, 2, confidence=0.99)
  assert wide[0] < narrow[0] < narrow[1] < wide[1]
  assert interval_of(50, 2)[1] == interval_of(50, 2)[1]
  values = np.random.default_rng(1).normal(size=50)
  draws = [class_bootstrap(values, np.arange(50), seed=s) for s in (0, 1)]
  assert draws[0] != draws[1]


def test_lone_queries_are_left_out():
  values, labels = np.array([1.0, 0.0, np.nan]), np.array([0, 1, 2])
  assert class_bootstrap(values, labels) == class_bootstrap(
    values[:2], labels[:2]
  )


@pytest.mark.parametrize("values", [[], [1.0, 0.5], [1.0, np.nan]])
def test_one_class_says_nothing_about_others(values):
  labels = np.array([0, 1]) if values == [1.0, np.nan] else [0] * len(values)
  low, high = class_bootstrap(np.array(values), np.array(labels, int))
  assert math.isnan(low) and math.isnan(high)
