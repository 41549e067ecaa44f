"""Distances against SciPy, and their precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import metric_learning as ml
from metric_learning import distances
from tests.distances.distance_cases import (
  AXIOMS,
  METRICS,
  X,
  Y,
  computed,
  in_float32,
  matrix_of,
  options,
  pairwise,
  points,
  scipy_distances,
  scipy_of,
)
from tests.quick import quick_jit

# Values and gradients come from the same programs.
pytestmark = pytest.mark.xdist_group("distances")


def test_every_metric_is_known_to_these_tests():
  assert set(AXIOMS) == set(ml.METRICS)


@pytest.mark.parametrize("metric", METRICS)
def test_matrix_equals_scipy(metric, x64):
  expected = scipy_of(metric, X, Y)
  for form in ("product", "exact"):
    value, _ = computed(metric)[form]
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(
      value, expected, rtol=1e-10, atol=1e-12, err_msg=form
    )


@pytest.mark.parametrize("metric", METRICS)
def test_pointwise_equals_matrix(metric):
  pointwise, _ = computed(metric)["pointwise"]
  for form in ("product", "exact"):
    value, _ = computed(metric)[form]
    np.testing.assert_allclose(pointwise, value, rtol=1e-10, err_msg=form)


@pytest.mark.parametrize("metric", METRICS)
def test_bfloat16_is_computed_in_float32(metric):
  x = jnp.asarray(points(6, 20), jnp.bfloat16)
  y = jnp.asarray(points(7, 20, seed=1), jnp.bfloat16)
  factor = options(metric, 20, np.float32)
  both = quick_jit(
    lambda x, y: [
      matrix_of(metric, x, y, exact=exact, **factor) for exact in (False, True)
    ]
  )
  expected = scipy_distances(metric, x, y, np.asarray(factor.get("factor")))
  for value in both(x, y):
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_points_give_an_empty_matrix(metric, shape):
  x, y = jnp.zeros((shape[0], 4)), jnp.zeros((shape[1], 4))
  of = functools.partial(matrix_of, metric, **options(metric, 4, np.float32))
  assert jax.eval_shape(of, x, y).shape == shape
  if metric in ("l1", "l2"):  # one of each kind runs
    assert quick_jit(of)(x, y).shape == shape


@pytest.mark.parametrize("metric", METRICS)
def test_nan_is_not_swallowed(metric):
  x = points(9, 8).astype(np.float32)
  x[1, 2] = np.nan
  others = np.arange(9) != 1
  for value, _ in in_float32(metric)(x).values():
    assert np.isnan(value[1]).all() and np.isnan(value[:, 1]).all()
    assert np.isfinite(value[np.ix_(others, others)]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_other_dimensions_are_refused(metric):
  """Even if padding makes them alike: 3 and 2 features fill one group."""
  # Enforced types refuse it before, as a user does not meet them.
  user = lambda function: getattr(function, "__wrapped__", function)
  named = (metric, {"p": 3}) if metric == "lp" else metric
  for first, second in ((3, 2), (8, 5), (3, 20), (1, 3)):
    x, y = np.ones((4, first)), np.ones((5, second))
    factor = options(metric, 8, np.float32)
    for exact in (False, True):
      given = {} if metric == "lp" else factor
      with pytest.raises(ml.InputError, match=r"\(4, .*\(5, .*same d"):
        user(ml.pairwise)(named, x, y, exact=exact, **given)
    with pytest.raises(ml.InputError, match="same d"):
      user(ml.METRICS[metric].pointwise)(x[0], y[0], **factor)


def test_a_factor_of_another_dimension_is_refused():
  project = getattr(distances.project, "__wrapped__", distances.project)
  for factor in (np.eye(2), np.ones(3), None):
    with pytest.raises(ml.InputError, match="factor"):
      project(jnp.ones((4, 3)), factor)


def test_exact_form_keeps_the_digits_of_small_distances():
  x = points(50, 128)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  step = points(50, 128, seed=1)
  step /= np.linalg.norm(step, axis=1, keepdims=True)
  x, y = x.astype(np.float32), (x + 1e-4 * step).astype(np.float32)
  true = np.diag(cdist(x.astype(np.float64), y.astype(np.float64)))
  exact = np.diag(pairwise("l2", x, y, exact=True))
  gram = np.diag(pairwise("l2", x, y))
  np.testing.assert_allclose(exact, true, rtol=1e-5)
  assert np.max(np.abs(gram - true) / true) > 0.1  # why the exact form exists
  same = np.diag(pairwise("l2", x, x, exact=True))
  assert (same == 0).all()


@pytest.mark.parametrize("d", [2, 3])
def test_the_cosine_of_a_point_with_itself_is_one_in_few_dimensions(d):
  """There, the rounding of a length matters as much as that of a product."""
  x = jnp.asarray(points(2048, d), jnp.float32).reshape(8, 256, d)
  own = jax.vmap(lambda x: jnp.diagonal(ml.pairwise("cosine", x, x)))(x)
  np.testing.assert_array_equal(own, 0)


# Two have a product of matrices of their own, the others are made of these.
@pytest.mark.parametrize(
  ("metric", "d"),
  [
    *(("l2", d) for d in (2, 64, 512)),
    *(("cosine", d) for d in (2, 512)),
    ("squared_l2", 64),
    ("angular", 64),
  ],
)
def test_product_form_of_duplicates_is_zero(metric, d):
  """Without the cutoff, over half of them are 3e-4 under L2."""
  x = points(64, d).astype(np.float32)
  x[1::2] = x[::2]
  x[1] += 0.1  # a pair that is near, and apart
  value, pull = quick_jit(jax.vjp, static_argnums=0)(
    lambda x: ml.pairwise(metric, x, x), x
  )
  same = (np.arange(64) // 2)[:, None] == (np.arange(64) // 2)[None]
  same[:2, :2] = np.eye(2)
  np.testing.assert_array_equal(np.asarray(value) == 0, same)
  (gradient,) = pull(jnp.asarray(same, jnp.float32))
  np.testing.assert_array_equal(gradient, 0)
  true = scipy_distances(metric, x[:1], x[1:2], None)
  np.testing.assert_allclose(value[0, 1], true[0, 0], rtol=1e-2)


@pytest.mark.parametrize("offset", [0.0, 100.0, 10_000.0])
def test_an_offset_costs_the_product_form_no_digits(offset):
  """Also with rows of zeros as padding, and in blocks of few rows."""
  b = points(24, 16) * 0.5
  x = (b + offset).astype(np.float32)
  x = np.concatenate([x, np.zeros((24, 16), np.float32)])

  @quick_jit
  def value_and_gradient(x):
    real = x[:24]
    total = lambda rows, x: jnp.sum(ml.pairwise("l2", rows, x)[:, :24])
    pulls = jax.grad(total, (0, 1))(real, x)
    parts = [ml.pairwise("l2", real[i : i + 8], x) for i in (0, 8, 16)]
    return ml.pairwise("l2", real, x), jnp.concatenate(parts), pulls

  value, blocks, (left, right) = value_and_gradient(x)
  wide = x.astype(np.float64)
  np.testing.assert_allclose(
    value[:, :24], cdist(wide[:24], wide[:24]), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(value, blocks, rtol=1e-6)
  apart = wide[:24, None] - wide[None, :24]
  size = np.sqrt((apart**2).sum(-1)) + np.eye(24)
  expected = (apart / size[..., None]).sum(1)
  np.testing.assert_allclose(left, expected, atol=1e-4)
  np.testing.assert_allclose(right[:24], expected, atol=1e-4)
  np.testing.assert_array_equal(right[24:], 0)


def test_the_center_ignores_what_is_not_finite():
  x = points(6, 4).astype(np.float32) + 100
  sick = np.concatenate([x, np.full((2, 4), np.inf), np.full((1, 4), np.nan)])
  value = pairwise("l2", x, sick)
  np.testing.assert_allclose(value[:, :6], cdist(x, x), rtol=1e-5, atol=1e-5)
  assert not np.isfinite(value[:, 6:]).any()


@pytest.mark.parametrize("metric", ["l2", "squared_l2", "mahalanobis"])
def test_product_form_is_never_negative(metric):
  """Without a clamp, two in five squared self-distances are negative."""
  x = points(200, 32).astype(np.float32)
  factor = options(metric, 32, np.float32)
  assert np.min(pairwise(metric, x, x, **factor)) >= 0


@pytest.mark.parametrize("metric", ["l1", "l2", "squared_l2"])
def test_zero_vectors_and_cosine_at_zero(metric):
  zero, one = np.zeros((1, 3)), np.ones((1, 3))
  assert pairwise(metric, zero, zero)[0, 0] == 0
  for exact in (False, True):
    assert pairwise("cosine", zero, one, exact=exact)[0, 0] == 1
    assert pairwise("cosine", zero, zero, exact=exact)[0, 0] == 1


@pytest.mark.parametrize(
  ("metric", "message"),
  [
    ("lp", r"'lp' needs its p"),
    (("lp", {"q": 3}), r"option of lp 'q'.*Known: p"),
    (("lp", {"p": 0}), r"p must be a positive number"),
    (("l2", {"p": 2}), r"option of l2 'p'"),
  ],
)
def test_wrong_options(metric, message):
  with pytest.raises(ml.InputError, match=f"(?s){message}"):
    ml.pairwise(metric, jnp.zeros((1, 2)), jnp.zeros((1, 2)))


def test_unknown_metric():
  with pytest.raises(ml.InputError, match=r"unknown metric 'l3'.*Known: .*l2"):
    ml.pairwise("l3", jnp.zeros((1, 2)), jnp.zeros((1, 2)))
