"""Distances against SciPy, the axioms that hold and those that do not."""

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
from tests.quick import quick_jit

METRICS = sorted(ml.METRICS)
FACTOR = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, -1.0], [0.0, 0.0, 0.5]])
# "yes" cells of the reference: which axioms hold for all points.
AXIOMS = {
  "l1": {"non_negative", "identity", "symmetry", "triangle"},
  "l2": {"non_negative", "identity", "symmetry", "triangle"},
  "squared_l2": {"non_negative", "identity", "symmetry"},
  "cosine": {"non_negative", "symmetry"},
  "dot": {"symmetry"},
  "mahalanobis": {"non_negative", "identity", "symmetry", "triangle"},
  "squared_mahalanobis": {"non_negative", "identity", "symmetry"},
  "lp": {"non_negative", "identity", "symmetry", "triangle"},
  "linf": {"non_negative", "identity", "symmetry", "triangle"},
  "angular": {"non_negative", "symmetry", "triangle"},
  "snr": {"non_negative"},
}
# Further powers than that of `options`: below 1 the triangle fails.
POWERS = [0.5, 1, 1.5, 2, 4.5, 8]


def cases(axiom):
  return [metric for metric in METRICS if axiom in AXIOMS[metric]]


def scipy_distances(metric, x, y, factor):
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if metric == "dot":
    return -(x @ y.T)
  if metric in ("mahalanobis", "squared_mahalanobis"):
    matrix = cdist(x, y, "mahalanobis", VI=factor.T @ factor)
    return matrix**2 if metric == "squared_mahalanobis" else matrix
  if metric == "lp":
    return cdist(x, y, "minkowski", p=3)
  if metric == "angular":
    return np.arccos(np.clip(1 - cdist(x, y, "cosine"), -1, 1))
  if metric == "snr":
    noise = np.var(x[:, None] - y[None], axis=2)
    return noise / (np.var(x, axis=1)[:, None] + 1e-8)
  names = {
    "linf": "chebyshev",
    "l1": "cityblock",
    "l2": "euclidean",
    "squared_l2": "sqeuclidean",
    "cosine": "cosine",
  }
  return cdist(x, y, names[metric])


def options(metric, d=3, dtype=np.float64):
  """The keywords of a metric that has parameters."""
  if metric == "lp":
    return {"p": 3}
  if metric not in ("mahalanobis", "squared_mahalanobis"):
    return {}
  factor = np.eye(d)
  factor[:3, :3] = FACTOR
  return {"factor": jnp.asarray(factor, dtype)}


def matrix_of(metric, x, y, *, exact=False, p=None, **factor):
  """`ml.pairwise` with the options of the metric beside its parameters."""
  named = metric if p is None else (metric, {"p": p})
  return ml.pairwise(named, x, y, exact=exact, **factor)


def points(n, d, seed=0):
  return np.random.default_rng(seed).normal(size=(n, d))


pairwise = quick_jit(matrix_of, static_argnames=("metric", "exact", "p"))
normalized = quick_jit(
  lambda name, x: ml.NORMALIZATIONS[name](x), static_argnames="name"
)


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


# --- values ------------------------------------------------------------------


def test_every_metric_is_known_to_these_tests():
  assert set(AXIOMS) == set(ml.METRICS)


# More than one group of rows, of columns and of features, none of them full.
X, Y, WEIGHTS = points(19, 37), points(35, 37, seed=1), points(19, 35, seed=2)


def forms(metric, factor):
  """The ways to compute a matrix of distances, by their names."""
  one = lambda a, b: ml.METRICS[metric].pointwise(a, b, **factor)
  of_matrix = functools.partial(matrix_of, metric, **factor)
  return {
    "product": of_matrix,
    "exact": functools.partial(of_matrix, exact=True),
    "pointwise": jax.vmap(jax.vmap(one, (None, 0)), (0, None)),
  }


@functools.cache
def computed(metric):
  """Of each form the distances of X and Y, and the gradients of their sum.

  It is weighed by WEIGHTS. One program for all that tests ask in float64.
  """

  @quick_jit
  def everything(x, y, weights):
    found = {}
    for name, form in forms(metric, options(metric, X.shape[1])).items():
      matrix, pull = jax.vjp(form, x, y)
      found[name] = matrix, pull(weights)
    return found

  with jax.enable_x64(True):
    return jax.device_get(everything(X, Y, WEIGHTS))


def scipy_of(metric, x, y):
  factor = options(metric, X.shape[1], np.float32).get("factor")
  return scipy_distances(metric, x, y, np.asarray(factor))


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


@functools.cache
def in_float32(metric):
  """9 points of 8 features to their distances and the gradients of the sum.

  Of each form; the gradients are by both sides.
  """
  factor = options(metric, 8, np.float32)

  @quick_jit
  def everything(x, y):
    found = {}
    for name, form in forms(metric, factor).items():
      matrix, pull = jax.vjp(form, x, y)
      found[name] = matrix, pull(jnp.ones_like(matrix))
    return found

  return lambda x: jax.device_get(everything(x, x))


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
  """Also those that padding makes alike: 3 and 2 features fill one group."""
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
  """Before the cut, more than half of them come out at 3e-4 under L2."""
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
  """Also with rows of zeros, which pad, and blocks that see few rows."""
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
  """Before a clamp two in five squares of a point with itself are."""
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


# --- gradients ---------------------------------------------------------------


def differences(row, weighed):
  """The slopes by each coordinate of a row, of a function of many rows."""
  step = 1e-6 * np.eye(len(row))
  return (weighed(row + step) - weighed(row - step)) / 2e-6


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_equals_differences_of_scipy(metric):
  """By each coordinate: a row of X or of Y moves only its own distances."""
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
  """Those with a derivative of their own, which `vmap` must know."""

  def total(a, b):
    named = {"exact": True, **options(metric)}
    return jnp.sum(matrix_of(metric, a, b, **named))

  x = np.tile(points(1, 3), (2, 3, 1)).astype(np.float32)
  for side in quick_jit(jax.vmap(jax.grad(total, (0, 1))))(x, x):
    assert not np.any(side)


@pytest.mark.parametrize("metric", METRICS)
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


# --- axioms ------------------------------------------------------------------

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


# --- normalisation -----------------------------------------------------------


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


# --- memory ------------------------------------------------------------------


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


def test_the_memory_of_a_broadcast_is_seen():
  """The measure itself: plain broadcasting does hold n * m * d numbers."""

  def weighed(x, y, weights):
    return jnp.sum(weights * jnp.sum(jnp.abs(x[:, None] - y[None]), axis=-1))

  gradient = jax.value_and_grad(weighed, (0, 1))
  used = temporary_bytes(gradient, (256, 64), (256, 64), (256, 256))
  assert used > 4 * 256 * 256 * 64 / 8


# --- errors ------------------------------------------------------------------


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
