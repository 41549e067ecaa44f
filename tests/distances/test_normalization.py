"""Normalizations, and bounds of distances after them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning import distances
from tests.distances.distance_cases import METRICS, normalized, pairwise, points
from tests.quick import quick_jit


@pytest.mark.parametrize("name", sorted(ml.NORMALIZATIONS))
def test_normalization(name, x64):
  x = points(5, 4)
  x[2] = 0
  value = np.asarray(normalized(name, x))
  order = {"none": None, "l1": 1, "l2": 2}[name]
  expected = x.copy()
  if order:
    kept = [0, 1, 3, 4]
    expected[kept] /= np.linalg.norm(x[kept], ord=order, axis=1)[:, None]
  np.testing.assert_allclose(value, expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_normalization_gradient(name, x64):
  x, weights = points(3, 4), points(3, 4, seed=1)
  order = {"l1": 1, "l2": 2}[name]

  def total(x):
    return jnp.sum(weights * ml.NORMALIZATIONS[name](x))

  def expected(x):
    return np.sum(weights * x / np.linalg.norm(x, order, axis=1)[:, None])

  gradient = quick_jit(jax.grad(total))(x)
  for index in np.ndindex(x.shape):
    up, down = x.copy(), x.copy()
    up[index] += 1e-6
    down[index] -= 1e-6
    difference = (expected(up) - expected(down)) / 2e-6
    np.testing.assert_allclose(gradient[index], difference, atol=1e-8)


@pytest.mark.parametrize("name", sorted(ml.NORMALIZATIONS))
def test_zero_vector_stays_zero_with_a_finite_gradient(name):
  zero = jnp.zeros((2, 3))
  normalize = ml.NORMALIZATIONS[name]
  assert (np.asarray(normalize(zero)) == 0).all()
  gradient = quick_jit(jax.grad(lambda x: jnp.sum(normalize(x))))(zero)
  assert np.isfinite(gradient).all()
  if name != "none":
    assert (np.asarray(gradient) == 0).all()


def test_l1_normalize_has_no_gradient_through_a_zero_coordinate():
  # x_0 / Σ|x_j| at (2, 0): -x_0 sign(x_1) / 4, and sign(0) = 0.
  first = jax.grad(lambda x: ml.NORMALIZATIONS["l1"](x)[0, 0])
  gradient = quick_jit(first)(jnp.array([[2.0, 0.0]]))
  np.testing.assert_array_equal(gradient, [[0, 0]])


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_l2_normalize_of_tiny_and_huge_vectors(size):
  x = jnp.asarray([[3.0, -4.0]], jnp.float32) * size
  first = jax.value_and_grad(lambda x: ml.NORMALIZATIONS["l2"](x)[0, 0])
  value, gradient = quick_jit(first)(x)
  np.testing.assert_allclose(value, 0.6, rtol=1e-6)
  # d(x/|x|)/dx = y²/|x|³ and -xy/|x|³.
  expected = [[0.64 / (5 * size), 0.48 / (5 * size)]]
  np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_safe_sqrt():
  assert distances.safe_sqrt(jnp.float32(4.0)) == 2
  assert distances.safe_sqrt(jnp.float32(-1.0)) == 0
  for point in (0.0, -1.0):
    assert jax.grad(distances.safe_sqrt)(point) == 0
  np.testing.assert_allclose(jax.grad(distances.safe_sqrt)(4.0), 0.25)


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize(
  ("metric", "normalize"),
  [
    (metric, normalize)
    for metric in ("l1", "l2", "squared_l2", "cosine", "linf", "angular")
    for normalize in ("l1", "l2")
  ],
)
def test_largest_distance_is_a_bound_that_is_reached(metric, normalize, d):
  bound = ml.METRICS[metric].bound(normalize, d)
  # Opposite corners: of the cube for L1 on the L2 sphere, else of an axis.
  cube = (metric, normalize) == ("l1", "l2")
  corner = np.ones((1, d)) if cube else np.eye(1, d)
  x = np.concatenate([corner, -corner, points(50, d)])
  x /= np.linalg.norm(x, {"l1": 1, "l2": 2}[normalize], axis=1, keepdims=True)
  # More coordinates, all zero: the same points, and one program.
  x = np.pad(x, ((0, 0), (0, 4 - d))).astype(np.float32)
  value = pairwise(metric, x, x)
  assert np.max(value) <= bound * (1 + 1e-6)
  np.testing.assert_allclose(value[0, 1], bound, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_unnormalized_distances_have_no_largest_but_cosine(metric):
  bound = ml.METRICS[metric].bound("none", 4)
  assert bound == {"cosine": 2.0, "angular": np.pi}.get(metric)
