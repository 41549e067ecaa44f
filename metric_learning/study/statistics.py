"""Intervals, tests and verdicts for means over few runs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from metric_learning.study.multiple import (
  EXACT_UP_TO,
  PATTERNS,
  equivalence_p,
  step_down_max,
)

# The level of significance, after correction.
LEVEL = 0.05
# Replaces a verdict if there are too few differences to test.
TOO_FEW = "not tested"


class Interval(NamedTuple):
  """A mean with an interval (95 % by default), and the number of values."""

  mean: float
  low: float
  high: float
  n: int

  @property
  def half_width(self) -> float:
    """Half the length of the interval."""
    return (self.high - self.low) / 2


def standard_error(values: Sequence[float] | np.ndarray) -> float:
  """s / √n with the sample standard deviation s; NaN for one value.

  >>> standard_error([1.0, 3.0])  # √2 / √2
  1.0
  """
  n = len(values)
  if n < 2:
    return float("nan")
  return float(np.std(np.asarray(values, float), ddof=1) / n**0.5)


class Comparison(NamedTuple):
  """The result of a test of paired differences.

  difference: the mean with its 95 % t-interval. effect: `paired_effect`. p:
  `sign_flip_p`. corrected: p corrected for the family by `step_down_max`.
  equal: p of "the difference is delta or more", corrected for the family.
  verdict: that of `verdict_of`, or "not tested". The reason follows, unless
  there are too few units.
  """

  difference: Interval
  effect: float
  p: float
  corrected: float
  equal: float
  verdict: str

  @property
  def is_tested(self) -> bool:
    """Whether there is a verdict."""
    return not self.verdict.startswith("not tested")


def t_interval(
  values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> Interval:
  """Mean ± t · s / √n over independent repetitions.

  With one value the interval is unknown: NaN, not 0.

  >>> interval = t_interval([1.0, 2.0, 3.0])
  >>> interval.mean, round(interval.half_width, 4)  # 4.3027 · 1 / √3
  (2.0, 2.4841)
  """
  x = np.asarray(values, float)
  n = len(x)
  mean = float(np.mean(x)) if n else float("nan")
  if n < 2:
    return Interval(mean, float("nan"), float("nan"), n)
  half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * standard_error(x)
  return Interval(mean, mean - half, mean + half, n)


def fold_means(values: Mapping[tuple[Any, int], float]) -> dict[int, float]:
  """The mean for each fold, from values by seed and fold."""
  folds: dict[int, list[float]] = {}
  for (_, fold), value in values.items():
    folds.setdefault(fold, []).append(value)
  return {
    fold: float(np.mean(fold_values)) for fold, fold_values in folds.items()
  }


def units_of(values: Mapping[tuple[Any, int], float]) -> dict[Any, float]:
  """The independent units: a value per fold, or per seed if all share a fold.

  Runs on one fold share test classes, so each of several folds counts once,
  with the mean of its seeds.

  >>> units_of({(0, 0): 1.0, (1, 0): 3.0, (0, 1): 5.0})
  {0: 2.0, 1: 5.0}
  """
  means = fold_means(values)
  return dict(values) if len(means) < 2 else dict(means)


def paired_effect(differences: Sequence[float] | np.ndarray) -> float:
  """Cohen's d of paired samples, d_z: mean / standard deviation.

  NaN if the differences do not vary.

  >>> paired_effect([1.0, 2.0, 3.0])
  2.0
  """
  x = np.asarray(differences, float)
  mean, spread = np.mean(x), np.std(x, ddof=1) if len(x) > 1 else 0.0
  varies = spread > 1e-12 * abs(mean)  # by more than rounding
  return float(mean / spread) if varies else float("nan")


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
  """Two-sided p of the mean of paired differences, by sign flips.

  Under the null hypothesis a difference is as likely as its negative. p is the
  share of the 2ⁿ sign patterns whose mean is at least as far from 0 as the
  observed mean. It is exact if the differences are symmetric about 0, whatever
  their distribution. A mean of 0 alone is not enough: ten exponential
  differences of mean 0 give p ≤ .05 in 9 % of cases. For more than 20
  differences, 99,999 patterns are drawn with a fixed seed; p is (1 + the number
  at least as far) / 100,000.

  >>> sign_flip_p([1.0, 2.0, 3.0])  # +++ and --- of 8
  0.25
  """
  x = np.asarray(differences, float)
  # Sums that differ only by rounding count as equal.
  far = abs(x.sum()) - 1e-9 * np.abs(x).sum()
  if len(x) <= EXACT_UP_TO:
    sums = np.zeros(1)
    for value in x:
      sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= far))
  signs = np.random.default_rng(0).choice([-1.0, 1.0], (PATTERNS, len(x)))
  return (1 + int(np.sum(np.abs(signs @ x) >= far))) / (1 + PATTERNS)


def holm(p: Sequence[float] | np.ndarray) -> Float[np.ndarray, " m"]:
  """Holm's correction of the p of m comparisons.

  The i-th smallest p is multiplied by m + 1 - i, then raised to the largest
  before it, and limited to 1. At 0.05, the chance of rejecting even one true
  null hypothesis is at most 0.05, however the comparisons depend on each other.
  The sign of a rejected difference is not covered.

  >>> holm([0.01, 0.04, 0.03])  # 3 · 0.01, 2 · 0.03, and not below it
  array([0.03, 0.06, 0.06])

  Source: Holm, Scandinavian Journal of Statistics 6, 1979.
  """
  p = np.asarray(p, float)
  order = np.argsort(p, kind="stable")
  stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
  corrected = np.empty(len(p))
  corrected[order] = np.minimum(stepped, 1)
  return corrected


def can_be_tested(n: int) -> bool:
  """Whether n differences can reach `LEVEL`: their smallest p is 2 / 2ⁿ.

  The step-down maximum test has the same floor, whatever the family is.

  >>> can_be_tested(5), can_be_tested(6)  # 1 / 16, 1 / 32
  (False, True)
  """
  return 2 / 2**n <= LEVEL


# The fewest units that can be tested.
UNITS_NEEDED = next(n for n in range(1, 64) if can_be_tested(n))


def verdict_of(
  mean: float, corrected: float, equal: float, lower_is_better: bool = False
) -> str:
  """The verdict on a mean difference.

  "no difference" if the corrected p of "the difference is delta or more" is at
  most 0.05; else "better" or "worse" if the corrected p of "the difference is
  0" is at most 0.05; else "unresolved". A difference that is significant but
  smaller than delta is "no difference", because delta is what does not matter.

  >>> verdict_of(0.2, corrected=0.04, equal=0.9)
  'better'
  >>> verdict_of(0.001, corrected=0.04, equal=0.03)
  'no difference'
  """
  if equal <= LEVEL:
    return "no difference"
  if corrected <= LEVEL:
    return "better" if (mean < 0) == lower_is_better else "worse"
  return "unresolved"


def compare(
  family: Sequence[Mapping[Any, float]],
  delta: float,
  lower_is_better: Sequence[bool] | None = None,
) -> list[Comparison]:
  """Judges a family of comparisons together.

  Args:
    family: for each comparison, the paired differences by unit (search, fold or
      seed), in units of the score. A comparison without differences, or with
      one that is not finite, counts in the family and has no verdict.
    delta: a difference that does not matter, named before the runs.
    lower_is_better: for each comparison, whether its score is an error.
  """
  lower = lower_is_better or [False] * len(family)
  values = [np.array([*differences.values()], float) for differences in family]
  table = _by_unit(family)
  corrected = step_down_max(table)
  equal = holm(equivalence_p(table, delta))
  return [
    Comparison(
      t_interval(x),
      paired_effect(x) if _is_known(x) else float("nan"),
      sign_flip_p(x) if _is_known(x) else 1.0,
      float(corrected[place]),
      float(equal[place]),
      _judged(x, corrected[place], equal[place], lower[place]),
    )
    for place, x in enumerate(values)
  ]


def _by_unit(
  family: Sequence[Mapping[Any, float]],
) -> Float[np.ndarray, "m units"]:
  """The differences: a row per comparison, a column per unit, NaN for none."""
  units = list(
    dict.fromkeys(unit for differences in family for unit in differences)
  )
  table = np.full((len(family), len(units)), np.nan)
  for line, differences in zip(table, family, strict=True):
    if _is_known(np.array([*differences.values()], float)):
      line[[units.index(unit) for unit in differences]] = [
        *differences.values()
      ]
  return table


def _is_known(differences: np.ndarray) -> bool:
  return len(differences) > 0 and bool(np.isfinite(differences).all())


def _judged(
  x: np.ndarray, corrected: float, equal: float, is_error: bool
) -> str:
  """The verdict, or the reason why there is none."""
  if not len(x):
    return "not tested: no runs"
  if not _is_known(x):
    return "not tested: a score is missing"
  if not can_be_tested(len(x)):
    return TOO_FEW
  return verdict_of(float(np.mean(x)), corrected, equal, is_error)
