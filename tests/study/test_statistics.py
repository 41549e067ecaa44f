"""Intervals, tests and verdicts: SciPy, enumeration, hand calculation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from metric_learning.study import multiple
from metric_learning.study.statistics import (
  UNITS_NEEDED,
  can_be_tested,
  compare,
  holm,
  paired_effect,
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
  """The share of sign patterns at least as far from 0 as all +, in integers."""
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


def test_units_that_can_be_tested():
  # protocols: of 5 the smallest p is 2/32 = .0625.
  assert not can_be_tested(5) and can_be_tested(6)
  assert UNITS_NEEDED == 6


# --- Verdicts ---------------------------------------------------------------

SMALL = [0.001, 0.002, 0.003, 0.002, 0.001, 0.003]


def by_unit(*family):
  return [dict(enumerate(differences)) for differences in family]


def test_what_does_not_matter_is_no_difference_however_sure_it_is():
  assert verdict_of(0.002, 0.05, equal=0.051) == "better"
  assert verdict_of(-0.002, 0.05, equal=0.051) == "worse"
  assert verdict_of(0.002, 0.05, equal=0.05) == "no difference"
  assert verdict_of(0.002, 0.051, equal=0.051) == "unresolved"


def test_no_difference_is_the_90_percent_interval_inside_delta():
  # mean .002, s .000894, t(.95, 5) = 2.015: .002 ± .000736.
  (inside,) = compare(by_unit(SMALL), 0.00274)
  assert inside.verdict == "no difference" and inside.equal <= 0.05
  (outside,) = compare(by_unit(SMALL), 0.00273)
  assert outside.verdict == "better" and outside.equal > 0.05


def test_no_difference_is_corrected_for_the_family():
  # Alone p is just under .05; of two by Holm the smaller has twice that.
  (alone,) = compare(by_unit(SMALL), 0.00274)
  wide = [x * (-1) ** k * 50 for k, x in enumerate(SMALL)]
  one, other = compare(by_unit(SMALL, wide), 0.00274)
  assert one.equal == pytest.approx(2 * alone.equal)
  assert one.verdict != "no difference" and other.verdict == "unresolved"


def test_of_an_error_rate_less_is_better():
  assert verdict_of(0.1, 0.01, 1.0, lower_is_better=True) == "worse"
  assert verdict_of(-0.1, 0.01, 1.0, lower_is_better=True) == "better"


def test_a_family_is_corrected_together():
  far = [x + 0.1 for x in SMALL]
  (alone,) = compare(by_unit(far), 0.01)
  assert (alone.p, alone.corrected, alone.verdict) == (1 / 32, 1 / 32, "better")
  # Flips are of units: those of the second are farther in two more patterns.
  other = [0.1, 0.1, 0.1, -0.1, -0.1, 0.1]
  first, second = compare(by_unit(far, other), 0.01)
  assert first.p == alone.p
  np.testing.assert_allclose(
    [first.corrected, second.corrected],
    multiple.step_down_max(np.array([far, other])),
  )
  assert first.corrected > 1 / 32


def test_units_are_those_of_the_same_name():
  # Unit 6 of the second is no unit of the first.
  family = [dict.fromkeys(range(7), 0.1), {k: 0.2 for k in (6, 7, 8, 1, 2, 3)}]
  table = np.full((2, 9), np.nan)
  table[0, :7], table[1, [6, 7, 8, 1, 2, 3]] = 0.1, 0.2
  found = [one.corrected for one in compare(family, 0.01)]
  np.testing.assert_array_equal(found, multiple.step_down_max(table))


def test_too_few_units_are_not_tested():
  found = compare(by_unit([0.1] * 5, [0.0] * 5), 0.01)
  assert [c.verdict for c in found] == ["not tested"] * 2
  assert found[0].difference == t_interval([0.1] * 5)
  (six,) = compare(by_unit([0.1] * 6), 0.01)
  assert six.verdict == "better"


def test_missing_and_undefined_scores_say_nothing_and_count():
  silent = ["not tested: no runs", "not tested: a score is missing"]
  far = [x + 0.1 for x in SMALL]
  found = compare(by_unit(far, [], [math.nan] * 6), 0.01)
  assert [c.verdict for c in found] == ["better", *silent]
  assert [c.is_tested for c in found] == [True, False, False]
  assert [c.corrected for c in found] == [1 / 32, 1.0, 1.0]


# --- The power of the machinery ---------------------------------------------

STUDIES, CELLS, SEEDS = 1000, 4, 10


def simulated(difference, studies=STUDIES):
  """Verdicts of studies of 4 cells and 10 seeds, each against the first cell.

  A score is the effect of its seed, which all cells share, plus noise with
  deviation 1. The last cell differs from the others by `difference`.
  """
  rng = np.random.default_rng(5)
  scores = rng.normal(size=(studies, CELLS, SEEDS))
  scores += 3 * rng.normal(size=(studies, 1, SEEDS))
  scores[:, -1] += difference
  return [
    [c.verdict for c in compare(by_unit(*(s[1:] - s[0])), delta=0.5)]
    for s in scores
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


@pytest.mark.slow
def test_a_difference_of_delta_is_seldom_called_none():
  rng = np.random.default_rng(6)
  found = [
    compare([dict(enumerate(x))], delta=1.0)[0].verdict
    for x in rng.normal(1.0, 0.6, (STUDIES, SEEDS))
  ]
  # One side of a 90 % interval errs in 5 % of studies, ± two standard errors.
  assert 0.036 <= found.count("no difference") / STUDIES <= 0.064
