"""Batches that lack pairs or have bad points: always finite, zero if empty."""

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
SIZE = 6
# One of each kind compute in float32, as in training. The others meet the same
# batches in float64, by the program that their definition is tested with.
NARROW = cases.ONE_OF_EACH_KIND


@functools.cache
def program(loss):
  """Value, diagnostics, and gradient w.r.t. (params, x), in float32."""

  def value(params, x, labels, where, hyper):
    static = cases.STATIC.get(loss, {}) | {"block_size": None}
    objective = ml.make_objective(loss, **static, **hyper)
    state = cases.state(loss, x)
    value, aux = objective(params, x, labels, state=state, where=where)
    return value, aux.diagnostics

  return quick_jit(jax.value_and_grad(value, argnums=(0, 1), has_aux=True))


def default_numbers(loss):
  """Defaults as floats, as in other tests: they share a program."""
  hyper = ml.LOSSES[loss].hyper
  return {
    # What is None follows from the space, as 2 under cosine.
    name: given if hyper[name] is None else float(hyper[name])
    for name, given in cases.settings(loss)[0].items()
  }


@functools.cache
def params(loss):
  return jax.tree.map(np.float32, cases.params(loss))


def evaluate(loss, x, labels, dtype=np.float32):
  """Value and gradient w.r.t. (params, x), padded to share one program."""
  n, size = len(labels), SIZE if loss in NARROW else cases.N
  if n:
    x = np.pad(np.asarray(x), ((0, size - n), (0, 0)))
    labels = np.pad(labels, (0, size - n))
  labels, where = np.asarray(labels, np.int32), np.arange(len(labels)) < n
  numbers = default_numbers(loss)
  if loss in NARROW:
    (value, _), gradients = program(loss)(
      params(loss), np.asarray(x, dtype), labels, where, numbers
    )
    return value, gradients
  with jax.enable_x64(True):
    value, (_, *gradients) = cases.compiled(loss)(
      numbers,
      cases.params(loss),
      np.asarray(x, np.float64),
      labels.astype(np.int64),
      where,
    )
  return value, gradients


def run(loss, x, labels, dtype=np.float32):
  """`evaluate`, with a check that the result is finite for any batch."""
  value, gradients = evaluate(loss, x, labels, dtype)
  assert np.isfinite(value)
  for leaf in jax.tree.leaves(gradients):
    assert np.isfinite(np.asarray(leaf, np.float64)).all()
  return value, gradients


def points(n, seed=0):
  generator = np.random.default_rng(seed)
  return generator.normal(size=(n, cases.DIM)).astype(np.float32)


def has_terms(loss, labels):
  """Whether the loss has any term for these labels, by definition."""
  metric, normalize, _ = cases.defaults(loss)
  hyper = cases.settings(loss)[0] | cases.STATIC.get(loss, {})
  terms = loss_oracles.terms(
    loss,
    points(len(labels)),
    labels,
    metric=metric,
    normalize=normalize,
    hyper=hyper,
    params=cases.params(loss),
    state=cases.STATES.get(loss),
  )
  return any(weight > 0 for part in terms.values() for _, weight, _ in part)


LABELS = {
  "one item": [0],
  "all distinct": [0, 1, 2, 3, 4, 5],
  "one class": [2, 2, 2, 2, 2, 2],
  "one pair": [0, 0, 1, 2, 3, 4],
}


def labels_for(loss, kind):
  labels = np.array(LABELS[kind], np.int32)
  if loss in cases.CLASSIFICATION:
    return labels % cases.CLASSES
  return labels


@pytest.mark.parametrize("loss", EVERY)
@pytest.mark.parametrize("kind", LABELS)
def test_few_partners(loss, kind):
  labels = labels_for(loss, kind)
  x = points(len(labels))
  if kind == "one class" and loss in cases.PAIRED:
    # More than two views of a label: refused outside jit, and NaN inside.
    assert np.isnan(evaluate(loss, x, labels)[0])
    return
  value, gradients = run(loss, x, labels)
  if has_terms(loss, labels):
    expected = cases.oracle(
      loss, default_numbers(loss), cases.params(loss), x, labels
    )
    rtol = 1e-4 if loss in NARROW else 1e-9
    np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol / 10)
  else:
    assert_zero(value, gradients)


def assert_zero(value, gradients):
  assert float(value) == 0
  for leaf in jax.tree.leaves(gradients):
    assert (np.asarray(leaf) == 0).all()


# A batch without rows is a program of its own, and to a loss one padded item.
@pytest.mark.parametrize("loss", cases.A_FEW)
def test_no_items(loss):
  value, gradients = run(loss, points(0), [])
  if not has_terms(loss, np.zeros(0, np.int32)):
    assert_zero(value, gradients)


def blind(kind, tiny=1e-20):
  x = points(SIZE).astype(np.float64)
  if kind == "zeros":
    x[:] = 0
  if kind == "one zero":
    x[2] = 0
  if kind == "collapsed":
    x[:] = x[0]
  if kind == "duplicates":
    x[1], x[4] = x[0], x[2]
  if kind == "opposite":
    x[1::2] = -x[::2]
  if kind == "tiny":
    x *= tiny
  if kind == "large":
    x *= 1e4
  return x


@pytest.mark.parametrize("loss", EVERY)
@pytest.mark.parametrize(
  "kind",
  [
    "zeros",
    "one zero",
    "collapsed",
    "duplicates",
    "opposite",
    "tiny",
    "large",
  ],
)
def test_points_that_coincide_or_vanish(loss, kind):
  # Its square is zero.
  tiny = 1e-25 if loss in NARROW else 1e-170
  for labels in ([0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2]):
    run(loss, blind(kind, tiny), labels)


# The objective widens what it is given, and what a loss learns and keeps.
@pytest.mark.parametrize(
  "loss", ["contrastive", "pair_bce", "infonce", "arcface", "center", "vicreg"]
)
def test_bfloat16(loss):
  """Computes in float32 from rounded embeddings; gradients are bfloat16."""
  labels = [0, 1, 2, 0, 1, 2]
  x = jnp.asarray(points(SIZE), jnp.bfloat16)
  value, (_, gradient) = run(loss, x, labels, jnp.bfloat16)
  assert value.dtype == jnp.float32
  assert gradient.dtype == jnp.bfloat16
  wide, (_, expected) = run(loss, x, labels)
  np.testing.assert_allclose(value, wide, rtol=1e-6)
  np.testing.assert_allclose(
    np.asarray(gradient, np.float32), expected, rtol=1e-2, atol=1e-3
  )
  for kind in ("zeros", "collapsed", "duplicates"):
    run(loss, blind(kind), labels, jnp.bfloat16)


@pytest.mark.parametrize("loss", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_an_embedding_is_not_swallowed(loss, bad):
  """Even if the item with NaN is in no term."""
  for labels in ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 3]):
    x = points(SIZE)
    x[5, 1] = bad
    assert np.isnan(evaluate(loss, x, labels)[0])


@pytest.mark.parametrize("loss", cases.ONE_OF_EACH_KIND)
def test_float32(loss):
  """The value is float32; the logged numbers describe the batch."""
  for labels in ([0, 1, 2, 2, 1, 0], [4, 0, 3, 0, 1, 4]):
    x, labels = 0.6 * points(SIZE), np.array(labels, np.int32)
    for hyper in cases.settings(loss):
      (value, diagnostics), _ = program(loss)(
        params(loss), x, labels, np.ones(SIZE, bool), hyper
      )
      expected = cases.oracle(loss, hyper, cases.params(loss), x, labels)
      assert value.dtype == jnp.float32
      np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
      assert {"positive_distance", "negative_distance"} <= set(diagnostics)
      for number in diagnostics.values():
        assert number.shape == () and np.isfinite(number)
