"""Networks for photographs: equal to NumPy's; files, pools, gray images."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models import layers, resnet, trunks
from metric_learning.models.dlib_face import DlibFace
from metric_learning.models.efficientnet import EfficientNetLite0
from metric_learning.models.squeezenet import SqueezeNet
from metric_learning.models.weights import Layout
from metric_learning.models.weights.scales import rescaled
from metric_learning.specs import InputSpec, as_numbers
from metric_learning.training import base_config, override
from metric_learning.training.optimizers import groups_of, make_optimizer
from tests.models import oracle_trunks as oracle
from tests.quick import quick_jit

# The parameters with a head for 1000 classes: those that torchvision and the
# authors count.
NETWORKS = {
  "efficientnet_lite0": 4_652_008,
  "efficientnet_lite2": 6_092_072,
  "resnet18": 11_689_512,
  "resnet50": 25_557_032,
}
# Without batch statistics; dlib's has a dense layer before its 128 features,
# and a vision transformer here the class token and its position in one.
OTHERS = {
  "squeezenet": ((224, 224), 1_235_496),
  "dlib_face": ((150, 150), 5_614_592 + 129_000),
  "vit_s16": ((224, 224), 22_050_664 - 384),
}


class Plain(resnet.ResNet):
  """ResNet-18 with the fewest blocks that differ."""

  features, repeats, bottleneck = 512, (2, 1, 1, 1), False


class Bottleneck(resnet.ResNet):
  """ResNet-50 with the fewest blocks that differ."""

  features, repeats, bottleneck = 2048, (2, 1, 1, 1), True


# Networks with their forward passes. Of the residual ones as few blocks as show
# that their number and order is right.
FORWARD = {
  "efficientnet_lite0": (EfficientNetLite0, oracle.efficientnet_lite0),
  "squeezenet": (SqueezeNet, oracle.squeezenet),
  "dlib_face": (DlibFace, oracle.dlib_face),
  **{
    network.__name__: (
      network,
      functools.partial(
        oracle.resnet, counts=network.repeats, bottleneck=network.bottleneck
      ),
    )
    for network in (Plain, Bottleneck)
  },
}
# Not square, and odd at most halvings, where paddings differ.
SHAPE = (46, 37, 3)
SHAPES = {"dlib_face": (76, 71, 3)}  # it takes no smaller ones


def create(name, shape=SHAPE, dim=5, **options):
  spec = InputSpec(shape, "image")
  return models.create(name, input_spec=spec, embedding_dim=dim, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_of_parameters_is_the_published_one(name):
  model = create(name, dim=1000)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) == NETWORKS[name]
  kinds = {path[-1].key for path, _ in jax.tree.leaves_with_path(stats)}
  assert kinds == {"mean", "var"}
  assert model.layers[0] == "stem"
  assert model.layers[-1] == "head"


@pytest.mark.parametrize("name", OTHERS)
def test_networks_without_statistics_have_the_published_number_too(name):
  size, count = OTHERS[name]
  model = create(name, (*size, 3), dim=1000)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) == count
  assert not stats
  assert model.layers[0] == "stem"
  assert model.layers[-1] == "head"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORWARD)
def test_a_file_gives_the_embeddings_of_numpy(name, tmp_path, monkeypatch):
  network, forward = FORWARD[name]
  monkeypatch.setitem(models.MODELS, name, network)
  shape = SHAPES.get(name, SHAPE)
  images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
  drawn = oracle.Drawn(1)
  maps = forward(images.transpose(0, 3, 1, 2).astype(float), drawn)
  np.savez(tmp_path / "file.npz", **drawn)

  model = create(name, shape, weights=str(tmp_path / "file.npz"))
  params, stats = model.init(jax.random.key(0))
  embed = quick_jit(functools.partial(model.apply, train=False))
  found, _ = embed(params, stats, model.preprocess(as_numbers(images)))

  head = {k: np.asarray(x, np.float64) for k, x in params["head"].items()}
  expected = maps.mean((2, 3)) @ head["kernel"] + head["bias"]
  assert np.std(expected, axis=0).min() > 1e-3  # the images differ
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * scale)


# --- Parts of them -----------------------------------------------------------


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_depthwise_convolution_is_its_definition(size, stride, products):
  rng = np.random.default_rng(2)
  x = jnp.asarray(rng.normal(size=(2, 7, 6, 3)), jnp.float32)
  layer = layers.DepthwiseConv(
    3,
    (size, size),
    stride,
    kernel_init=nnx.initializers.normal(),
    rngs=nnx.Rngs(0),
  )
  kernel = np.asarray(layer.kernel[...], np.float64)
  pads = [oracle.same(length, size, stride) for length in x.shape[1:3]]
  expected = oracle.convolve(
    np.asarray(x, np.float64).transpose(0, 3, 1, 2),
    kernel.transpose(3, 2, 0, 1),
    stride,
    pads,
    groups=3,
  )
  # Both forms: that of a CPU, and the convolution of accelerators.
  found = layer(x) if products else nnx.Conv.__call__(layer, x)
  np.testing.assert_allclose(
    found, expected.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_gradients_of_a_depthwise_convolution_are_those_of_flax(size, stride):
  rng = np.random.default_rng(2)
  x, g = (
    jnp.asarray(rng.normal(size=(2, *s, 3)), jnp.float32)
    for s in ((7, 6), (-(-7 // stride), -(-6 // stride)))
  )
  layer = layers.DepthwiseConv(
    3,
    (size, size),
    stride,
    kernel_init=nnx.initializers.normal(),
    rngs=nnx.Rngs(0),
  )
  graph, kernel = nnx.split(layer)

  def gradients(call):
    value = lambda k, x: jnp.vdot(call(nnx.merge(graph, k), x), g)
    return jax.tree.leaves(jax.grad(value, argnums=(0, 1))(kernel, x))

  for found, expected in zip(
    gradients(layers.DepthwiseConv.__call__),
    gradients(nnx.Conv.__call__),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_pools_are_their_definitions():
  maps = np.random.default_rng(3).uniform(-1, 4, (2, 3, 4, 5))
  positive = np.maximum(maps, 1e-6)
  expected = {
    "avg": maps.mean((1, 2)),
    "max": maps.max((1, 2)),
    "avg+max": maps.mean((1, 2)) + maps.max((1, 2)),
    "gem": (positive**3).mean((1, 2)) ** (1 / 3),
  }
  assert set(expected) == set(trunks.POOLS)
  for name, values in expected.items():
    found = trunks.Pool(name)(jnp.asarray(maps, jnp.float32))
    np.testing.assert_allclose(found, values, rtol=1e-4)
  with pytest.raises(InputError, match=r"pool 'mean'.*avg"):
    trunks.Pool("mean")


def test_the_exponent_of_gem_is_learned_and_no_file_has_it():
  model = create("resnet18", pool="gem")
  params, _ = jax.eval_shape(model.init, jax.random.key(0))
  assert params["pool"]["exponent"].shape == (1,)
  assert model.layers[-2:] == ("pool", "head")


class Tiny(trunks.Trunk):
  """One convolution, with weights files in the table."""

  features = 6
  layout = Layout({r"stem\.conv": "conv", r"stem\.norm": "bn"})

  def add_layers(self, *, frozen, rngs):
    conv = layers.WideConv(3, 6, (3, 3), use_bias=False, rngs=rngs)
    self.stem = trunks.ConvNorm(conv, epsilon=1e-3, frozen=frozen, rngs=rngs)

  def maps_of(self, images, *, train, key):
    return nnx.relu(self.stem(images, train=train))


@pytest.fixture
def tiny(monkeypatch):
  """A function that creates this network."""
  monkeypatch.setitem(models.MODELS, "tiny_trunk", Tiny)
  return functools.partial(create, "tiny_trunk", (5, 4, 3))


def test_the_head_none_leaves_the_features(tiny):
  with pytest.raises(InputError, match=r"6 pooled .*dim=6, not 5"):
    tiny(head="none")
  with pytest.raises(InputError, match=r"head 'linaer'.*linear"):
    tiny(head="linaer")
  model = tiny(dim=6, head="none", pool="gem")
  params, _ = jax.eval_shape(model.init, jax.random.key(0))
  assert params.keys() == {"stem", "pool"}
  assert model.layers == ("stem", "pool")


def test_a_trunk_without_a_head_is_optimized_by_its_layers(tiny):
  model = tiny(dim=6, head="none", pool="gem")
  state = {"model": model.init(jax.random.key(0))[0], "objective": {}}
  changes = {"optimizer.name": "sgd", "optimizer.trunk.layer_decay": 0.5}
  section = override(base_config(), changes).optimizer.to_dict()
  optimizer = make_optimizer(section, 10, layers=model.layers)
  gradient = jax.tree.map(jnp.ones_like, state)
  updates, _ = optimizer.update(gradient, optimizer.init(state), state)
  stem, pool = (updates["model"][name] for name in ("stem", "pool"))
  assert stem["norm"]["bias"][0] == 0.5 * pool["exponent"][0] != 0


def test_the_head_norm_linear_normalizes_each_item_first():
  head = trunks.NormLinear(6, 3, nnx.Rngs(0))
  head.norm.scale[...] = jnp.arange(1.0, 7.0)
  features = np.random.default_rng(7).normal(2, 3, (4, 6))
  moved = features - features.mean(axis=1, keepdims=True)
  scaled = moved / np.sqrt(moved.var(axis=1, keepdims=True) + 1e-6)
  expected = scaled * np.arange(1, 7) @ np.asarray(head.linear.kernel[...])
  found = head(jnp.asarray(features, jnp.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_norm_linear_head_is_one_group_and_one_layer(tiny):
  model = tiny(head="norm_linear")
  params, _ = jax.eval_shape(model.init, jax.random.key(0))
  assert model.layers[-1] == "head"
  assert params["head"].keys() == {"norm", "linear"}
  groups = groups_of({"model": params, "objective": {}})["model"]
  assert set(jax.tree.leaves(groups["head"])) == {"head"}
  assert set(jax.tree.leaves(groups["stem"])) == {"trunk"}


def test_features_of_a_file_are_what_its_head_takes(tiny, tmp_path):
  rng = np.random.default_rng(8)
  names = ("weight", "bias", "running_mean", "running_var")
  tensors = {f"bn.{name}": rng.uniform(0.5, 1, 6) for name in names}
  tensors["conv.weight"] = rng.normal(size=(6, 3, 3, 3))
  np.savez(tmp_path / "file.npz", **tensors)
  images = jnp.asarray(rng.random((2, 5, 4, 3)), jnp.float32)

  def embedded(**options):
    model = tiny(weights=str(tmp_path / "file.npz"), **options)
    params, stats = model.init(jax.random.key(0))
    return params, model.apply(params, stats, images, train=False)[0]

  _, features = embedded(dim=6, head="none")
  params, points = embedded(dim=2)
  expected = features @ params["head"]["kernel"] + params["head"]["bias"]
  np.testing.assert_allclose(points, expected, rtol=1e-4, atol=1e-5)
  params, _ = embedded(dim=2, head="norm_linear")
  assert params["head"]["linear"]["kernel"].shape == (6, 2)


def test_remat_keeps_less_and_changes_no_number():
  def blocks():
    rngs = nnx.Rngs(0)
    make = lambda: layers.WideConv(3, 3, (3, 3), use_bias=False, rngs=rngs)
    norm = lambda: trunks.ConvNorm(make(), epsilon=1.0, frozen=False, rngs=rngs)
    return nnx.Dict({f"block{i}": norm() for i in range(2)})

  graphdef, params, rest = nnx.split(blocks(), nnx.Param, ...)
  maps = jnp.asarray(np.random.default_rng(6).normal(size=(2, 5, 4, 3)))
  found, kept = [], []
  for remat in (False, True):

    def total(params, remat=remat):
      own = nnx.merge(graphdef, params, rest, copy=True)
      out = trunks.through(own, maps, train=True, remat=remat)
      return jnp.sum(out**3), nnx.state(own, nnx.BatchStat)

    value, backward, after = jax.vjp(total, params, has_aux=True)
    found.append((value, backward(jnp.ones(())), after))
    kept.append(sum(x.nbytes for x in jax.tree.leaves(backward)))
  before = nnx.state(blocks(), nnx.BatchStat)
  assert jax.tree.leaves(before)[0].sum() != jax.tree.leaves(after)[0].sum()
  jax.tree.map(np.testing.assert_array_equal, *found)
  assert kept[1] < kept[0]


@pytest.mark.parametrize(
  ("name", "shape", "expected"),
  [
    # Each of 20 normalizations is one; those in 8 blocks are within theirs.
    ("resnet18", SHAPE, [20, 8 + 1]),
    ("squeezenet", SHAPE, [0, 8]),
    ("dlib_face", (76, 71, 3), [0, 14]),
  ],
)
def test_remat_is_of_each_block(name, shape, expected):
  counts = []
  for remat in (False, True):
    model = create(name, shape, remat=remat)
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    embed = functools.partial(model.apply, train=True)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    equations = jax.make_jaxpr(embed)(params, stats, images).eqns
    counts.append(sum("remat" in str(x.primitive) for x in equations))
  assert counts == expected


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_norm_leaves_its_statistics_in_training(frozen):
  conv = layers.WideConv(2, 3, (1, 1), use_bias=False, rngs=nnx.Rngs(0))
  layer = trunks.ConvNorm(conv, epsilon=1e-3, frozen=frozen, rngs=nnx.Rngs(0))
  maps = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3, 3, 2)))
  before = np.asarray(layer.norm.mean[...])
  trained, after = layer(maps, train=True), np.asarray(layer.norm.mean[...])
  assert np.array_equal(before, after) is frozen
  layer.norm.mean[...] = before
  assert np.allclose(trained, layer(maps, train=False), atol=1e-3) is frozen


def test_gray_images_are_repeated_and_it_is_said_once(caplog):
  models._model.cache_clear()
  gray = np.random.default_rng(5).random((2, 8, 8, 1)).astype(np.float32)
  with caplog.at_level(logging.WARNING, "metric_learning"):
    for _ in range(2):
      model = create("resnet18", (8, 8, 1))
  assert [r.getMessage() for r in caplog.records] == [
    "resnet18 sees images of 8×8×1, repeated as RGB."
  ]
  seen = model.preprocess(jnp.asarray(gray))
  in_color = jnp.asarray(np.repeat(gray, 3, axis=-1))
  color = create("resnet18", (8, 8, 3)).preprocess(in_color)
  np.testing.assert_array_equal(seen, color)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  found = jax.eval_shape(
    functools.partial(model.apply, train=False), params, stats, seen
  )
  assert found[0].shape == (2, 5)
  with pytest.raises(InputError, match="4 channels"):
    create("resnet18", (8, 8, 4))


def test_images_that_are_too_small_are_refused():
  with pytest.raises(InputError, match=r"16×40 is too small: .*\(17, 17\)"):
    create("squeezenet", (16, 40, 3))
  with pytest.raises(InputError, match=r"at least 71×71, not 70×90"):
    create("dlib_face", (70, 90, 3))


def test_stochastic_depth_of_a_branch():
  branch = jnp.asarray(np.random.default_rng(9).normal(size=(600, 2, 1, 3)))
  assert trunks.dropped(branch, 0.4, None) is branch
  found = trunks.dropped(branch, 0.4, jax.random.key(0))
  kept = np.asarray(found != 0).all((1, 2, 3))
  assert abs(kept.mean() - 0.6) < 0.06
  np.testing.assert_allclose(found[kept], branch[kept] / 0.6, rtol=1e-5)
  assert not found[~kept].any()


# --- Weights -----------------------------------------------------------------


def test_the_scale_of_the_inputs_of_a_file_goes_into_its_first_layer():
  rng = np.random.default_rng(10)
  values = rng.uniform(0, 255, (2, 3, 3, 3))
  file = {"c.weight": rng.normal(size=(4, 3, 3, 3)), "c.bias": np.ones(4)}
  blue_first = (
    values[:, ::-1] - np.array([104.006, 116.669, 122.679])[:, None, None]
  )
  seen = {"caffe": blue_first, "half": values / 127.5 - 1}
  for scale, inputs in seen.items():
    expected = np.einsum("nchw,ochw->no", inputs, file["c.weight"]) + 1
    new = rescaled(file, "c", scale)
    kernel = np.asarray(new["c.weight"], float)
    found = np.einsum("nchw,ochw->no", oracle.standard(values), kernel)
    np.testing.assert_allclose(found + new["c.bias"], expected, rtol=1e-4)


def test_the_file_of_caffe_is_that_of_torchvision():
  drawn = oracle.Drawn(1)
  oracle.squeezenet(np.zeros((1, 3, 17, 17)), drawn)
  theirs = {}
  for name, tensor in drawn.items():
    module, _, leaf = name.rpartition(".")
    if module.startswith("classifier"):
      continue
    _, number, *part = module.split(".")
    fire = (3, 4, 6, 7, 9, 10, 11, 12).index(int(number)) + 2 if part else None
    layer = f"fire{fire}/{part[0]}" if part else "conv1"
    layer = layer.replace("/squeeze", "/squeeze1x1")
    axes = (2, 3, 1, 0) if tensor.ndim == 4 else (0,)
    theirs[f"{layer}.{'01'[leaf == 'bias']}"] = tensor.transpose(axes)
  found = SqueezeNet.layout.translated(theirs, "imagenet")
  assert all(np.array_equal(found[name], drawn[name]) for name in found)
  assert len(found) == 50


def test_only_networks_with_files_take_weights():
  with pytest.raises(InputError, match=r"no files of conv3 .* resnet18"):
    create("conv3", weights="x.pth")


def test_the_file_of_another_network_is_refused(tmp_path):
  np.savez(tmp_path / "other.npz", **{"conv1.weight": np.zeros((64, 3, 7, 7))})
  model = create("efficientnet_lite0", weights=str(tmp_path / "other.npz"))
  with pytest.raises(InputError, match=r"other\.npz and efficientnet_lite0 do"):
    jax.eval_shape(model.init, jax.random.key(0))
