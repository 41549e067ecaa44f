"""Intervals: how far a mean over few runs can be trusted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
  """A mean with a 95 % interval and how many values it rests on."""

  mean: float
  low: float
  high: float
  n: int

  @property
  def half_width(self) -> float:
    """Half the length of the interval."""
    return (self.high - self.low) / 2


def standard_error(values: Sequence[float] | np.ndarray) -> float:
  """s / √n, s the sample standard deviation; NaN for one value.

  >>> standard_error([1.0, 3.0])  # √2 / √2
  1.0
  """
  n = len(values)
  if n < 2:
    return float("nan")
  return float(np.std(np.asarray(values, float), ddof=1) / n**0.5)


def t_interval(
  values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> Interval:
  """Mean ± t · s / √n over independent repetitions.

  With one value the interval is unknown: NaN, not zero.

  >>> interval = t_interval([1.0, 2.0, 3.0])
  >>> interval.mean, round(interval.half_width, 4)  # 4.3027 · 1 / √3
  (2.0, 2.4841)
  """
  x = np.asarray(values, float)
  n = len(x)
  mean = float(np.mean(x)) if n else float("nan")
  if n < 2:
    return Interval(mean, float("nan"), float("nan"), n)
  half = stats.t.ppf((1 + confidence) / 2, n - 1) * standard_error(x)
  return Interval(mean, mean - float(half), mean + float(half), n)
