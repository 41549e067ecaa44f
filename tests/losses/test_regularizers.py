"""Regularizers against their equations, as loops in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import check_slopes

import metric_learning as ml
from metric_learning.losses.regularizers import REGULARIZERS
from tests.quick import quick_jit


def lp(x, p=2.0, power=1.0):
  return np.mean([np.sum(np.abs(row) ** p) ** (power / p) for row in x])


def zero_mean(x):
  return np.mean([abs(sum(row)) for row in x])


def center_invariant(weights):
  squares = [np.sum(w**2) for w in weights]
  return np.mean([(s - np.mean(squares)) ** 2 / 4 for s in squares])


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def regular_face(weights):
  total = 0.0
  for c, w in enumerate(weights):
    total += max(cosine(w, v) for j, v in enumerate(weights) if j != c)
  return total / len(weights)


def sparse_centers(centers):
  spread = [
    np.sqrt(2 - 2 * cosine(table[k], table[j]))
    for table in centers
    for k in range(len(table))
    for j in range(k)
  ]
  return np.sum(spread) / (2 * len(spread))


ORACLES = {
  "lp": lp,
  "zero_mean": zero_mean,
  "center_invariant": center_invariant,
  "regular_face": regular_face,
  "sparse_centers": sparse_centers,
}


def shape(name, n=6):
  return (n, 4, 3) if name == "sparse_centers" else (n, 3)


def draw(name, n=6):
  return np.random.default_rng(0).normal(size=shape(name, n))


def test_every_regularizer_has_an_oracle():
  assert set(REGULARIZERS) == set(ORACLES)


@pytest.mark.parametrize(
  ("name", "numbers"),
  [(name, {}) for name in REGULARIZERS]
  + [("lp", {"p": 1.0}), ("lp", {"p": 3.0, "power": 2.0})],
)
def test_value_and_gradient(name, numbers, x64):
  x = draw(name)
  run = quick_jit(jax.value_and_grad(REGULARIZERS[name]))
  value, gradient = run(x, **numbers)
  oracle = lambda x: ORACLES[name](x, **numbers)
  np.testing.assert_allclose(value, oracle(x), rtol=1e-9)
  check_slopes(oracle, (x,), (gradient,))


def test_the_numbers_of_lp_may_be_traced(x64):
  x, numbers = draw("lp"), {"p": 1.5, "power": 2.5}
  x[0, 1] = 0.0
  value = lambda numbers: REGULARIZERS["lp"](jnp.asarray(x), **numbers)
  slopes = quick_jit(jax.grad(value))(numbers)
  check_slopes(lambda numbers: lp(x, **numbers), (numbers,), (slopes,))


def test_lp_refuses_what_is_no_norm():
  with pytest.raises(ml.InputError, match=r"p must be at least 1, got 0\.5"):
    REGULARIZERS["lp"](jnp.ones((2, 3)), p=0.5)


@pytest.mark.parametrize("name", ["lp", "zero_mean"])
def test_padding_changes_nothing(name, x64):
  x = draw(name)
  where = np.array([True, False, True, True, False, True])
  padded = np.where(where[:, None], x, np.nan)
  run = quick_jit(jax.value_and_grad(REGULARIZERS[name]))
  value, gradient = run(padded, where=where)
  np.testing.assert_allclose(value, ORACLES[name](x[where]), rtol=1e-9)
  assert np.isfinite(gradient).all()
  assert (gradient[~where] == 0).all()


def blind(name, kind):
  x = draw(name).astype(np.float32)
  if kind == "zeros":
    x[:] = 0
  if kind == "one zero":
    x[2] = 0
  if kind == "collapsed":
    x[:] = x.reshape(-1, 3)[0]
  if kind == "ties":
    x[:] = 1
    x[::2, ..., 0] = -2  # the sum of coordinates is 0
  if kind == "opposite":
    x[1::2] = -x[::2]
  if kind == "tiny":
    x *= 1e-20
  if kind == "large":
    x *= 1e4
  return x


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_finite_everywhere(name, dtype):
  run = quick_jit(jax.value_and_grad(REGULARIZERS[name]))
  for kind in (
    "zeros",
    "one zero",
    "collapsed",
    "ties",
    "opposite",
    "tiny",
    "large",
  ):
    value, gradient = run(jnp.asarray(blind(name, kind), dtype))
    assert value.shape == () and value.dtype == jnp.float32
    assert np.isfinite(value), kind
    assert gradient.dtype == dtype
    assert np.isfinite(np.asarray(gradient, np.float32)).all(), kind


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("n", [0, 1])
def test_few_rows(name, n):
  run = quick_jit(jax.value_and_grad(REGULARIZERS[name]))
  value, gradient = run(draw(name, n).astype(np.float32))
  assert np.isfinite(value) and np.isfinite(gradient).all()
  if n == 0 or name in ("center_invariant", "regular_face"):
    assert value == 0


def test_one_center_has_no_spread():
  run = quick_jit(jax.value_and_grad(REGULARIZERS["sparse_centers"]))
  value, gradient = run(jnp.ones((3, 1, 2)))
  assert value == 0 and not gradient.any()


@pytest.mark.slow
def test_the_largest_cosine_has_a_gradient_and_its_choice_none(x64):
  # w_0 and w_1 are nearest to each other, w_2 to w_1: it moves w_1 too.
  weights = np.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.1]])
  run = quick_jit(jax.value_and_grad(REGULARIZERS["regular_face"]))
  value, gradient = run(weights)
  second = (-0.8 + 0.06) / np.sqrt(1.01)
  np.testing.assert_allclose(value, (0.8 + 0.8 + second) / 3, rtol=1e-9)
  check_slopes(regular_face, (weights,), (gradient,))
