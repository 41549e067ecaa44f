"""Gradients of distances against finite differences of SciPy's distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from tests.distances.distance_cases import (
  FACTOR,
  METRICS,
  WEIGHTS,
  X,
  Y,
  computed,
  in_float32,
  matrix_of,
  options,
  points,
  scipy_distances,
  scipy_of,
)
from tests.quick import quick_jit

# Values and gradients come from the same programs.
pytestmark = pytest.mark.xdist_group("distances")


def differences(row, weighed):
  """The slope along each coordinate of a row, for a function of many rows."""
  step = 1e-6 * np.eye(len(row))
  return (weighed(row + step) - weighed(row - step)) / 2e-6


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.slow
def test_gradient_equals_differences_of_scipy(metric):
  """For each coordinate: a row of X or Y changes only its own distances."""
  of_x = np.array(
    [
      differences(x, lambda rows, w=w: scipy_of(metric, rows, Y) @ w)
      for x, w in zip(X, WEIGHTS, strict=True)
    ]
  )
  of_y = np.array(
    [
      differences(y, lambda rows, w=w: w @ scipy_of(metric, X, rows))
      for y, w in zip(Y, WEIGHTS.T, strict=True)
    ]
  )
  for form in ("product", "exact"):
    _, gradients = computed(metric)[form]
    for got, expected in zip(gradients, (of_x, of_y), strict=True):
      np.testing.assert_allclose(
        got, expected, rtol=1e-6, atol=1e-7, err_msg=form
      )


@pytest.mark.parametrize("metric", METRICS)
def test_matrix_gradient_equals_pointwise_gradient(metric):
  _, expected = computed(metric)["pointwise"]
  for form in ("product", "exact"):
    _, got = computed(metric)[form]
    for a, b in zip(got, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10, err_msg=form)


def test_factor_gets_a_gradient(x64):
  x, y = points(2, 3), points(2, 3, seed=1)

  def total(factor):
    here = jnp.asarray(x), jnp.asarray(y)
    return jnp.sum(ml.pairwise("mahalanobis", *here, factor=factor))

  gradient = quick_jit(jax.grad(total))(jnp.asarray(FACTOR))
  for index in np.ndindex(3, 3):
    ends = []
    for sign in (1e-6, -1e-6):
      factor = FACTOR.copy()
      factor[index] += sign
      ends.append(scipy_distances("mahalanobis", x, y, factor).sum())
    np.testing.assert_allclose(
      gradient[index], (ends[0] - ends[1]) / 2e-6, atol=1e-7
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  "metric",
  ["l1", "l2", "squared_l2", "mahalanobis", "lp", "linf", "angular"],
)
def test_gradient_is_zero_at_coincident_points(metric):
  # Quarters, as the sum of 9 of them is rounded by three times as much as of 3.
  x = np.tile(points(1, 8) / 4, (9, 1)).astype(np.float32)
  found = in_float32(metric)(x)
  # The gradient of D² is a product of matrices, zero up to rounding.
  tolerance = 1e-6 if metric == "squared_l2" else 0
  for form, allowed in (("pointwise", 0), ("exact", tolerance)):
    for side in found[form][1]:
      assert np.max(np.abs(side)) <= allowed, form
  if metric == "l2":
    # As a user who debugs calls it, which compiles each operation.
    for side in jax.grad(ml.METRICS[metric].pointwise, (0, 1))(x[0], x[0]):
      assert (np.asarray(side) == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["l1", "l2", "lp", "linf"])
def test_gradient_is_zero_at_coincident_points_of_several_batches(metric):
  """For metrics with a custom derivative, which `vmap` must handle."""

  def total(a, b):
    named = {"exact": True, **options(metric)}
    return jnp.sum(matrix_of(metric, a, b, **named))

  x = np.tile(points(1, 3), (2, 3, 1)).astype(np.float32)
  for side in quick_jit(jax.vmap(jax.grad(total, (0, 1))))(x, x):
    assert not np.any(side)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.slow
def test_gradient_is_finite_on_a_batch_with_itself(metric):
  x = np.concatenate([points(5, 8), np.zeros((2, 8))]).astype(np.float32)
  found = in_float32(metric)(np.concatenate([x, x[:2]]))
  for form in ("product", "exact"):
    assert np.isfinite(found[form][1]).all(), form


@pytest.mark.slow
def test_l1_gradient_is_zero_at_a_tie_of_a_coordinate():
  x = jnp.array([[0.0, 1.0, 5.0]])
  y = jnp.array([[0.0, 3.0, 2.0]])
  expected = np.array([[0.0, -1.0, 1.0]])

  def matrix(x, y):
    return ml.pairwise("l1", x, y)[0, 0]

  def pointwise(x, y):
    return ml.METRICS["l1"].pointwise(x[0], y[0])

  for function in (matrix, pointwise):
    for transform in (lambda f: f, quick_jit):
      x_bar, y_bar = transform(jax.grad(function, (0, 1)))(x, y)
      np.testing.assert_array_equal(x_bar, expected)
      np.testing.assert_array_equal(y_bar, -expected)
  stacked = jax.vmap(jax.grad(matrix))(x[None], y[None])
  np.testing.assert_array_equal(stacked, expected[None])


def temporary_bytes(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  compiled = jax.jit(function).lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("metric", ["l1", "l2", "squared_l2", "lp", "linf"])
def test_no_distance_holds_a_number_per_pair_and_feature(metric):
  n = m = 256
  d = 64
  cube = 4 * n * m * d

  def weighed(x, y, weights):
    named = {"exact": True, **options(metric)}
    return jnp.sum(weights * matrix_of(metric, x, y, **named))

  both = jax.value_and_grad(weighed, (0, 1))
  assert temporary_bytes(both, (n, d), (m, d), (n, m)) < cube / 8


@pytest.mark.skipif(
  jax.default_backend() != "cpu",
  reason="XLA fuses the broadcast on a GPU, and holds nothing",
)
def test_the_memory_of_a_broadcast_is_seen():
  """The measure works: plain broadcasting does hold n * m * d numbers."""

  def weighed(x, y, weights):
    return jnp.sum(weights * jnp.sum(jnp.abs(x[:, None] - y[None]), axis=-1))

  gradient = jax.value_and_grad(weighed, (0, 1))
  used = temporary_bytes(gradient, (256, 64), (256, 64), (256, 256))
  assert used > 4 * 256 * 256 * 64 / 8
