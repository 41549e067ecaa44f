"""The axioms that hold, and those that do not; powers of distances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

import metric_learning as ml
from metric_learning import distances
from tests.distances.distance_cases import (
  AXIOMS,
  METRICS,
  normalized,
  options,
  pairwise,
  points,
)
from tests.quick import quick_jit

# Further powers than that of `options`: below 1 the triangle fails.
POWERS = [0.5, 1, 1.5, 2, 4.5, 8]


def cases(axiom):
  return [metric for metric in METRICS if axiom in AXIOMS[metric]]


# Quarters between -8 and 8: exact differences, no underflow of squares.
triples = arrays(
  np.float64,
  (3, 3),
  elements=st.integers(-32, 32).map(lambda quarters: quarters / 4),
)
quick = settings(max_examples=60, deadline=None, derandomize=True)
_compiled = {}


def distance(metric, x, y):
  if metric not in _compiled:
    factor = options(metric)
    _compiled[metric] = quick_jit(
      lambda a, b: ml.METRICS[metric].pointwise(a, b, **factor)
    )
  return float(_compiled[metric](x, y))


@pytest.mark.parametrize("metric", cases("non_negative"))
def test_non_negative(metric):
  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      assert distance(metric, xyz[0], xyz[1]) >= -1e-15

  holds()


@pytest.mark.parametrize("metric", cases("identity"))
def test_zero_exactly_where_equal(metric):
  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      assert distance(metric, xyz[0], xyz[0]) == 0
      equal = (xyz[0] == xyz[1]).all()
      assert (distance(metric, xyz[0], xyz[1]) == 0) == equal

  holds()


@pytest.mark.parametrize("metric", cases("symmetry"))
def test_symmetric(metric):
  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      there = distance(metric, xyz[0], xyz[1])
      back = distance(metric, xyz[1], xyz[0])
      np.testing.assert_allclose(there, back, rtol=1e-14, atol=1e-15)

  holds()


@pytest.mark.parametrize("metric", cases("triangle"))
def test_triangle_inequality(metric):
  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      x, y, z = xyz
      around = distance(metric, x, y) + distance(metric, y, z)
      assert distance(metric, x, z) <= around + 1e-12

  holds()


# For each "no": points that show it, found by hand.
COUNTEREXAMPLES = [
  # 0, 1, 2 on a line: 4 > 1 + 1.
  ("squared_l2", "triangle", [[0, 0, 0], [1, 0, 0], [2, 0, 0]]),
  # 0, 45, 90 degrees: 1 > .2929 + .2929.
  ("cosine", "triangle", [[1, 0, 0], [1, 1, 0], [0, 1, 0]]),
  # Equal up to scale only.
  ("cosine", "identity", [[1, 0, 0], [2, 0, 0], [0, 0, 0]]),
  ("dot", "non_negative", [[1, 0, 0], [1, 0, 0], [0, 0, 0]]),
  ("dot", "identity", [[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
  # 0 > -1 - 1.
  ("dot", "triangle", [[1, 0, 0], [1, 1, 0], [0, 1, 0]]),
  # 0, 1, 2 on a line.
  ("squared_mahalanobis", "triangle", [[0, 0, 0], [1, 0, 0], [2, 0, 0]]),
  # Equal up to scale only.
  ("angular", "identity", [[1, 0, 0], [2, 0, 0], [0, 0, 0]]),
  # A constant shift.
  ("snr", "identity", [[0, 2, 4], [1, 3, 5], [0, 0, 0]]),
  # 0.25 there, 1 back.
  ("snr", "symmetry", [[0, 2, 4], [1, 2, 3], [0, 0, 0]]),
  # y = 2x, z = 3x: 4 > 1 + ¼.
  ("snr", "triangle", [[0, 2, 4], [0, 4, 8], [0, 6, 12]]),
]


def test_there_is_a_counterexample_for_each_axiom_that_fails():
  everything = AXIOMS["l2"]
  missing = {(metric, axiom) for metric in METRICS for axiom in everything} - {
    (metric, axiom) for metric in METRICS for axiom in AXIOMS[metric]
  }
  assert {case[:2] for case in COUNTEREXAMPLES} == missing


@pytest.mark.parametrize(("metric", "axiom", "xyz"), COUNTEREXAMPLES)
def test_counterexample(metric, axiom, xyz, x64):
  x, y, z = np.array(xyz, np.float64)
  if axiom == "triangle":
    around = distance(metric, x, y) + distance(metric, y, z)
    assert distance(metric, x, z) > around + 0.1
  if axiom == "identity":
    assert distance(metric, x, y) == 0
    assert (x != y).any()
  if axiom == "non_negative":
    assert distance(metric, x, y) < 0
  if axiom == "symmetry":
    assert abs(distance(metric, x, y) - distance(metric, y, x)) > 0.1


def test_angular_is_zero_only_at_equal_points_of_the_sphere():
  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      x, y = (np.asarray(normalized("l2", p[None]))[0] for p in xyz[:2])
      if x.any() and y.any():
        assert distance("angular", x, x) == 0
        assert (distance("angular", x, y) == 0) == (x == y).all()

  holds()


@pytest.mark.parametrize("p", POWERS)
def test_every_power_equals_scipy_in_value_and_gradient(p, x64):
  x, y, weights = points(3, 4), points(5, 4, seed=1), points(3, 5, seed=2)

  def weighed(x, y):
    return jnp.sum(weights * ml.pairwise(("lp", {"p": p}), x, y))

  def expected(x, y):
    return np.sum(weights * cdist(x, y, "minkowski", p=p))

  value, slopes = quick_jit(jax.value_and_grad(weighed, (0, 1)))(x, y)
  np.testing.assert_allclose(value, expected(x, y), rtol=1e-10)
  for side, slope in enumerate(slopes):
    for index in np.ndindex(slope.shape):
      ends = []
      for sign in (1e-6, -1e-6):
        moved = [x.copy(), y.copy()]
        moved[side][index] += sign
        ends.append(expected(*moved))
      difference = (ends[0] - ends[1]) / 2e-6
      np.testing.assert_allclose(slope[index], difference, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_triangle_fails_for_a_power_below_one(x64):
  # By way of a corner: 2² = 4 > 1 + 1.
  x, y, z = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
  d = quick_jit(functools.partial(distances.lp, p=0.5))
  assert d(x, z) > d(x, y) + d(y, z) + 1


@pytest.mark.parametrize("p", [1, 1.5, 4.5, 8])
def test_the_triangle_holds_for_a_power_of_at_least_one(p):
  one = quick_jit(lambda a, b: distances.lp(a, b, p=p))

  @quick
  @given(triples)
  def holds(xyz):
    with jax.enable_x64(True):
      x, y, z = xyz
      assert one(x, z) <= one(x, y) + one(y, z) + 1e-12

  holds()


def test_a_large_power_neither_overflows_nor_underflows():
  x, y = jnp.array([[1e-3, 0.0], [1e5, 0.0]]), jnp.zeros((1, 2))
  value, slope = quick_jit(
    jax.value_and_grad(lambda x: jnp.sum(ml.pairwise(("lp", {"p": 40}), x, y)))
  )(x)
  np.testing.assert_allclose(value, 1e5 + 1e-3, rtol=1e-6)
  np.testing.assert_allclose(slope, [[1, 0], [1, 0]], rtol=1e-6)


def test_infinite_power_is_the_maximum():
  x, y = (jnp.asarray(points(n, 4, seed=n)) for n in (3, 5))
  infinite = pairwise("lp", x, y, p=float("inf"))
  np.testing.assert_array_equal(infinite, pairwise("linf", x, y))


def test_linf_shares_its_gradient_among_ties():
  x, y = jnp.array([[2.0, -2.0, 1.0]]), jnp.zeros((1, 3))
  expected = np.array([[0.5, -0.5, 0.0]])
  for function in (
    lambda x, y: ml.pairwise("linf", x, y)[0, 0],
    lambda x, y: distances.linf(x[0], y[0]),
  ):
    x_bar, y_bar = quick_jit(jax.grad(function, (0, 1)))(x, y)
    np.testing.assert_array_equal(x_bar, expected)
    np.testing.assert_array_equal(y_bar, -expected)


def test_signal_to_noise_by_hand(x64):
  a, b = jnp.array([[0.0, 2.0, 4.0]]), jnp.array([[1.0, 2.0, 3.0]])
  found = pairwise("snr", a, b), pairwise("snr", b, a)
  np.testing.assert_allclose(np.ravel(found), [0.25, 1.0], rtol=1e-7)


@pytest.mark.slow
def test_angles_of_opposite_and_of_near_points():
  x = jnp.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 1e-4]])
  value = pairwise("angular", x, x, exact=True)
  np.testing.assert_allclose(value[0], [0, np.pi, 1e-4], rtol=1e-5)


def test_mahalanobis_without_full_column_rank_is_a_pseudo_metric():
  flat = jnp.array([[1.0, 0.0]])
  far = ml.METRICS["mahalanobis"].pointwise(
    jnp.array([0.0, 0.0]), jnp.array([0.0, 3.0]), factor=flat
  )
  assert far == 0
