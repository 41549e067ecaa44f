"""Intervals, tests and verdicts: SciPy, enumeration, hand arithmetic."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from metric_learning.study.statistics import (
  can_be_tested,
  compare,
  holm,
  paired_effect,
  seeds_needed,
  sign_flip_p,
  t_interval,
  verdict_of,
)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_agrees_with_scipy(confidence):
  values = np.random.default_rng(0).normal(size=7)
  low, high = stats.t.interval(
    confidence, 6, loc=values.mean(), scale=stats.sem(values)
  )
  found = t_interval(values, confidence)
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


def test_the_effect_is_in_units_of_the_spread_of_the_differences():
  # mean 2, deviations (-2, 0, 2): s = 2.
  assert paired_effect([0.0, 2.0, 4.0]) == 1.0
  assert math.isnan(paired_effect([0.5, 0.5]))
  assert math.isnan(paired_effect([0.5]))


# --- The sign-flip test -----------------------------------------------------


def enumerated(differences):
  """The share of sign patterns as far from 0 as all +, in whole numbers."""
  signed = itertools.product(*((x, -x) for x in differences))
  sums = [sum(some) for some in signed]
  return sum(abs(s) >= abs(sum(differences)) for s in sums) / len(sums)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_sign_flips_are_enumerated(n):
  rng = np.random.default_rng(n)
  for shift in (0, 3):
    # Whole hundredths: sums that are equal differ in the last bit as floats.
    whole = [int(x) for x in rng.integers(-9, 10, n) + shift]
    assert sign_flip_p([x / 100 for x in whole]) == enumerated(whole)


def test_scipy_finds_the_same_p():
  differences = np.random.default_rng(1).normal(0.4, 1, 9)
  found = stats.permutation_test(
    (differences,), np.mean, permutation_type="samples", n_resamples=math.inf
  )
  assert sign_flip_p(differences) == pytest.approx(found.pvalue, abs=1e-12)


def test_the_smallest_p_is_two_of_all_patterns_on_either_side():
  assert sign_flip_p([0.3] * 10) == 2 / 2**10
  assert sign_flip_p([-0.3] * 10) == 2 / 2**10
  assert sign_flip_p([0.0] * 10) == 1


def test_beyond_twenty_patterns_are_drawn_and_the_found_one_counts():
  assert sign_flip_p([1.0] * 30) == 1e-5
  differences = np.random.default_rng(2).normal(0.3, 1, 24)
  # The mean of 24 is nearly normal: p by the normal law of Σ ± d_i.
  z = abs(differences.sum()) / np.sqrt((differences**2).sum())
  p = sign_flip_p(differences)
  assert p == sign_flip_p(differences)
  assert p == pytest.approx(2 * stats.norm.sf(z), abs=0.02)


# --- Many comparisons -------------------------------------------------------


def test_holm_by_hand():
  # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04; never falling.
  np.testing.assert_allclose(
    holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06]
  )
  np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
  assert holm([]).shape == (0,)


def test_seeds_that_can_support_a_family():
  # protocols: 5 seeds support none, 10 thirteen, 12 all pairs of 14 losses.
  assert not can_be_tested(5, 1)
  assert can_be_tested(10, 13)
  assert can_be_tested(10, 25) and not can_be_tested(10, 26)
  assert seeds_needed(91) == 12


# --- Verdicts ---------------------------------------------------------------

SMALL = [0.001, 0.002, 0.003, 0.002, 0.001, 0.003]


def test_significance_comes_before_equivalence():
  # The 90 % interval of SMALL is inside ±.01, and p still decides first.
  assert verdict_of(SMALL, 0.05, 0.01) == "better"
  assert verdict_of([-x for x in SMALL], 0.05, 0.01) == "worse"
  assert verdict_of(SMALL, 0.0501, 0.01) == "no difference"
  # mean .002, s .000894, t(.95, 5) = 2.015: .002 ± .000736.
  assert verdict_of(SMALL, 1.0, 0.00274) == "no difference"
  assert verdict_of(SMALL, 1.0, 0.00273) == "unresolved"
  assert verdict_of([-x for x in SMALL], 1.0, 0.00273) == "unresolved"


def test_of_an_error_rate_less_is_better():
  assert verdict_of(SMALL, 0.01, 0.01, lower_is_better=True) == "worse"
  lower = [-x for x in SMALL]
  assert verdict_of(lower, 0.01, 0.01, lower_is_better=True) == "better"


def test_a_family_is_corrected_together():
  # Six equal signs: p = 2/64 = .03125; alone it is enough, with two it is not.
  (alone,) = compare([SMALL], 0.01)
  assert (alone.p, alone.verdict) == (0.03125, "better")
  found = compare([[0.1] * 7, [0.2] * 7, [-0.1, 0.1] * 4], 0.01)
  # 3 · 2/128, 2 · 2/128 raised to it, and 1.
  assert [c.holm for c in found] == [0.046875, 0.046875, 1.0]
  assert [c.verdict for c in found] == ["better", "better", "unresolved"]


def test_too_few_seeds_are_not_tested():
  found = compare([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], 0.01)
  assert [c.verdict for c in found] == ["not tested"] * 2
  assert found[0].difference == t_interval([0.1, 0.2, 0.3])


def test_missing_and_undefined_scores_say_nothing_and_count():
  silent = ["not tested: no runs", "not tested: a score is missing"]
  found = compare([SMALL, [], [math.nan] * 6], 0.01)
  # 3 · 2/64 > .05
  assert [c.verdict for c in found] == ["not tested", *silent]
  assert not any(c.is_tested for c in found)
  longer = [*SMALL, *SMALL]
  found = compare([longer, [], [math.nan] * 12], 0.01)
  assert [c.verdict for c in found] == ["better", *silent]
  assert [c.is_tested for c in found] == [True, False, False]
  assert found[0].holm == 3 * 2 / 2**12


def test_one_comparison_with_a_seed_less_is_tested_if_holm_lets_it():
  # Alone 23 · 2/2⁹ = .09 is over .05, but 22 are smaller: .0039 · 1, raised to
  # 23 · 2/2¹⁰ = .0449.
  *_, one = compare([[0.1] * 10] * 22 + [[0.1] * 9], 0.01)
  assert one.p == 2 / 2**9
  assert one.holm == 23 * 2 / 2**10
  assert one.verdict == "better"
  # Among others that show nothing it stays without a verdict.
  *_, one = compare([[0.1, -0.1] * 5] * 22 + [[0.1] * 9], 0.01)
  assert one.verdict == "not tested"


# --- The power of the machinery ---------------------------------------------

STUDIES, CELLS, SEEDS = 1000, 4, 10


def simulated(difference, studies=STUDIES):
  """Verdicts of studies of 4 cells and 10 seeds, each against the first.

  A score is that of its seed, which all cells share, and noise of deviation
  1 of its own; the last cell differs from the others by `difference`.
  """
  rng = np.random.default_rng(5)
  scores = rng.normal(size=(studies, CELLS, SEEDS))
  scores += 3 * rng.normal(size=(studies, 1, SEEDS))
  scores[:, -1] += difference
  return [
    [c.verdict for c in compare(list(s[1:] - s[0]), delta=0.5)] for s in scores
  ]


@pytest.mark.slow
def test_without_a_difference_few_studies_claim_one():
  # Family-wise: a study counts if any of its 3 verdicts is false.
  false = [{"better", "worse"} & set(v) != set() for v in simulated(0.0)]
  assert np.mean(false) <= 0.064  # 5 % and two standard errors
  assert np.mean(false) > 0.01  # and the test is not silent


def test_a_difference_of_two_standard_deviations_is_found_in_most_studies():
  verdicts = simulated(2.0, STUDIES // 5)
  # The difference of two runs deviates by √2: d = 1.41.
  assert np.mean([v[-1] == "better" for v in verdicts]) > 0.8


def test_a_difference_of_delta_is_seldom_called_none():
  rng = np.random.default_rng(6)
  # p says nothing here: only the 90 % interval decides.
  found = [
    verdict_of(x, 1.0, delta=1.0)
    for x in rng.normal(1.0, 0.6, (STUDIES, SEEDS))
  ]
  # One side of a 90 % interval errs in 5 % of studies, ± two standard errors.
  assert 0.036 <= found.count("no difference") / STUDIES <= 0.064
