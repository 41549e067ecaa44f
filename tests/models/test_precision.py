"""Networks that compute in bfloat16."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning.models import MODELS, create
from metric_learning.specs import InputSpec
from tests.models.model_cases import CASES, made
from tests.quick import quick_jit

SHAPES = {
  "chopra2005": (56, 46, 1),
  "dlib_face": (71, 71, 3),
  "vit_s16": (32, 16, 3),
}
# Identity multiplies nothing; others are larger ones of what is there.
SAME = {"identity", "efficientnet_lite1", "efficientnet_lite2", "vit_b16"}


@pytest.mark.parametrize("name", sorted(set(MODELS) - SAME))
def test_in_bfloat16_every_product_is_of_bfloat16(name):
  shape = SHAPES.get(name, (33, 35, 3))
  spec = InputSpec(shape, "image")
  options = {"normalization": "batch"} if name == "conv4" else {}
  model = create(
    name, input_spec=spec, embedding_dim=4, dtype="bfloat16", **options
  )
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((2, *spec.shape), jnp.float32)
  embed = functools.partial(model.apply, train=True)
  names = ("conv_general_dilated", "dot_general")
  found = {
    str(variable.aval.dtype)
    for equation in jax.make_jaxpr(embed)(params, stats, images).eqns
    if equation.primitive.name in names
    for variable in equation.invars
  }
  assert found == {"bfloat16"}


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_embeds_nearly_the_same_and_learns_in_float32(case):
  name, options, shape, dim, _ = CASES[case]
  spec = InputSpec(shape, "image" if len(shape) == 3 else "features")
  exact = made(case)
  half = create(
    name, input_spec=spec, embedding_dim=dim, dtype="bfloat16", **options
  )
  params, stats = exact.params, exact.stats
  inputs = jax.random.uniform(jax.random.key(3), (6, *shape))

  weights = jax.random.normal(jax.random.key(4), (6, dim))

  def weighted(params, apply):
    embeddings, after = apply(params, stats, inputs, train=True)
    assert embeddings.dtype == jnp.float32
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(after))
    return jnp.sum(weights * embeddings), embeddings

  gradient = quick_jit(
    jax.value_and_grad(weighted, has_aux=True), static_argnums=1
  )
  (_, expected), whole = gradient(params, exact.apply)
  (_, found), slopes = gradient(params, half.apply)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(slopes))
  # A number of bfloat16 has 8 bits: some layers of them leave 5 %.
  scale = float(jnp.abs(expected).max())
  np.testing.assert_allclose(found, expected, atol=0.05 * scale)
  assert name == "identity" or not np.array_equal(found, expected)
  if params:
    whole, slopes = (
      jax.flatten_util.ravel_pytree(tree)[0] for tree in (whole, slopes)
    )
    # Of six images, those of a batch normalization are nearly noise.
    share = 0.3 if case == "conv4_batch" else 0.1
    assert jnp.linalg.norm(whole - slopes) < share * jnp.linalg.norm(whole)
