"""Intervals, tests and verdicts: what a mean over few runs can say."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

# A difference is called real at this p, after correction.
LEVEL = 0.05
# Up to this many differences the test enumerates every sign pattern; beyond, it
# draws `PATTERNS` of them.
EXACT_UP_TO = 20
PATTERNS = 99_999
# Instead of a verdict, where there are too few differences for the family.
TOO_FEW = "not tested"


class Interval(NamedTuple):
  """A mean with an interval, of 95 % unless said, and the number of values."""

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


class Comparison(NamedTuple):
  """What paired differences say.

  difference: with its 95 % t-interval. effect: `paired_effect`. p: of
  `sign_flip_p`. holm: the same after `holm`. verdict: one of `verdict_of`, or
  "not tested" with the reason where it is not the number of seeds.
  """

  difference: Interval
  effect: float
  p: float
  holm: float
  verdict: str

  @property
  def is_tested(self) -> bool:
    """Whether there is a verdict."""
    return not self.verdict.startswith("not tested")


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
  half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * standard_error(x)
  return Interval(mean, mean - half, mean + half, n)


def fold_means(values: Mapping[tuple[Any, int], float]) -> dict[int, float]:
  """The mean on each fold of values by seed and fold."""
  folds: dict[int, list[float]] = {}
  for (_, fold), value in values.items():
    folds.setdefault(fold, []).append(value)
  return {fold: float(np.mean(some)) for fold, some in folds.items()}


def units_of(values: Mapping[tuple[Any, int], float]) -> dict[Any, float]:
  """Of values by seed and fold: one a fold, or a seed if all are of one fold.

  Runs on one fold share test classes, so where there are several folds each
  counts once, with the mean of its seeds.

  >>> units_of({(0, 0): 1.0, (1, 0): 3.0, (0, 1): 5.0})
  {0: 2.0, 1: 5.0}
  """
  means = fold_means(values)
  return dict(values) if len(means) < 2 else dict(means)


def paired_effect(differences: Sequence[float] | np.ndarray) -> float:
  """Cohen's d of paired samples, d_z: mean / standard deviation.

  NaN where the differences do not vary.

  >>> paired_effect([1.0, 2.0, 3.0])
  2.0
  """
  x = np.asarray(differences, float)
  mean, spread = np.mean(x), np.std(x, ddof=1) if len(x) > 1 else 0.0
  varies = spread > 1e-12 * abs(mean)  # more than by rounding
  return float(mean / spread) if varies else float("nan")


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
  """Two-sided p of the mean of paired differences, by flipping their signs.

  If the members of a pair do not differ, a difference is as likely as its
  negative: p is the share of the 2ⁿ sign patterns whose mean is at least as far
  from 0 as the observed mean. It is exact where differences are symmetric
  about 0, of whatever distribution. Equal means alone do not give that: ten
  exponential differences of mean 0 have p ≤ .05 in 9 % of cases. For more than
  20 differences, 99,999 patterns are drawn with a fixed seed, and p is
  (1 + those as far) / 100,000.

  >>> sign_flip_p([1.0, 2.0, 3.0])  # +++ and --- of 8
  0.25
  """
  x = np.asarray(differences, float)
  # Sums that are equal but for rounding are equally far.
  far = abs(x.sum()) - 1e-9 * np.abs(x).sum()
  if len(x) <= EXACT_UP_TO:
    sums = np.zeros(1)
    for value in x:
      sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= far))
  signs = np.random.default_rng(0).choice([-1.0, 1.0], (PATTERNS, len(x)))
  return (1 + int(np.sum(np.abs(signs @ x) >= far))) / (1 + PATTERNS)


def holm(p: Sequence[float] | np.ndarray) -> Float[np.ndarray, " m"]:
  """Holm's correction: p of m comparisons that may be read together.

  The i-th smallest p is multiplied by m + 1 - i, made no smaller than those
  before it, and at most 1. Reading the result at 0.05, the chance of rejecting
  even one true null hypothesis is at most 0.05, however they depend on each
  other. Nothing is proved about the sign of what is rejected.

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


def can_be_tested(n: int, family: int) -> bool:
  """Whether n differences can reach `LEVEL` in a family of this size.

  The smallest p of n sign flips is 2 / 2ⁿ, and Holm multiplies it.

  >>> can_be_tested(10, 13), can_be_tested(5, 1)  # 13 / 512, 1 / 16
  (True, False)
  """
  return family * 2 / 2**n <= LEVEL


def seeds_needed(family: int) -> int:
  """The fewest paired seeds with which a family of comparisons can be tested.

  >>> seeds_needed(1), seeds_needed(13), seeds_needed(91)
  (6, 10, 12)
  """
  return next(n for n in itertools.count(1) if can_be_tested(n, family))


def verdict_of(
  differences: Sequence[float] | np.ndarray,
  corrected: float,
  delta: float,
  lower_is_better: bool = False,
) -> str:
  """The verdict on paired differences, in this order.

  "better" or "worse" if the corrected p is at most 0.05; "no difference" if
  the 90 % t-interval is inside ±delta (two one-sided tests at 5 %, not
  corrected for a family); "unresolved" if neither.

  >>> verdict_of([0.1, 0.2, 0.3], 0.04, delta=1.0)
  'better'
  >>> verdict_of([0.1, 0.2, 0.3], 0.06, delta=1.0)
  'no difference'
  """
  if corrected <= LEVEL:
    is_better = (np.mean(differences) < 0) == lower_is_better
    return "better" if is_better else "worse"
  narrow = t_interval(differences, 0.90)
  if -delta < narrow.low and narrow.high < delta:
    return "no difference"
  return "unresolved"


def compare(
  family: Sequence[Sequence[float] | np.ndarray],
  delta: float,
  lower_is_better: Sequence[bool] | None = None,
) -> list[Comparison]:
  """Judges a family of comparisons together.

  Args:
    family: of each comparison the paired differences, in units of the score;
      those that are missing or not finite count in the family and say nothing.
    delta: a difference that does not matter, named before the runs.
    lower_is_better: of each comparison, whether its score is an error.
  """
  lower = lower_is_better or [False] * len(family)
  values = [np.asarray(differences, float) for differences in family]
  p = [sign_flip_p(x) if _is_known(x) else 1.0 for x in values]
  return [
    Comparison(
      t_interval(x),
      paired_effect(x) if _is_known(x) else float("nan"),
      own,
      float(corrected),
      _judged(x, corrected, delta, is_error, len(family)),
    )
    for x, own, corrected, is_error in zip(
      values, p, holm(p), lower, strict=True
    )
  ]


def _is_known(differences: np.ndarray) -> bool:
  return len(differences) > 0 and bool(np.isfinite(differences).all())


def _judged(x, corrected: float, delta: float, is_error: bool, family) -> str:
  """The verdict, or why there is none."""
  if not len(x):
    return "not tested: no runs"
  if not _is_known(x):
    return "not tested: a score is missing"
  # Holm multiplies by less than the family where others have a smaller p.
  if corrected > LEVEL and not can_be_tested(len(x), family):
    return TOO_FEW
  return verdict_of(x, corrected, delta, is_error)
