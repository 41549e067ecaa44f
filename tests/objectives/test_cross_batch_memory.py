"""A memory of earlier batches, against batches that are joined by hand."""

import jax
import jax.numpy as jnp
import loss_oracles
import numpy as np
import oracle_batches
import pytest
from loss_cases import (
  CLASSIFICATION,
  ONE_OF_EACH_KIND,
  PAIRED,
  STATES,
  STATIC,
)

import metric_learning as ml
from metric_learning.objectives.memory import empty_memory, enqueue, with_memory
from tests.quick import quick_jit

N, DIM = 4, 2
enqueued = quick_jit(enqueue)  # eagerly each operation is a program
HYPER = {"positive_margin": 0.1, "negative_margin": 1.4}


def batch(step):
  generator = np.random.default_rng(step)
  x = generator.normal(size=(N, DIM)).astype(np.float32)
  return jnp.asarray(x), jnp.asarray(generator.integers(0, 3, size=N))


def pairs(**options):
  """A loss of single pairs, which shows every compared pair."""
  options = {"normalize": "none", "block_size": None, **HYPER, **options}
  return ml.make_objective("contrastive_linear", "l2", **options)


def by_hand(x, labels, others, other_labels, same=()):
  """The mean hinge over the pairs; `same` marks copies of one item."""
  D = oracle_batches.distances("l2", x, others)
  parts = {"positive": [], "negative": []}
  for i, j in np.ndindex(*D.shape):
    if (i, j) in same:
      continue
    if labels[i] == other_labels[j]:
      value = max(0, D[i, j] - HYPER["positive_margin"])
      parts["positive"].append(value)
    else:
      value = max(0, HYPER["negative_margin"] - D[i, j])
      parts["negative"].append(value)
  active = ([v for v in part if v > 0] for part in parts.values())
  return sum(np.mean(part) for part in active if part)


# --- the ring ----------------------------------------------------------------


@pytest.mark.slow
def test_the_oldest_slots_are_written_over():
  memory = empty_memory(5, 1)
  written = {}
  for step in range(4):
    items = jnp.array([10 * step, 10 * step + 1, 10 * step + 2])
    memory = enqueued(memory, items[:, None] * 1.0, items)
    for k, item in enumerate(np.asarray(items)):
      written[(3 * step + k) % 5] = item
    assert int(memory.pointer) == 3 * (step + 1) % 5
    assert int(memory.step) == step + 1
    assert np.asarray(memory.valid).sum() == min(5, 3 * (step + 1))
    for slot, item in written.items():
      assert memory.labels[slot] == item
      assert memory.embeddings[slot, 0] == item
      assert memory.valid[slot]


def test_items_that_are_not_kept_leave_no_trace():
  memory = enqueued(
    empty_memory(3, 1),
    jnp.array([[1.0], [jnp.nan], [3.0]]),
    jnp.array([1, 2, 3]),
    jnp.array([True, False, True]),
  )
  np.testing.assert_array_equal(memory.labels, [1, 3, 0])
  np.testing.assert_array_equal(memory.valid, [True, True, False])
  assert int(memory.pointer) == 2 and np.isfinite(memory.embeddings).all()


def test_a_batch_that_does_not_fit():
  with pytest.raises(ml.InputError, match=r"batch of 4.*memory of 3"):
    enqueue(empty_memory(3, DIM), *batch(0))


@pytest.mark.parametrize("options", [{"size": 0}, {"warmup": -1}])
def test_a_wrong_memory(options):
  with pytest.raises(ml.InputError, match="size >= 1 and warmup >= 0"):
    with_memory(pairs(), **options)


def test_a_memory_holds_one_label_for_each_item():
  with pytest.raises(ml.InputError, match=r"one label.*any_label"):
    with_memory(ml.make_objective("triplet", relation="any_label"))


def test_a_memory_needs_the_dimension():
  with pytest.raises(ml.InputError, match="embedding_dim="):
    with_memory(pairs()).init_state()


def test_a_memory_says_how_it_is_called():
  x, labels = batch(0)
  with pytest.raises(ml.InputError, match=r"init_state\(.*aux\.state"):
    with_memory(pairs())({}, x, labels)


@pytest.mark.slow
def test_weights_are_of_the_anchors_and_not_of_the_slots():
  x, labels = batch(0)
  weights = np.array([2.0, 0.0, 1.0, 0.5])
  objective = with_memory(pairs(reduction="mean"), 8)
  each = with_memory(pairs(reduction="none"), 8)
  state = objective.init_state(embedding_dim=DIM)
  call = lambda o, **more: o({}, x, labels, state=state, **more)
  (got, aux), (own, _), (_, plain) = quick_jit(
    lambda w: (call(objective, weights=w), call(each), call(objective))
  )(jnp.asarray(weights, jnp.float32))
  # Each part is a mean over pairs: weigh each anchor's mean by its pairs.
  same = np.asarray(labels)[:, None] == np.asarray(labels)[None]
  D = oracle_batches.distances("l2", x, x)
  expected = 0.0
  for kind, value in (
    (same & ~np.eye(N, dtype=bool), D - HYPER["positive_margin"]),
    (~same, HYPER["negative_margin"] - D),
  ):
    weighed = weights[:, None] * kind
    if weighed.sum():
      expected += (weighed * np.maximum(value, 0)).sum() / weighed.sum()
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  assert own.shape == (N,)
  for a, b in zip(aux.state["memory"], plain.state["memory"], strict=True):
    np.testing.assert_array_equal(a, b)


# --- the value ---------------------------------------------------------------


@pytest.mark.parametrize("enqueue_first", [True, False])
def test_value_equals_batches_joined_by_hand(enqueue_first):
  """Before the memory is full, when it wraps around, and later."""
  size = 10
  objective = with_memory(pairs(), size, enqueue_first=enqueue_first)
  state = objective.init_state(embedding_dim=DIM)
  step_of = quick_jit(
    jax.value_and_grad(
      lambda x, labels, state: objective({}, x, labels, state=state),
      has_aux=True,
    )
  )
  seen_x, seen_labels = np.zeros((0, DIM)), np.zeros(0, int)
  for step in range(5):
    x, labels = (np.asarray(part) for part in batch(step))
    before = seen_x, seen_labels
    seen_x = np.concatenate([seen_x, x])[-size:]
    seen_labels = np.concatenate([seen_labels, labels])[-size:]
    others = (seen_x, seen_labels) if enqueue_first else before
    first = len(seen_x) - N
    same = {(i, first + i) for i in range(N)} if enqueue_first else ()
    (value, aux), slopes = step_of(x, labels, state)
    state = aux.state
    expected = by_hand(x, labels, *others, same)
    np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=str(step))
    share = len(others[0]) / size
    np.testing.assert_allclose(aux.diagnostics["memory_filled"], share)
    # What is remembered is constant, the copies of this batch too.
    direction = np.random.default_rng(9).normal(size=x.shape)
    slope = loss_oracles.numeric_slope(
      lambda moved, labels=labels, others=others, same=same: by_hand(
        moved, labels, *others, same
      ),
      [x.astype(np.float64)],
      [direction],
    )
    got = np.sum(direction * np.asarray(slopes))
    np.testing.assert_allclose(got, slope, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_from_step_to_step():
  objective = with_memory(pairs(), 8)
  state = objective.init_state(embedding_dim=DIM)
  (x, labels), (y, others) = batch(0), batch(1)

  def later(x):
    _, aux = objective({}, x, labels, state=state)
    return objective({}, y, others, state=aux.state)[0]

  value, slopes = quick_jit(jax.value_and_grad(later))(x)
  assert value > 0 and (np.asarray(slopes) == 0).all()


def test_keys_are_remembered_and_queries_compared():
  """As in MoCo: no item is both."""
  objective = with_memory(pairs(), 6)
  state = objective.init_state(embedding_dim=DIM)
  keys = np.array([False, True, True, False])
  call = quick_jit(objective.__call__)
  seen_x, seen_labels = np.zeros((0, DIM)), np.zeros(0, int)
  for step in range(4):
    x, labels = (np.asarray(part) for part in batch(step))
    seen_x = np.concatenate([seen_x, x[keys]])[-6:]
    seen_labels = np.concatenate([seen_labels, labels[keys]])[-6:]
    value, aux = call({}, x, labels, keys=keys, state=state)
    state = aux.state
    expected = by_hand(x[~keys], labels[~keys], seen_x, seen_labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_padding_is_no_anchor_and_is_not_remembered():
  objective = with_memory(pairs(), 6)
  state = objective.init_state(embedding_dim=DIM)
  where = jnp.array([True, False, True, True])
  x, labels = batch(0)
  x = x.at[1].set(jnp.nan)
  call = quick_jit(objective.__call__)
  value, aux = call({}, x, labels, where=where, state=state)
  kept = np.asarray(where)
  expected = by_hand(
    *(np.asarray(part)[kept] for part in (x, labels, x, labels)),
    same={(i, i) for i in range(3)},
  )
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert np.asarray(aux.state["memory"].valid).sum() == 3


@pytest.mark.slow
def test_warm_up_compares_the_batch_alone():
  warm, cold = with_memory(pairs(), 8, warmup=2), with_memory(pairs(), 8)
  state = warm.init_state(embedding_dim=DIM)
  run = quick_jit(
    lambda x, labels, state: [
      pairs()({}, x, labels)[0],
      warm({}, x, labels, state=state),
      cold({}, x, labels, state=state),
    ]
  )
  for step in range(4):
    x, labels = batch(step)
    alone, (value, aux), (remembering, other) = run(x, labels, state)
    expected = alone if step < 2 else remembering
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    if step:
      assert abs(alone - remembering) > 1e-3
    jax.tree.map(np.testing.assert_array_equal, aux.state, other.state)
    state = aux.state


# --- the state ---------------------------------------------------------------


def test_state_survives_being_saved():
  objective = with_memory(pairs(), 6)
  call = quick_jit(objective.__call__)
  state = objective.init_state(embedding_dim=DIM)
  for step in range(2):
    _, aux = call({}, *batch(step), state=state)
    state = aux.state
  leaves, tree = jax.tree.flatten(state)
  saved = jax.tree.unflatten(tree, [np.array(leaf) for leaf in leaves])
  one, other = (call({}, *batch(2), state=s) for s in (state, saved))
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_one_program_serves_all_steps():
  objective = with_memory(pairs(), 6, warmup=1)
  traces = []

  @quick_jit
  def step_of(x, labels, state):
    traces.append(None)
    return objective({}, x, labels, state=state)

  state = objective.init_state(embedding_dim=DIM)
  for step in range(3):
    _, aux = step_of(*batch(step), state)
    state = aux.state
  assert len(traces) == 1


# --- every loss --------------------------------------------------------------

ROWS = [name for name in ml.LOSSES if name not in CLASSIFICATION]


def remembering(loss, **options):
  """An objective with a full memory, its state, and the memory's contents."""
  static = {k: v for k, v in STATIC.get(loss, {}).items()}
  if loss == "contrastive_2005":
    static["upper_bound"] = 2.0
  objective = ml.make_objective(loss, block_size=None, **static)
  whole = with_memory(objective, 8, **options)
  state = whole.init_state(embedding_dim=3)
  generator = np.random.default_rng(2)
  x = jnp.asarray(generator.normal(size=(8, 3)), jnp.float32)
  labels = jnp.array([0, 1, 2, 3, 4, 5, 6, 7] if loss in PAIRED else [0, 1] * 4)
  state["memory"] = enqueued(state["memory"], x, labels)
  if loss in STATES:
    state["objective"] = jax.tree.map(jnp.float32, STATES[loss])
  params = objective.init(jax.random.key(0), num_classes=8, embedding_dim=3)
  return whole, params, state, (x, labels)


@pytest.mark.parametrize("loss", ROWS)
def test_every_row_loss_runs_with_it(loss):
  """Traced but not compiled; one of each kind with its gradient."""
  whole, params, state, (x, labels) = remembering(loss)

  def value(params, x, labels, state):
    return whole(params, x, labels, state=state)

  arguments = params, x[:4], labels[:4], state
  if loss in ONE_OF_EACH_KIND:
    both = jax.value_and_grad(value, argnums=(0, 1), has_aux=True)
    (shape, aux), _ = jax.eval_shape(both, *arguments)
  else:
    shape, aux = jax.eval_shape(value, *arguments)
  assert shape.shape == ()
  same = lambda a, b: a.shape == b.shape and a.dtype == b.dtype
  assert jax.tree.all(jax.tree.map(same, aux.state, state))


# Of rows, of distances among candidates, of candidates as anchors, of views.
@pytest.mark.parametrize(
  "loss", ["margin", "triplet_swap", "lifted", "infonce"]
)
def test_the_memory_is_as_references(loss):
  whole, params, state, (x, labels) = remembering(loss, enqueue_first=False)

  @quick_jit
  def both(items, classes):
    of_memory = whole(params, items, classes, state=state)
    gallery = {"references": x, "reference_labels": labels}
    return of_memory[0], whole.objective(params, items, classes, **gallery)[0]

  value, expected = both(x[:4] + 0.3, labels[2:6])
  assert value != 0
  np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("miner", ["hdc", "distance_weighted", "angular"])
def test_a_miner_chooses_from_the_memory(miner):
  inner = ml.make_objective("triplet", "l2", miner=miner)
  whole = with_memory(inner, 8)
  state = whole.init_state(embedding_dim=DIM)
  call = quick_jit(whole.__call__)
  key = jax.random.key(0)
  for step in range(3):
    value, aux = call({}, *batch(step), state=state, key=key)
    state = aux.state
    assert np.isfinite(value)


@pytest.mark.slow
def test_a_class_table_has_no_memory():
  whole = with_memory(ml.make_objective("cosface"))
  params = whole.init(jax.random.key(0), num_classes=3, embedding_dim=DIM)
  state = whole.init_state(embedding_dim=DIM)
  with pytest.raises(ml.InputError, match="takes no references"):
    jax.eval_shape(whole, params, *batch(0), state=state)
