"""Intervals against SciPy and hand arithmetic."""

import math

import numpy as np
import pytest
from scipy import stats

from metric_learning.study.statistics import t_interval


def test_agrees_with_scipy():
  values = np.random.default_rng(0).normal(size=7)
  low, high = stats.t.interval(
    0.95, 6, loc=values.mean(), scale=stats.sem(values)
  )
  found = t_interval(values)
  assert found.n == 7
  np.testing.assert_allclose(found[:3], [values.mean(), low, high], rtol=1e-12)


def test_one_value_has_no_interval():
  found = t_interval([0.5])
  assert found.mean == 0.5
  assert math.isnan(found.half_width)


def test_three_seeds_by_hand():
  # t(.975, 2) = 4.302653; s of (.7, .8, .9) is .1.
  assert t_interval([0.7, 0.8, 0.9]).half_width == pytest.approx(
    4.302653 * 0.1 / math.sqrt(3), rel=1e-6
  )
