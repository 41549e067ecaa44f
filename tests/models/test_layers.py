"""The fast forms equal the plain ones, in value and gradient."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models.layers import Conv, as_products, max_pool
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
