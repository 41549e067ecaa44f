"""Changes without effect: padding, order, jit, blocks, `vmap`."""

import functools

import jax
import jax.numpy as jnp
import loss_cases as cases
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from tests.quick import quick_jit

EVERY = list(ml.LOSSES)
pytestmark = pytest.mark.usefixtures("x64")


def run(loss, x, labels, hyper, where=None, **options):
  """Value, and gradient w.r.t. (hyper, params, x), of the shared program."""
  where = cases.all_true() if where is None else where
  program = cases.compiled(loss, **options)
  return program(hyper, cases.params(loss), x, labels, where)


def assert_close(got, expected, rtol=1e-9):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    size = np.max(np.abs(b), initial=0)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * size + 1e-14)


@pytest.mark.parametrize("loss", EVERY)
def test_padding_changes_nothing(loss):
  params = cases.params(loss)
  x, labels = cases.batch("unbalanced", loss)
  where = np.ones(cases.N, bool)
  where[[2, 5, 11]] = False
  padded = x.copy()
  padded[2], padded[5, 0], padded[11] = np.nan, np.inf, 0
  for hyper in cases.settings(loss):
    value, gradients = run(loss, padded, labels, hyper, where)
    expected = cases.oracle(loss, hyper, params, x, labels, where=where)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    assert (np.asarray(gradients[2])[~where] == 0).all()
    point = (hyper, params, x)
    cases.check_slopes(
      lambda hyper, params, x, point=point: cases.oracle(
        loss, hyper, params, x, labels, where=where, constant=point
      ),
      point,
      gradients,
    )


@pytest.mark.parametrize("loss", EVERY)
def test_everything_padded_is_zero(loss):
  x, labels = cases.batch("unbalanced", loss)
  hyper = cases.settings(loss)[0]
  value, gradients = run(
    loss, np.full_like(x, np.nan), labels, hyper, np.zeros(cases.N, bool)
  )
  assert float(value) == 0
  for leaf in jax.tree.leaves(gradients):
    assert (np.asarray(leaf) == 0).all()


@pytest.mark.parametrize("loss", EVERY)
def test_order_of_the_batch_changes_nothing(loss):
  x, labels = cases.batch("unbalanced", loss)
  order = np.random.default_rng(2).permutation(cases.N)
  if loss in ("npair", "infonce", "instance", "vicreg", "barlow"):
    # First and second item of a class have roles: mix across classes only.
    for c in np.unique(labels):
      places = labels[order] == c
      order[places] = np.sort(order[places])
  hyper = cases.settings(loss)[-1]
  value, gradients = run(loss, x, labels, hyper)
  moved_value, moved = run(loss, x[order], labels[order], hyper)
  expected = (*gradients[:2], np.asarray(gradients[2])[order])
  assert_close((moved_value, moved), (value, expected))


# The table of `center` is a state: see test_states.
@pytest.mark.parametrize("loss", [loss for loss in EVERY if loss != "center"])
def test_names_of_classes_change_nothing(loss):
  if loss in cases.CLASSIFICATION:  # a class is a row of the table
    new = np.array([2, 0, 4, 1, 3])
  else:
    new = np.array([70, -3, 8, 0, 11, 5, 13, 2, 90, 6])
  x, labels = cases.batch("unbalanced", loss)
  hyper, params = cases.settings(loss)[-1], cases.params(loss)
  value, _ = run(loss, x, labels, hyper)
  if loss in cases.CLASSIFICATION:
    order = np.argsort(new)
    params = {"loss": {k: v[order] for k, v in params["loss"].items()}}
  program = cases.compiled(loss)
  renamed, _ = program(hyper, params, x, new[labels], cases.all_true())
  assert_close(renamed, value)


# Each that has a derivative of its own, and one that has not.
SWEPT = (
  *("triplet", "triplet_semihard", "triplet_soft", "triplet_swap"),
  *("quadruplet", "smooth_ap", "margin"),
)
# No loss makes its own blocks: the objective folds the rows of all of them.
# One of each way: whose context, state, projection or anchors are others.
BLOCKED = (
  *SWEPT,
  *("contrastive", "pair_bce", "triplet_dynamic_soft", "angular", "npair"),
  *("lifted", "infonce", "histogram", "sphereface", "arcface"),
  *("proxy_anchor", "soft_triple", "center", "vicreg"),
)
SETTINGS = 20


@functools.cache
def sweep(loss):
  """Value and gradient of 20 settings, in blocks; and the number of traces."""
  traces = []

  def value(hyper, params, x, labels, where):
    traces.append(None)
    value_of = cases.value_of(loss, block_size=5)
    return value_of(hyper, params, x, labels, where=where)

  slopes = jax.value_and_grad(value, (0, 1, 2))
  axes = (0, None, None, None, None)
  return quick_jit(jax.vmap(slopes, in_axes=axes)), traces


def in_blocks(loss, x, labels, hyper, where):
  """Like `run`, in blocks of 5 of 12 rows, or 2 of 5 classes."""
  if loss in SWEPT:  # by the program that there is
    numbers = {name: np.full(SETTINGS, n) for name, n in hyper.items()}
    swept = sweep(loss)[0](numbers, cases.params(loss), x, labels, where)
    return jax.tree.map(lambda leaf: leaf[0], jax.device_get(swept))
  size = 2 if loss in loss_oracles.CLASS_ANCHORS else 5
  return run(loss, x, labels, hyper, where, block_size=size)


@pytest.mark.parametrize("loss", BLOCKED)
def test_blocks_equal_dense(loss):
  """The last block is partly padding."""
  hyper = cases.settings(loss)[-1]
  for kind in ("unbalanced", "duplicates"):
    if kind == "duplicates" and loss == "pair_bce":
      # Weighted L1 multiplies before it subtracts: a compiler that fuses both
      # leaves a rounding error, and its sign, where points coincide.
      continue
    x, labels = cases.batch(kind, loss)
    where = np.arange(cases.N) != 3
    dense = run(loss, x, labels, hyper, where)
    assert_close(in_blocks(loss, x, labels, hyper, where), dense)


@pytest.mark.parametrize("loss", [n for n in EVERY if cases.settings(n)[0]])
def test_one_program_serves_all_numbers(loss):
  x, labels = cases.batch("balanced", loss)
  run(loss, x, labels, cases.settings(loss)[0])
  programs = cases.compiled(loss)._cache_size()
  run(loss, x, labels, cases.settings(loss)[-1])
  assert cases.compiled(loss)._cache_size() == programs


@pytest.mark.parametrize("loss", SWEPT)
def test_vmap_over_numbers(loss):
  """20 settings, in blocks: one compilation, the same values and slopes.

  A custom derivative must not close over the margin.
  """
  first, last = cases.settings(loss)[0], cases.settings(loss)[-1]
  x, labels = cases.batch("balanced", loss)
  batch = (cases.params(loss), x, labels, cases.all_true())
  program, traces = sweep(loss)
  steps = np.linspace(0, 1, SETTINGS)
  grid = {k: first[k] + steps * (last[k] - first[k]) for k in first}
  backwards = {k: v[::-1].copy() for k, v in grid.items()}
  values, again = (
    jax.device_get(program(g, *batch)) for g in (grid, backwards)
  )
  assert len(traces) == program._cache_size() == 1
  assert_close(jax.tree.map(lambda leaf: leaf[::-1], again), values)
  for i in (0, 7, 19):
    hyper = {k: v[i] for k, v in grid.items()}
    member = jax.tree.map(lambda leaf, i=i: leaf[i], values)
    assert_close(member, run(loss, x, labels, hyper))


# Eager dispatch compiles each primitive: one loss is enough.
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["triplet"])
def test_jit_changes_nothing(loss):
  x, labels = cases.batch("unbalanced", loss)
  hyper = cases.settings(loss)[-1]
  objective = ml.make_objective(loss, **cases.STATIC.get(loss, {}), **hyper)
  params = jax.tree.map(jnp.asarray, cases.params(loss))
  batch = (params, jnp.asarray(x), jnp.asarray(labels))
  eager, _ = objective(*batch)
  optimized, _ = jax.jit(objective.__call__)(*batch)
  assert_close((eager, optimized), (run(loss, x, labels, hyper)[0],) * 2)


ON_THE_SPHERE = [n for n in EVERY if ml.LOSSES[n].normalize == "l2"]


@pytest.mark.parametrize("loss", ON_THE_SPHERE)
def test_scale_of_the_batch_changes_nothing_on_the_sphere(loss):
  x, labels = cases.batch("balanced", loss)
  hyper = cases.settings(loss)[-1]
  assert_close(
    run(loss, 7.0 * x, labels, hyper)[0], run(loss, x, labels, hyper)[0]
  )


@pytest.mark.parametrize("loss", ["contrastive", "infonce", "norm_softmax"])
def test_integer_types_of_labels_change_nothing(loss):
  """300 items, more than the 256 that the smallest label type can count."""
  generator = np.random.default_rng(0)
  x = generator.normal(size=(300, cases.DIM)).astype(np.float32)
  labels = np.arange(300) % 5
  where = np.ones(300, bool)
  if loss in cases.PAIRED:
    where[10:] = False  # at most two items of a class
    where[[280, 285]] = True
    where[[0, 5]] = False
  hyper, params = cases.settings(loss)[-1], cases.params(loss)
  value_of = quick_jit(cases.value_of(loss))
  wide = value_of(hyper, params, x, labels.astype(np.int32), where=where)
  assert wide != 0
  narrow = value_of(hyper, params, x, labels.astype(np.int8), where=where)
  assert_close(narrow, wide, rtol=1e-5)
