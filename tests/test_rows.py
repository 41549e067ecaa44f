"""Terms, reductions and the folding of rows, by hand and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import metric_learning as ml
from metric_learning import rows
from metric_learning.rows import Points, Row, Terms
from tests.quick import quick_jit

# Outside of jit each operation is a program.
make_terms = quick_jit(rows.make_terms)
add_terms = quick_jit(rows.add_terms)
reduce_terms = quick_jit(rows.reduce_terms, static_argnums=1)
logsumexp_and_gradient = quick_jit(jax.value_and_grad(rows.weighted_logsumexp))

# --- terms -------------------------------------------------------------------


def test_terms_of_weighted_values():
  values = jnp.array([3.0, -2.0, 0.0, 5.0])
  weights = jnp.array([1.0, 2.0, 4.0, 0.0])
  terms = make_terms(values, weights)
  assert terms.total == 3 - 2 * 2
  assert terms.count == 1 + 2 + 4
  assert terms.active_total == 3  # strictly positive only
  assert terms.active == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_without_weight_is_not_seen(bad):
  def total(values):
    return rows.make_terms(values, jnp.array([1.0, 0.0])).total

  value, gradient = quick_jit(jax.value_and_grad(total))(jnp.array([2.0, bad]))
  assert value == 2
  np.testing.assert_array_equal(gradient, [1, 0])


def test_terms_add():
  one = make_terms(jnp.array([1.0]), jnp.array([2.0]))
  two = make_terms(jnp.array([-1.0]), jnp.array([3.0]))
  both = add_terms(one, two)
  assert both.total == 2 - 3
  assert both.count == 2 + 3
  assert both.active_total == 2
  assert both.active == 2


# --- reductions --------------------------------------------------------------

# Three anchors: terms (4, 2 at weight 3), none, (-1, 0).
BY_HAND = Terms(
  total=jnp.array([4 + 3 * 2.0, 0, -1 + 0.0]),
  count=jnp.array([1 + 3.0, 0, 2]),
  active_total=jnp.array([4 + 3 * 2.0, 0, 0]),
  active=jnp.array([4.0, 0, 0]),
)


@pytest.mark.parametrize(
  ("reduction", "expected"),
  [
    ("mean", (10 - 1) / 6),
    ("mean_active", 10 / 4),
    ("per_anchor_mean", (10 / 4 + -1 / 2) / 2),
    ("sum", 10 - 1),
    ("none", [10 / 4, 0, -1 / 2]),
  ],
)
def test_reduction(reduction, expected):
  np.testing.assert_allclose(reduce_terms(BY_HAND, reduction), expected)


@pytest.mark.parametrize("reduction", sorted(ml.REDUCTIONS))
@pytest.mark.parametrize("n", [0, 3])
def test_nothing_reduces_to_zero_with_zero_gradient(reduction, n):
  def value(total):
    nothing = Terms(total, *(jnp.zeros(n) for _ in range(3)))
    return jnp.sum(rows.reduce_terms(nothing, reduction))

  value, gradient = quick_jit(jax.value_and_grad(value))(jnp.zeros(n))
  assert value == 0
  if reduction != "sum":
    assert (np.asarray(gradient) == 0).all()


def test_unknown_reduction():
  with pytest.raises(
    ml.InputError, match=r"reduction 'men'; did you mean 'mean'"
  ):
    rows.reduce_terms(BY_HAND, "men")


def test_ratio():
  both = quick_jit(jax.value_and_grad(rows.ratio, (0, 1)))
  value, gradient = both(0.0, 0.0)
  assert value == 0
  assert gradient == (0, 0)
  assert both(3.0, 2.0)[0] == 1.5


# --- log-sum-exp -------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_weighted_logsumexp(shift):
  generator = np.random.default_rng(0)
  values = generator.normal(size=7) + shift
  weights = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.0, 3.0])
  with jax.enable_x64(True):
    value, gradient = logsumexp_and_gradient(values, weights)
  expected = logsumexp(values, b=weights)
  np.testing.assert_allclose(value, expected, rtol=1e-12)
  share = weights * np.exp(values - expected)
  np.testing.assert_allclose(gradient, share, atol=1e-12)


@pytest.mark.parametrize("n", [0, 3])
def test_logsumexp_of_nothing(n):
  value, gradient = logsumexp_and_gradient(jnp.ones(n), jnp.zeros(n))
  assert value == -jnp.inf
  assert (np.asarray(gradient) == 0).all()


def test_logsumexp_ignores_values_without_weight():
  values = jnp.array([1.0, 1e30, jnp.nan, jnp.inf])
  weights = jnp.array([2.0, 0.0, 0.0, 0.0])
  value, gradient = logsumexp_and_gradient(values, weights)
  np.testing.assert_allclose(value, 1 + np.log(2), rtol=1e-6)
  np.testing.assert_allclose(gradient, [1, 0, 0, 0])


# --- one positive at a time ---------------------------------------------------


@pytest.mark.parametrize("m", [0, 1, 63, 64, 65, 200])
def test_each_positive_is_visited_once_and_in_order(m):
  """Also where groups of the search are empty, full, or end with the row."""
  random = np.random.default_rng(m)
  positives = np.stack(
    [
      np.zeros(m),
      np.full(m, 0.5),
      random.uniform(size=m) < 0.05,
      np.arange(m) == m - 1,
      np.isin(np.arange(m), [0, 63, 64, 127, 128, 191]),
    ]
  ).astype(np.float32)

  def note(p, visits):
    places, number = visits
    here = jnp.arange(m) == p[:, None]
    return places + here * number, number + 1

  start = (jnp.zeros(positives.shape, int), jnp.ones((), int))
  places, _ = quick_jit(lambda x: rows.each_positive(x, note, start))(positives)
  expected = np.cumsum(positives > 0, axis=1) * (positives > 0)
  np.testing.assert_array_equal(places, expected)


@pytest.mark.parametrize("m", [1, 63, 64, 65, 200])
def test_nearest_and_farthest_are_the_first_of_the_ties(m):
  """As an argmin, which takes the first of equal numbers, and NaN first."""
  random = np.random.default_rng(m)
  distances = random.integers(0, 3, (12, m)).astype(np.float32)
  distances[-3:, m // 2 :] = np.nan
  allowed = random.uniform(size=(12, m)) < 0.3
  allowed[0] = False
  for choose, best, other in (
    (rows.nearest, np.argmin, np.inf),
    (rows.farthest, np.argmax, -np.inf),
  ):
    chosen = quick_jit(jax.vmap(choose))(distances, allowed)
    expected = best(np.where(allowed, distances, other), axis=1)
    np.testing.assert_array_equal(chosen, expected)


# --- rows --------------------------------------------------------------------


def make_points(labels, weight=None, group=None):
  n = len(labels)
  return Points(
    embeddings=np.arange(n, dtype=np.float32)[:, None],
    labels=np.array(labels),
    weight=np.ones(n, np.float32) if weight is None else np.float32(weight),
    group=np.arange(n) if group is None else np.array(group),
  )


def l1(x, y):
  return ml.pairwise("l1", x, y)


@quick_jit
def make_rows(points, affinity=None):
  return rows.make_rows(points, points, l1, affinity)


def test_rows_of_a_batch():
  points = make_points([0, 1, 0])
  row = make_rows(points)
  np.testing.assert_array_equal(
    row.distances, [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
  )
  np.testing.assert_array_equal(
    row.positives, [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
  )
  np.testing.assert_array_equal(
    row.negatives, [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
  )
  np.testing.assert_array_equal(row.weight, [1, 1, 1])
  np.testing.assert_array_equal(row.label, [0, 1, 0])


def test_padding_has_no_row_and_is_no_candidate():
  points = make_points([0, 1, 0, 1], weight=[1.0, 1.0, 1.0, 0.0])
  row = make_rows(points)
  for weights in (row.positives, row.negatives):
    assert (np.asarray(weights)[3] == 0).all()
    assert (np.asarray(weights)[:, 3] == 0).all()
  assert row.positives.sum() == 2
  assert row.negatives.sum() == 4


def test_points_of_one_group_never_meet():
  points = make_points([0, 0, 1, 1], group=[0, 1, 0, 1])
  row = make_rows(points)
  np.testing.assert_array_equal(
    row.positives, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
  )
  np.testing.assert_array_equal(
    row.negatives, [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
  )


def test_affinity_takes_the_place_of_labels():
  points = make_points([0, 0])
  affinity = jnp.array([[1.0, 0.25], [0.75, 1.0]])
  row = make_rows(points, affinity)
  np.testing.assert_array_equal(row.positives, [[0, 0.25], [0.75, 0]])
  np.testing.assert_array_equal(row.negatives, [[0, 0.75], [0.25, 0]])


def test_where_an_affinity_is_not_known_there_is_no_pair():
  points = make_points([0, 0, 0])
  affinity = jnp.array([[0, 0.25, jnp.nan], [jnp.nan, 0, 1], [1, jnp.nan, 0]])
  row = make_rows(points, affinity)
  np.testing.assert_array_equal(
    row.positives, [[0, 0.25, 0], [0, 0, 1], [1, 0, 0]]
  )
  np.testing.assert_array_equal(
    row.negatives, [[0, 0.75, 0], [0, 0, 0], [0, 0, 0]]
  )


@pytest.mark.parametrize("with_affinity", [False, True])
def test_blocks_of_rows_are_the_rows(with_affinity):
  generator = np.random.default_rng(0)
  anchors = Points(
    jnp.asarray(generator.normal(size=(7, 2)), jnp.float32),
    jnp.arange(7) % 3,
    jnp.array([1.0, 1, 0, 1, 1, 1, 1]),
    jnp.arange(7),
  )
  candidates = Points(
    jnp.asarray(generator.normal(size=(5, 2)), jnp.float32),
    jnp.arange(5) % 3,
    jnp.array([1.0, 0, 1, 1, 1]),
    -1 - jnp.arange(5),
  )
  affinity = None
  if with_affinity:
    affinity = jnp.asarray(generator.uniform(size=(7, 5)), jnp.float32)
  own = jnp.arange(7.0)

  def seen(row, mine):
    assert isinstance(row, Row)
    assert row.distances.shape == (5,)
    return {"row": row, "own": mine}

  @quick_jit
  def all_sizes(anchors, candidates, affinity):
    return [
      rows.over_rows(anchors, candidates, l1, affinity, size)(seen, own)
      for size in (None, 1, 3, 7, 100)
    ]

  dense, *blocked = all_sizes(anchors, candidates, affinity)
  assert dense["row"].distances.shape == (7, 5)
  for of_size in blocked:
    for a, b in zip(
      jax.tree.leaves(dense), jax.tree.leaves(of_size), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-6)
