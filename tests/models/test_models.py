"""Networks as pure functions: sizes, seeds, transformations, statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models import MODELS, create, options_of
from metric_learning.specs import InputSpec
from tests.models.model_cases import (
  CASES,
  assert_close,
  equal_trees,
  evaluated,
  images_of,
  jit,
  made,
  make,
  network,
  trained,
)


def test_every_model_has_a_case():
  # Those that have files are in test_trunks.py.
  small = {n for n, model in MODELS.items() if not hasattr(model, "layout")}
  assert {case[0] for case in CASES.values()} == small


def test_many_hidden_layers_are_passed_in_their_order():
  # Flax sorts dense10 before dense2, whose width would not fit.
  spec = InputSpec((5,), "features")
  hidden = tuple(range(2, 14))
  model = create("mlp", input_spec=spec, embedding_dim=3, hidden=hidden)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  apply = functools.partial(model.apply, train=False)
  inputs = np.zeros((1, 5), np.float32)
  assert jax.eval_shape(apply, params, stats, inputs)[0].shape == (1, 3)


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_number_of_parameters(case):
  *_, dim, count = CASES[case]
  model = made(case)
  for train in (False, True):
    apply = functools.partial(model.apply, train=train)
    embeddings, stats = jax.eval_shape(
      apply, model.params, model.stats, images_of(case)
    )
    assert (embeddings.shape, embeddings.dtype) == ((3, dim), jnp.float32)
    assert jax.tree.map(jnp.shape, stats) == jax.tree.map(
      jnp.shape, model.stats
    )
  assert sum(x.size for x in jax.tree.leaves(model.params)) == count


@pytest.mark.parametrize("case", CASES)
def test_params_are_nested_dicts_with_strings_as_keys(case):
  model = made(case)
  for tree in (model.params, model.stats):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      assert all(isinstance(key, jax.tree_util.DictKey) for key in path)
      assert all(isinstance(key.key, str) for key in path)
      assert type(leaf) is type(jnp.zeros(1))


def test_mlp_equals_its_definition():
  model = made("mlp")
  images = np.asarray(images_of("mlp"), np.float64)
  layer = lambda x, p: x @ np.float64(p["kernel"]) + np.float64(p["bias"])
  # Biases start at 0: let them count.
  params = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.1), model.params)
  x = np.maximum(layer(images.reshape(3, -1), params["hidden"]["dense1"]), 0)
  x = np.maximum(layer(x, params["hidden"]["dense2"]), 0)
  embeddings, _ = evaluated("mlp")(params, {}, images_of("mlp"))
  np.testing.assert_allclose(embeddings, layer(x, params["head"]), rtol=1e-4)


def test_seed_fixes_the_parameters():
  same, again, other = make("conv3"), make("conv3"), make("conv3", seed=1)
  assert equal_trees(same.params, again.params)
  assert equal_trees(same.params, make("conv3", jax.random.key(0)).params)
  for path in ("conv1", "conv2", "conv3", "head"):
    kernel = lambda model, path=path: np.asarray(model.params[path]["kernel"])
    assert not np.any(kernel(same) == kernel(other))


def test_seeds_share_one_apply_and_so_one_compilation():
  assert make("conv3").apply is make("conv3", seed=1).apply
  spec = InputSpec((6, 5, 2), "image")
  as_list = create("mlp", input_spec=spec, embedding_dim=3, hidden=[7, 4])
  assert as_list.apply is make("mlp").apply
  assert as_list == network("mlp")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["mlp", "conv3"])
def test_jit_changes_nothing(case):
  model, images = made(case), images_of(case)
  plain = model.apply(model.params, model.stats, images, train=True)
  assert_close(trained(case)(model.params, model.stats, images)[0], plain)


@pytest.mark.parametrize("case", ["mlp", "conv3"])
def test_population_of_two_equals_two_models(case):
  members, images = [made(case), make(case, 1)], images_of(case)
  stack = lambda *trees: jax.tree.map(lambda *x: np.stack(x), *trees)
  apply = functools.partial(members[0].apply, train=True)
  together = jit(jax.vmap(apply, (0, 0, None)))(
    stack(*(m.params for m in members)),
    stack(*(m.stats for m in members)),
    images,
  )
  one = trained(case)
  alone = stack(*(one(m.params, m.stats, images)[0] for m in members))
  assert_close(together, alone)


@pytest.mark.slow
def test_population_can_be_initialized_together():
  keys = jax.random.split(jax.random.key(3), 2)
  init = lambda key: make("mlp_linear", key).params
  together = jax.vmap(init)(keys)
  for i in range(2):
    member = jax.tree.map(lambda x, i=i: x[i], together)
    assert_close(member, init(keys[i]), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  "case", ["mlp", "conv3", "conv4", "conv4_batch", "chopra2005"]
)
def test_gradient_is_finite_and_reaches_every_layer(case):
  model, images = made(case), images_of(case)
  (embeddings, _), gradient = trained(case)(model.params, model.stats, images)
  assert np.isfinite(embeddings).all()
  assert np.std(embeddings, axis=0).min() > 0  # images are told apart
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    assert np.isfinite(leaf).all(), path
    if path[-1].key in ("kernel", "scale", "gain"):
      assert np.any(np.asarray(leaf) != 0), path


# --- Normalization -----------------------------------------------------------


@pytest.mark.slow
def test_batch_statistics_move_in_training_and_not_in_evaluation():
  case = "conv4_batch"
  model, images = made(case), images_of(case, n=4)
  (_, after), _ = trained(case)(model.params, model.stats, images)
  assert not equal_trees(after, model.stats)
  # First layer, from the definition: 0.9 old + 0.1 batch statistic.
  kernel = model.params["block1"]["conv"]["kernel"]
  padded = np.pad(images[..., 0], [(0, 0), (1, 1), (1, 1)])
  patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
  maps = np.einsum("nhwij,ijc->nhwc", patches, np.asarray(kernel)[:, :, 0])
  moved = after["block1"]["norm"]
  np.testing.assert_allclose(
    moved["mean"], 0.1 * maps.mean((0, 1, 2)), rtol=1e-3, atol=1e-6
  )
  np.testing.assert_allclose(
    moved["var"], 0.9 + 0.1 * maps.var((0, 1, 2)), rtol=1e-3
  )
  _, kept = evaluated(case)(model.params, after, images)
  assert equal_trees(kept, after)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("graph_updates", [True, False])
def test_batch_statistics_in_each_mode_of_flax(graph, graph_updates):
  # Flax announces other defaults. The error about trace contexts that apply
  # must avoid is raised while tracing, so nothing needs to be compiled.
  images = images_of("conv4_batch")
  expected = made("conv4_batch").params
  models._model.cache_clear()
  try:
    with nnx.set_graph_mode(graph), nnx.set_graph_updates(graph_updates):
      model = make("conv4_batch")
      embeddings = lambda params: model.apply(
        params, model.stats, images, train=True
      )
      loss = lambda params: (jnp.sum(embeddings(params)[0]), embeddings(params))
      gradient, (_, stats) = jax.eval_shape(
        jax.jit(jax.grad(loss, has_aux=True)), model.params
      )
  finally:
    models._model.cache_clear()
  assert equal_trees(model.params, expected)
  assert jax.tree.structure(gradient) == jax.tree.structure(expected)
  assert jax.tree.structure(stats) == jax.tree.structure(model.stats)


def test_batch_statistics_of_a_population_stay_apart():
  # Traced and not compiled: the trap, as above, is in the tracing.
  model = made("conv4_batch")
  stack = lambda tree: jax.tree.map(lambda x: np.stack([x, x]), tree)
  apply = functools.partial(model.apply, train=True)
  _, stats = jax.eval_shape(
    jax.vmap(apply, (0, 0, None)),
    stack(model.params),
    stack(model.stats),
    images_of("conv4_batch"),
  )
  assert jax.tree.map(jnp.shape, stats) == jax.tree.map(
    jnp.shape, stack(model.stats)
  )


@pytest.mark.parametrize(
  ("case", "train", "depends"),
  [
    ("conv4", True, False),
    ("conv4_batch", True, True),
    ("conv4_batch", False, False),
  ],
)
@pytest.mark.slow
def test_only_batch_normalization_sees_the_other_images(case, train, depends):
  model, images = made(case), images_of(case)
  others = np.concatenate([images[:1], images_of(case, seed=1)[1:]])
  arguments = model.params, model.stats
  if train:
    embed = lambda images: trained(case)(*arguments, images)[0][0]
  else:
    embed = lambda images: evaluated(case)(*arguments, images)[0]
  first, again = embed(images)[0], embed(others)[0]
  assert np.allclose(first, again, rtol=1e-4, atol=1e-5) is not depends


# --- Chopra 2005 -------------------------------------------------------------


def test_chopra2005_feature_maps_have_the_sizes_of_the_paper():
  network = MODELS["chopra2005"]((56, 46, 1), 50, rngs=nnx.Rngs(0))
  shapes = jax.eval_shape(network.feature_maps, images_of("chopra2005", n=1))
  assert {name: x.shape[1:] for name, x in shapes.items()} == {
    "c1": (50, 40, 15),
    "s2": (25, 20, 15),
    "c3": (20, 15, 45),
    "s4": (5, 5, 45),
    "c5": (1, 1, 250),
    "f6": (50,),
  }


@pytest.mark.slow
def test_chopra2005_is_bounded():
  model = made("chopra2005")
  params = jax.tree.map(lambda x: 10 * np.asarray(x), model.params)
  (embeddings, _), _ = trained("chopra2005")(
    params, {}, images_of("chopra2005")
  )
  assert 0.9 < np.abs(embeddings).max() <= 1


def test_each_network_owns_the_scale_of_its_inputs():
  numbers = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
  for case in CASES:
    scaled = network(case).preprocess(numbers)
    theirs = 4 * (numbers - 0.5) if case == "chopra2005" else numbers
    np.testing.assert_array_equal(scaled, theirs)


def test_chopra2005_subsampling_has_one_gain_and_bias_a_map():
  network = MODELS["chopra2005"]((56, 46, 1), 2, rngs=nnx.Rngs(0))
  maps = np.random.default_rng(0).normal(size=(1, 10, 6, 45))
  gain, bias = np.linspace(0.5, 2, 45), np.linspace(-1, 1, 45)
  network.s4.gain[...] = jnp.asarray(gain, jnp.float32)
  network.s4.bias[...] = jnp.asarray(bias, jnp.float32)
  # 4x3 patches; the last two rows do not fill one.
  means = maps[:, :8].reshape(1, 2, 4, 2, 3, 45).mean(axis=(2, 4))
  np.testing.assert_allclose(
    network.s4(jnp.asarray(maps, jnp.float32)),
    np.tanh(gain * means + bias),
    rtol=1e-4,
    atol=1e-5,
  )


# --- Input that cannot be used -----------------------------------------------


@pytest.mark.parametrize(
  ("name", "shape", "dim", "options", "message"),
  [
    ("conv5", (24, 24, 1), 8, {}, "did you mean 'conv[34]'.*Known: chopra2005"),
    ("mlp", (24, 24, 1), 8, {"hiden": (8,)}, "did you mean 'hidden'"),
    ("conv3", (24, 24, 1), 8, {"width": 2}, "no options; remove 'width'"),
    ("conv4", (24, 15, 1), 8, {}, r"\(24, 15\).*smallest side is 16"),
    ("conv4", (16, 16, 1), 8, {"normalization": "grup"}, "mean 'group'"),
    ("chopra2005", (112, 92, 1), 50, {}, r"image_size=\(56, 46\)"),
    ("chopra2005", (56, 46, 3), 50, {}, r"image_size=\(56, 46\)"),
    ("conv3", (24, 0, 1), 8, {}, "sizes of 1 or more"),
    ("conv3", (24, 24, 1), 0, {}, "sizes of 1 or more"),
    ("conv3", (24,), 8, {}, "does not see vectors of 24 .* linear, mlp"),
  ],
)
def test_what_cannot_be_built_is_refused(name, shape, dim, options, message):
  spec = InputSpec(shape, "image" if len(shape) == 3 else "features")
  with pytest.raises(InputError, match=message):
    create(name, input_spec=spec, embedding_dim=dim, **options)


def test_images_of_another_shape_are_refused():
  model = made("conv3")
  with pytest.raises(
    InputError, match=r"made for images of 24×24×1, not .*28×28"
  ):
    model.apply(model.params, {}, jnp.zeros((2, 28, 28, 1)), train=False)


def test_options_are_those_of_the_constructors():
  every = {"head": "linear", "dropout": 0.0, "remat": False}
  deep = {"stochastic_depth": 0.0}
  trunk = {"pool": "avg", "frozen_norm": False, **every, **deep}
  vit = {"pool": "token", "class_token": True, "inputs": None, **every, **deep}
  assert {name: options_of(name) for name in MODELS} == {
    "identity": {},
    "linear": {},
    "mlp": {"hidden": (256, 256)},
    "conv3": {},
    "conv4": {"normalization": "group"},
    "chopra2005": {},
    "dlib_face": every,
    "efficientnet_lite0": trunk,
    "efficientnet_lite1": trunk,
    "efficientnet_lite2": trunk,
    "resnet18": trunk,
    "resnet50": trunk,
    "squeezenet": {"pool": "avg", "inputs": None, **every},
    "vit_b16": vit,
    "vit_s16": vit,
  }
