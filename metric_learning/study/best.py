"""The cells that no other cell is shown to beat."""

import itertools

import numpy as np
from jaxtyping import Bool, Float

from metric_learning.study.multiple import step_down_max
from metric_learning.study.statistics import LEVEL


def may_be_best(scores: Float[np.ndarray, "m n"]) -> Bool[np.ndarray, " m"]:
  """Whether each of m cells may be the best, by n shared units.

  All m (m - 1) / 2 pairs of cells are one family of `step_down_max`. A cell is
  excluded if a cell with a larger mean differs from it at p ≤ 0.05. The chance
  of excluding the truly best cell is at most 0.05 for any number of cells. With
  fewer than six units no cell can be excluded.

  >>> near = np.tile([0.80, 0.81], 5)
  >>> far = near - np.tile([0.1, 0.3], 5)  # all of ten are lower: p = 2 / 2¹⁰
  >>> may_be_best(np.stack([near, far, near[::-1]])).tolist()
  [True, False, True]

  Args:
    scores: larger is better; a cell with a NaN is not compared and not
      excluded.
  """
  x = np.asarray(scores, float)
  remain = np.ones(len(x), bool)
  pairs = [*itertools.combinations(np.flatnonzero(np.isfinite(x).all(1)), 2)]
  if not pairs:
    return remain
  first, second = np.array(pairs).T
  differences = x[first] - x[second]
  apart = step_down_max(differences) <= LEVEL
  lower = np.where(differences.mean(axis=1) < 0, first, second)
  remain[lower[apart]] = False
  return remain
