"""Vision transformers: equal to NumPy's, from each kind of file; refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import models
from metric_learning.errors import InputError
from metric_learning.models import weights
from metric_learning.models.vit import ViT
from metric_learning.specs import InputSpec, as_numbers
from tests.models import oracle_vit as oracle
from tests.quick import quick_jit

SHAPE, GRID = (8, 12, 3), (2, 3)
DIM, DEPTH, PATCH, SIDE = 12, 2, 4, 3
# Lines of options that share a program.
TOKEN, MEAN = {"pool": "token"}, {"pool": "avg"}
PLAIN = {"pool": "avg", "class_token": False}


class TinyViT(ViT):
  """Two blocks of three heads, and patches of 4×4."""

  features, depth, heads, patch = DIM, DEPTH, 3, PATCH


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny_vit", TinyViT)


def create(shape=SHAPE, dim=DIM, head="none", **options):
  spec = InputSpec(shape, "image")
  return models.create(
    "tiny_vit", input_spec=spec, embedding_dim=dim, head=head, **options
  )


@functools.cache
def embed_of(options):
  apply = create(**dict(options)).apply
  return quick_jit(functools.partial(apply, train=False))


def drawn(**more):
  return oracle.draw(DIM, DEPTH, PATCH, SIDE, **more)


# Options, the file by timm's names, its form, the scale that it saw.
FILES = {
  "timm": (TOKEN, {"token": True}, None, oracle.IMAGENET),
  "mean": (MEAN, {"token": True}, None, oracle.IMAGENET),
  "no position of the token": (
    TOKEN,
    {"token": True, "first": False},
    None,
    oracle.IMAGENET,
  ),
  "half": ({**TOKEN, "inputs": "half"}, {"token": True}, None, oracle.HALF),
  "transformers": (
    TOKEN,
    {"token": True},
    oracle.of_transformers,
    oracle.IMAGENET,
  ),
  "vision_transformer": (
    TOKEN,
    {"token": True},
    functools.partial(oracle.of_jax, heads=3, old=True),
    oracle.HALF,
  ),
  "big_vision": (
    PLAIN,
    {"token": False},
    functools.partial(oracle.of_jax, heads=3, old=False),
    oracle.HALF,
  ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_gives_the_features_of_numpy(case, tmp_path):
  options, kind, form, scale = FILES[case]
  file = drawn(**kind)
  np.savez(tmp_path / "file.npz", **(form(file) if form else file))
  images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)

  model = create(weights=str(tmp_path / "file.npz"), **options)
  params, stats = model.init(jax.random.key(0))
  shared = {k: x for k, x in options.items() if k != "inputs"}
  embed = embed_of(tuple(shared.items()))
  found, _ = embed(params, stats, model.preprocess(as_numbers(images)))

  token = options["pool"] == "token"
  expected = oracle.features(images, file, scale, GRID, 3, token)
  assert np.std(expected, axis=0).mean() > 1e-2  # the images differ
  largest = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * largest)


def test_its_layers_are_in_the_order_of_the_way():
  layers = create(dim=5, head="linear").layers
  assert layers == ("stem", "blocks.block0", "blocks.block1", "norm", "head")


def test_remat_is_of_each_block():
  model = create(remat=True)
  params, stats = jax.eval_shape(model.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
  embed = functools.partial(model.apply, train=True)
  equations = jax.make_jaxpr(embed)(params, stats, images).eqns
  assert sum("remat" in str(x.primitive) for x in equations) == DEPTH


def test_an_image_of_no_whole_patches_is_refused():
  with pytest.raises(InputError, match=r"100×90 .*image_size=\(96, 96\)"):
    spec = InputSpec((100, 90, 3), "image")
    models.create("vit_s16", input_spec=spec, embedding_dim=5)
  with pytest.raises(InputError, match=r"'token' needs .*class_token=True"):
    create(class_token=False)
  with pytest.raises(InputError, match=r"inputs 'dino'.*imagenet"):
    create(inputs="dino", weights="x.pth")
  with pytest.raises(InputError, match=r"inputs='half'.*give config.model.wei"):
    create(inputs="half")


def fitted(file):
  model = create()
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return weights.fill(TinyViT.layout, shapes, file, "f.npz and tiny_vit")


def test_what_does_not_fit_is_listed_by_name():
  file = oracle.of_jax(drawn(token=True), 3, old=True)
  del file["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias"]
  with pytest.raises(InputError) as caught:
    fitted(file)
  message = str(caught.value)
  assert r"missing (1): blocks.1.attn.qkv.bias 36" in message
  assert "left over (2): blocks.1.attn.query.bias, blocks.1.attn.va" in message
  distilled = drawn(token=True)
  distilled["pos_embed"] = np.zeros((1, 11, DIM))
  with pytest.raises(InputError, match=r"pos_embed is 1×11×12, which are not"):
    fitted(distilled)
  wide = {**drawn(token=True), "pos_embed": np.zeros((1, 10, 16))}
  with pytest.raises(InputError, match=r"positions \(3×3×16 there, 2×3×12"):
    fitted({**wide, "cls_token": np.zeros((1, 1, 16))})
  missing = drawn(token=True)
  del missing["pos_embed"]
  with pytest.raises(InputError, match=r"class_token 12, positions|positions"):
    fitted(missing)


# --- Stochastic depth and dropout --------------------------------------------


def test_stochastic_depth_leaves_out_whole_branches():
  options = {"stochastic_depth": 0.5, "head": "linear", "dim": 3}
  model = create(**options)
  params, stats = model.init(jax.random.key(0))
  images = jnp.asarray(
    np.random.default_rng(1).normal(size=(1, *SHAPE)), jnp.float32
  )
  many = jnp.repeat(images, 400, axis=0)
  embed = quick_jit(model.apply, static_argnames="train")
  drawn, _ = embed(params, stats, many, train=True, key=jax.random.key(1))
  # Both branches of the last block are left out or doubled: four networks.
  assert len(np.unique(np.round(np.asarray(drawn), 4), axis=0)) == 4
  whole, _ = embed(params, stats, images, train=False)
  assert not np.isclose(drawn, whole, atol=1e-4).all(1).any()
  with pytest.raises(InputError, match=r"stochastic_depth draws .*key="):
    model.apply(params, stats, images, train=True)


def test_dropout_leaves_out_features_and_keeps_their_mean():
  model = create(dropout=0.25)
  params, stats = model.init(jax.random.key(0))
  images = jnp.asarray(
    np.random.default_rng(1).normal(size=(1, *SHAPE)), jnp.float32
  )
  many = jnp.repeat(images, 300, axis=0)
  embed = quick_jit(model.apply, static_argnames="train")
  drawn, _ = embed(params, stats, many, train=True, key=jax.random.key(1))
  whole, _ = embed(params, stats, images, train=False)
  kept = drawn != 0
  assert abs(float(jnp.mean(kept)) - 0.75) < 0.03
  expected = jnp.where(kept, whole / 0.75, 0)
  np.testing.assert_allclose(drawn, expected, rtol=1e-4, atol=1e-5)
