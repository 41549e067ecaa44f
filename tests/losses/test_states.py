"""The state of two losses, over several batches."""

import jax
import jax.numpy as jnp
import loss_cases as cases
import loss_oracles
import numpy as np
import oracle_batches
import oracle_pairs
import pytest

import metric_learning as ml
from tests.quick import quick_jit

N, DIM, CLASSES = 8, 3, 4


def batch(step):
  generator = np.random.default_rng(step)
  x = 0.7 * generator.normal(size=(N, DIM))
  return x, generator.integers(0, CLASSES, size=N), np.arange(N) != step


def run(objective, state, steps, check):
  """Calls `check(value, state, x, labels)` with the state after each batch."""

  @quick_jit
  def step_of(x, labels, where, state):
    return objective({}, x, labels, where=where, state=state)

  for step in range(steps):
    x, labels, where = batch(step)
    value, aux = step_of(x, labels, where, state)
    state = aux.state
    check(value, state, x[where], labels[where])
  assert step_of._cache_size() == 1


@pytest.mark.slow
def test_a_histogram_follows_the_batches(x64):
  hyper = {"low": -1.3, "high": 1.9, "momentum": 0.3}
  objective = ml.make_objective(
    "triplet_dynamic_soft", num_bins=6, block_size=3, **hyper
  )
  state = objective.init_state()
  np.testing.assert_array_equal(state["histogram"], np.zeros(7))
  expected = np.zeros(7)

  def check(value, state, x, labels):
    nonlocal expected
    options = {"metric": "l2", "normalize": "l2", "reduction": "mean"}
    wanted = loss_oracles.loss(
      "triplet_dynamic_soft",
      x,
      labels,
      hyper={**hyper, "num_bins": 6},
      state={"histogram": expected},
      **options,
    )
    x = oracle_batches.normalized("l2", x)
    rows = oracle_batches.Batch("l2", x, labels, x, labels, itself=True)
    expected = oracle_pairs.triplet_histogram(
      rows, expected, num_bins=6, **hyper
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-9)
    np.testing.assert_allclose(state["histogram"], expected, atol=1e-12)
    np.testing.assert_allclose(np.sum(state["histogram"]), 1)

  run(objective, state, 4, check)


def test_a_batch_without_triplets_leaves_the_histogram(x64):
  objective = ml.make_objective("triplet_dynamic_soft")
  state = cases.STATES["triplet_dynamic_soft"]
  x = jnp.asarray(batch(0)[0])
  call = quick_jit(objective.__call__)
  for labels in (np.zeros(N, int), np.arange(N)):
    value, aux = call({}, x, labels, state=state)
    assert value == 0
    np.testing.assert_array_equal(aux.state["histogram"], state["histogram"])


def test_centers_follow_their_classes(x64):
  objective = ml.make_objective("center", weight=1.0, rate=0.4)
  state = objective.init_state(num_classes=CLASSES, embedding_dim=DIM)
  np.testing.assert_array_equal(state["centers"], np.zeros((CLASSES, DIM)))
  centers = np.zeros((CLASSES, DIM))

  def check(value, state, x, labels):
    away = x - centers[labels]
    np.testing.assert_allclose(value, np.mean((away**2).sum(1) / 2))
    for c in range(CLASSES):
      of_class = x[labels == c]
      pull = sum(centers[c] - item for item in of_class)
      centers[c] -= 0.4 * pull / (1 + len(of_class))
    np.testing.assert_allclose(state["centers"], centers, rtol=1e-9)

  run(objective, state, 4, check)


def test_names_of_classes_name_centers(x64):
  x, labels, _ = batch(0)
  new = np.array([2, 0, 3, 1])
  centers = np.random.default_rng(3).normal(size=(CLASSES, DIM))
  objective = ml.make_objective("center")
  call = quick_jit(objective.__call__)
  value, aux = call({}, x, labels, state={"centers": centers})
  moved = {"centers": centers[np.argsort(new)]}
  renamed, other = call({}, x, new[labels], state=moved)
  np.testing.assert_allclose(renamed, value, rtol=1e-12)
  np.testing.assert_allclose(
    other.state["centers"][new], aux.state["centers"], rtol=1e-12
  )


@pytest.mark.parametrize("loss", ["triplet_dynamic_soft", "center"])
def test_a_state_has_no_gradient(loss):
  x, labels, _ = batch(0)
  objective = ml.make_objective(loss)
  state = cases.state(loss, jnp.ones(1, jnp.float32))

  def kept(x):
    _, aux = objective({}, x, jnp.asarray(labels), state=state)
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(aux.state))

  slopes = quick_jit(jax.grad(kept))(jnp.asarray(x, jnp.float32))
  assert (np.asarray(slopes) == 0).all()


@pytest.mark.parametrize("loss", ["triplet_dynamic_soft", "center"])
def test_a_state_is_asked_for(loss):
  x, labels, _ = batch(0)
  x, labels = jnp.asarray(x, jnp.float32), jnp.asarray(labels)
  for state in ({}, None):
    with pytest.raises(ml.InputError, match=f"{loss} has a state"):
      ml.make_objective(loss)({}, x, labels, state=state)


def test_centers_need_their_number():
  with pytest.raises(ml.InputError, match=r"num_classes=.*embedding_dim="):
    ml.make_objective("center").init_state(embedding_dim=3)
