"""The fast forms equal the plain ones, in value and gradient."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models.layers import (
  BatchNorm,
  Conv,
  as_products,
  max_pool,
)
from metric_learning.specs import InputSpec
from tests.quick import quick_jit


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [1, 2, (2, 1)])
def test_conv_equals_the_one_of_flax(padding, strides):
  make = lambda kind: kind(
    3,
    5,
    (3, 2),
    strides,
    padding=padding,
    rngs=nnx.Rngs(0),
    bias_init=nnx.initializers.normal(1.0),
  )
  ours, theirs = make(Conv), make(nnx.Conv)
  x = jax.random.normal(jax.random.key(1), (2, 7, 6, 3))

  def value_and_gradients(conv):
    graph, state = nnx.split(conv)

    def loss(state, x):
      value = nnx.merge(graph, state)(x)
      return jnp.sum(jnp.sin(value)), value

    (_, value), slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)(
      state, x
    )
    return value, slopes

  a, b = quick_jit(
    lambda: (value_and_gradients(ours), value_and_gradients(theirs))
  )()
  assert a[0].shape == b[0].shape
  for mine, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"kernel_dilation": 2}, "kernel_dilation.*nnx.Conv"),
    ({"input_dilation": 2}, "input_dilation"),
    ({"feature_group_count": 3}, "feature_group_count"),
    ({"mask": jnp.zeros((3, 2, 3, 3))}, "mask"),
    ({"dtype": jnp.bfloat16}, "dtype"),
    ({"precision": "highest"}, "precision"),
    ({"padding": "CIRCULAR"}, "'SAME' or 'VALID', not 'CIRCULAR'"),
    ({"padding": 1}, "not 1"),
    ({"padding": ((1, 1), (0, 2))}, "not .*2"),
    ({"kernel_size": (3,)}, r"kernel \(height, width\)"),
    ({"kernel_size": 3}, r"kernel \(height, width\)"),
  ],
)
def test_conv_refuses_what_its_form_for_a_cpu_would_leave_out(
  arguments, message
):
  # Types are looked at first in these tests, and not for a user.
  make = inspect.unwrap(Conv.__init__)
  given = {"kernel_size": (3, 2), **arguments}
  with pytest.raises(InputError, match=message):
    make(object.__new__(Conv), 3, 3, **given, rngs=nnx.Rngs(0))


def test_conv_needs_a_batch_of_images():
  with pytest.raises(InputError, match=r"\[n, h, w, c\], got \(7, 6, 3\)"):
    Conv(3, 5, (3, 2), rngs=nnx.Rngs(0))(jnp.ones((7, 6, 3)))


@pytest.mark.parametrize("use_bias", [False, True])
def test_conv_of_a_narrow_type_computes_in_the_type_of_its_kernel(use_bias):
  make = lambda kind: kind(3, 4, (2, 2), use_bias=use_bias, rngs=nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(1), (1, 4, 4, 3)).astype(jnp.bfloat16)
  ours, theirs = make(Conv)(x), make(nnx.Conv)(x)
  assert ours.dtype == theirs.dtype
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_on_an_accelerator_a_population_convolves_by_products(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  graph, state = nnx.split(Conv(3, 5, (3, 3), rngs=nnx.Rngs(0)))
  x = jnp.ones((2, 7, 6, 3))
  alone = lambda state: nnx.merge(graph, state)(x)

  def member(state):
    with as_products():
      return alone(state)

  several = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
  of = lambda f: str(jax.make_jaxpr(jax.vmap(f))(several))
  assert "conv_general_dilated" in of(alone)
  assert "conv_general_dilated" not in of(member)
  assert "conv_general_dilated" in of(alone)


# Populations are of small networks.
@pytest.mark.parametrize(
  "name", ["chopra2005", "conv3", "conv4", "linear", "mlp"]
)
def test_each_network_convolves_by_products_where_asked(name, monkeypatch):
  shape = (56, 46, 1) if name == "chopra2005" else (16, 16, 1)
  spec = InputSpec(shape, "image")
  model = models.create(name, input_spec=spec, embedding_dim=4)
  params, stats = model.init(jax.random.key(0))
  images = jnp.ones((1, *shape))

  def embed(params):
    with as_products():
      return model.apply(params, stats, images, train=True)[0]

  for backend in ("cpu", "gpu"):
    monkeypatch.setattr(jax, "default_backend", lambda own=backend: own)
    # A function that is new: what was traced before is not looked up.
    traced = jax.make_jaxpr(lambda params: embed(params))(params)
    assert "conv_general_dilated" not in str(traced), backend


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 5, 7, 2)])
def test_max_pool_equals_the_one_of_flax(shape):
  x = jax.random.normal(jax.random.key(0), shape)
  plain = lambda x: nnx.max_pool(x, (2, 2), (2, 2))
  square = lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 2))
  ours, theirs, *gradients = quick_jit(
    lambda x: (max_pool(x), plain(x), square(max_pool)(x), square(plain)(x))
  )(x)
  np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_allclose(*gradients, rtol=1e-6)


def normalized(kind, by_batch, dtype=jnp.float32):
  """Value, statistics, gradient and stored bytes of a normalization."""
  layer = kind(3, momentum=0.8, epsilon=0.1, rngs=nnx.Rngs(0))
  layer.scale[...], layer.bias[...] = jnp.array([[1.0, 2, -1], [0, 3, 1]])
  layer.mean[...], layer.var[...] = jnp.array([[0.5, 0, -1], [1, 2, 3]])
  graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
  random = np.random.default_rng(8)
  x, weights = jnp.asarray(random.normal(1, 2, (2, 6, 4, 5, 3)), dtype)

  def total(params, x):
    own = nnx.merge(graphdef, params, rest, copy=True)
    out = own(x, use_running_average=not by_batch)
    return jnp.sum(weights * out), (out, own.mean[...], own.var[...])

  _, backward, (out, *moments) = jax.vjp(total, params, x, has_aux=True)
  slopes = jax.tree.leaves(backward(jnp.ones((), _.dtype)))
  kept = sum(leaf.nbytes for leaf in jax.tree.leaves(backward))
  return x, out, moments, slopes, kept


@pytest.mark.parametrize("by_batch", [False, True])
def test_batch_normalization_is_its_definition(by_batch):
  x, out, moments, slopes, _ = normalized(BatchNorm, by_batch)
  wide = np.asarray(x, np.float64)
  kept = np.array([[0.5, 0, -1], [1, 2, 3]])
  batch = np.array([wide.mean((0, 1, 2)), wide.var((0, 1, 2))])
  mean, var = batch if by_batch else kept
  expected = (wide - mean) / np.sqrt(var + 0.1) * [1, 2, -1] + [0, 3, 1]
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
  after = 0.8 * kept + 0.2 * batch if by_batch else kept
  np.testing.assert_allclose(moments, after, rtol=1e-5)
  _, _, _, theirs, _ = normalized(nnx.BatchNorm, by_batch)
  for one, other in zip(slopes, theirs, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("by_batch", [False, True])
def test_batch_normalization_stays_in_bfloat16_and_keeps_no_copy(by_batch):
  x, out, moments, _, kept = normalized(BatchNorm, by_batch, jnp.bfloat16)
  assert out.dtype == jnp.bfloat16
  assert all(moment.dtype == jnp.float32 for moment in moments)
  # The input, the weights of this test, and numbers of three channels.
  assert kept < 2 * x.nbytes + 200
  _, exact, _, _, _ = normalized(nnx.BatchNorm, by_batch, jnp.bfloat16)
  np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))
  with pytest.raises(InputError, match="no mask"):
    BatchNorm(3, rngs=nnx.Rngs(0))(x, True, mask=x > 0)
