"""One network of each kind and option, and helpers that tests share."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metric_learning.models import create
from metric_learning.specs import InputSpec

# Name, options, image shape, embedding dimension, number of parameters.
CASES = {
  "identity": ("identity", {}, (3,), 3, 0),
  "linear": ("linear", {}, (6, 5, 2), 3, 60 * 3 + 3),
  "linear_features": ("linear", {}, (7,), 3, 7 * 3 + 3),
  "mlp": (
    "mlp",
    {"hidden": (7, 4)},
    (6, 5, 2),
    3,
    (60 * 7 + 7) + (7 * 4 + 4) + (4 * 3 + 3),
  ),
  "mlp_linear": ("mlp", {"hidden": ()}, (6, 5, 2), 3, 60 * 3 + 3),
  "conv3": (
    "conv3",
    {},
    (24, 24, 1),
    64,
    (9 * 16 + 16)
    + (9 * 16 * 32 + 32)
    + (9 * 32 * 64 + 64)
    + (3 * 3 * 64 * 64 + 64),
  ),
  # 17 and 33 are halved to 1 and 2.
  "conv4": (
    "conv4",
    {},
    (17, 33, 3),
    5,
    (9 * 3 * 64 + 64)
    + 3 * (9 * 64 * 64 + 64)
    + 4 * (64 + 64)
    + (1 * 2 * 64 * 5 + 5),
  ),
  "conv4_batch": (
    "conv4",
    {"normalization": "batch"},
    (16, 16, 1),
    5,
    (9 * 64 + 64) + 3 * (9 * 64 * 64 + 64) + 4 * (64 + 64) + (64 * 5 + 5),
  ),
  "conv4_none": (
    "conv4",
    {"normalization": "none"},
    (16, 16, 1),
    5,
    (9 * 64 + 64) + 3 * (9 * 64 * 64 + 64) + (64 * 5 + 5),
  ),
  "chopra2005": (
    "chopra2005",
    {},
    (56, 46, 1),
    50,
    (7 * 7 * 15 + 15)
    + 2 * 15
    + (6 * 6 * 15 * 45 + 45)
    + 2 * 45
    + (5 * 5 * 45 * 250 + 250)
    + (250 * 50 + 50),
  ),
}


@functools.cache
def made(case):
  """`make`, called once for all tests that only read the network."""
  return make(case)


class Drawn(NamedTuple):
  """A network with parameters."""

  apply: Any
  params: Any
  stats: Any


def network(case):
  name, options, shape, dim, _ = CASES[case]
  spec = InputSpec(shape, "image" if len(shape) == 3 else "features")
  return create(name, input_spec=spec, embedding_dim=dim, **options)


def make(case, seed=0):
  model = network(case)
  key = seed if isinstance(seed, jax.Array) else jax.random.key(seed)
  return Drawn(model.apply, *model.init(key))


def images_of(case, n=3, seed=0):
  shape = CASES[case][2]
  rng = np.random.default_rng(seed)
  return rng.random((n, *shape)).astype(np.float32)


# Compiling is nearly all that these tests do: halve it.
jit = functools.partial(
  jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


@functools.cache
def evaluated(case):
  """(params, stats, images) to embeddings and stats, in evaluation mode."""
  return jit(functools.partial(made(case).apply, train=False))


@functools.cache
def trained(case):
  """(params, stats, images) to (embeddings, stats) and the gradient of a sum.

  All tests share this program.
  """
  apply = made(case).apply

  def loss(params, stats, images):
    embeddings, stats = apply(params, stats, images, train=True)
    return jnp.sum(jnp.sin(3 * embeddings)), (embeddings, stats)

  def both(params, stats, images):
    (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(
      params, stats, images
    )
    return found, gradient

  return jit(both)


def assert_close(a, b, rtol=1e-3, atol=1e-5):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def equal_trees(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )
