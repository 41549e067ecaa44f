"""Numbers that are distances, in units of a mean distance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.distance import pdist, squareform

from configs import glyphs
from metric_learning import InputError, data, models
from metric_learning.data.samplers import make_batches
from metric_learning.miners import MINERS
from metric_learning.training import train, validate
from metric_learning.training.build import objectives_of
from metric_learning.training.config import override
from metric_learning.training.optimizers import GROUPS
from metric_learning.training.plan import make_plan
from metric_learning.training.units import distances_in, unit_inputs
from tests.tiny import tiny_config

LABELS = np.repeat(np.arange(6), 4).astype(np.int32)


def splits_of(images):
  """One part three times."""
  names = tuple("abcdef")
  part = data.Dataset("toy", images.astype(np.uint8), LABELS, names)
  return data.Splits(part, part, part, "closed-set")


def toy(seed=0):
  """Small images with few gray levels, so that these can be doubled."""
  rng = np.random.default_rng(seed)
  centers = rng.integers(0, 100, (6, 5, 5, 1))
  return centers[LABELS] + rng.integers(0, 28, (24, 5, 5, 1))


SPLITS, TWICE = splits_of(toy()), splits_of(2 * toy())
# Without biases before the first step, so that twice as bright images have
# embeddings of twice the length.
RAW = {"normalize": "none", "margin_unit": "initial_mean"}


@functools.cache
def network_of(name, options, seed):
  spec = SPLITS.train.input_spec
  model = models.create(name, input_spec=spec, embedding_dim=4, **dict(options))
  return model.apply, *model.init(jax.random.key(seed))


def points_of(config, images, seed=0, train=False):
  """Embeddings of an untrained network, in float64."""
  options = dict(config.model)
  name, _ = options.pop("name"), options.pop("embedding_dim")
  apply, params, stats = network_of(name, tuple(options.items()), seed)
  pixels = jnp.asarray(images, jnp.float32) / 255
  points, _ = apply(params, stats, pixels, train=train)
  points = np.asarray(points, np.float64)
  if config.normalize == "l2":
    points /= np.linalg.norm(points, axis=1, keepdims=True)
  return points


def mean_of(config, images, *metric, **options):
  """The mean distance over seeds 0 to 4, by SciPy."""
  some = unit_inputs(images)
  means = [
    pdist(points_of(config, some, seed), *metric, **options).mean()
    for seed in range(5)
  ]
  return np.mean(means)


def unit_of(config, splits):
  """The mean distance that is the unit of a run's numbers."""
  in_units = override(config, {"margin_unit": "initial_mean"})
  return make_plan(in_units, splits).mean_distance


# --- The mean distance ------------------------------------------------------


@pytest.mark.slow
def test_each_option_of_a_metric_has_its_own_mean_distance():
  config = lambda p: tiny_config(normalize="l2", metric__name="lp", metric__p=p)
  for p in (1.5, 3, 1.5):
    found = unit_of(config(p), SPLITS)
    expected = mean_of(config(p), SPLITS.train.inputs, "minkowski", p=p)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_mean_distance_follows_the_images_the_network_and_the_metric():
  for overrides, metric, splits in (
    ({}, "euclidean", SPLITS),
    ({}, "euclidean", splits_of(toy(1))),
    ({"metric.name": "l1"}, "cityblock", SPLITS),
    ({"metric.name": "squared_l2"}, "sqeuclidean", SPLITS),
    ({"model__hidden": (8,)}, "euclidean", SPLITS),
    ({"normalize": "l2"}, "euclidean", SPLITS),
  ):
    config = tiny_config(**{"metric.name": "l2", **RAW, **overrides})
    found = unit_of(config, splits)
    expected = mean_of(config, splits.train.inputs, metric)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_what_a_loss_projects_by_is_not_in_the_mean_distance():
  plain = tiny_config(
    loss__name="contrastive", metric__name="l1", normalize="l2"
  )
  mean = mean_of(plain, SPLITS.train.inputs, "cityblock")
  for scale in (1.0, 3.0):
    config = tiny_config(
      loss__name="pair_bce",
      loss__scale=scale,
      metric__name="l1",
      normalize="l2",
      margin_unit="initial_mean",
    )
    numbers = make_plan(config, SPLITS).numbers
    np.testing.assert_allclose(numbers["loss.scale"], scale / mean, rtol=1e-5)
    found = unit_of(plain, SPLITS)
    np.testing.assert_allclose(found, mean, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_a_loss_with_proxies_is_in_units_of_the_distance_to_them(metric):
  config = tiny_config(
    loss__name="proxy_nca",
    loss__scale=3.0,
    metric__name=metric,
    normalize="l2",
    margin_unit="initial_mean",
    **{"also.contrastive.weight": 1.0, "also.contrastive.metric.name": metric},
    **{"also.contrastive.normalize": "l2"},
  )
  means = []
  for seed in range(5):
    proxies = np.array(jax.random.normal(jax.random.key(seed), (6, 4)))
    proxies /= np.linalg.norm(proxies, axis=1, keepdims=True)
    points = points_of(config, unit_inputs(SPLITS.train.inputs), seed)
    order = {"l1": 1, "l2": 2}[metric]
    between = np.abs(points[:, None] - proxies) ** order
    means.append(np.mean(between.sum(axis=-1) ** (1 / order)))
  plan = make_plan(config, SPLITS)
  assert plan.mean_distance == pytest.approx(np.mean(means), rel=1e-5)
  assert plan.numbers["loss.scale"] == pytest.approx(3 / np.mean(means))
  # A loss beside it that compares items is in units of their own distance.
  kind = {"l1": "cityblock", "l2": "euclidean"}[metric]
  items = mean_of(config, SPLITS.train.inputs, kind)
  assert plan.numbers["also.contrastive.loss.margin"] == pytest.approx(items)
  assert abs(items / np.mean(means) - 1) > 0.05


class Normed(nnx.Module):
  """A dense layer with batch normalization."""

  sees = ("image",)

  def __init__(self, item_shape, embedding_dim, *, rngs: nnx.Rngs):
    self.dense = nnx.Linear(25, embedding_dim, rngs=rngs)
    self.norm = nnx.BatchNorm(embedding_dim, rngs=rngs)

  def __call__(self, images, *, train):
    x = self.dense(images.reshape(len(images), -1))
    return self.norm(x, use_running_average=not train)


@pytest.mark.slow
def test_the_mean_distance_is_as_training_sees_it(monkeypatch):
  monkeypatch.setitem(models.MODELS, "normed", Normed)
  config = tiny_config(model__name="normed", metric__name="l2", **RAW)
  images = unit_inputs(SPLITS.train.inputs)
  means = []
  for seed in range(5):
    points = points_of(config, images, seed, train=True)
    # Each dimension has the mean 0 and the deviation 1 over these images.
    np.testing.assert_allclose(points.std(axis=0), 1, rtol=0.01)
    means.append(pdist(points).mean())
  found = unit_of(config, SPLITS)
  np.testing.assert_allclose(found, np.mean(means), rtol=1e-5)


@pytest.mark.slow
def test_the_mean_distances_of_published_tables_are_kept():
  config = glyphs.get_config("contrastive")
  splits = data.load(config.data)
  for metric, published in (("l2", "0.854"), ("l1", "5.47")):
    of_metric = override(config, {"metric.name": metric})
    mean = unit_of(of_metric, splits)
    assert f"{mean:.3g}" == published


# --- What is in units of it -------------------------------------------------

# Of each miner with a distance among its numbers, numbers that keep some pairs
# and drop others, in units of the mean distance.
MINED = {
  "easy_hard": {
    "positive": "hard",
    "negative": "easy",
    "positive_range": (0.0, 0.6),
    "negative_range": (0.5, 1.1),
  },
  "multi_similarity": {"epsilon": 0.3},
  "pair_margin": {"positive_margin": 0.3, "negative_margin": 0.9},
  "triplet_margin": {"margin": 0.5, "triplets": "semihard"},
}


def value_of(config):
  """From numbers and splits to the value of each item before the first step."""
  objectives = objectives_of(config)

  @jax.jit
  def value(numbers, points):
    objective = objectives.with_numbers(numbers)
    return objective({}, points, jnp.asarray(LABELS))[0]

  def of_splits(numbers, splits):
    points = points_of(config, splits.train.inputs)
    return np.asarray(value(numbers, jnp.asarray(points, jnp.float32)))

  return of_splits


def test_every_miner_with_a_distance_is_tried():
  assert set(MINED) == {name for name, entry in MINERS.items() if entry.scaled}


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("miner", sorted(MINED))
def test_a_miner_keeps_the_same_at_any_scale_of_the_distances(miner, metric):
  # The value of a triplet is a distance: at twice the scale it is twice as
  # large, if the same triplets are kept.
  config = tiny_config(
    loss__name="triplet",
    loss__margin=2.0,
    reduction__name="none",
    metric__name=metric,
    miner__name=miner,
    **{f"miner.{option}": value for option, value in MINED[miner].items()},
    **RAW,
  )
  validate(config)
  value = value_of(config)
  small, large = (
    make_plan(config, splits).numbers for splits in (SPLITS, TWICE)
  )
  once, twice = value(small, SPLITS), value(large, TWICE)
  assert once.max() > 0
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)
  # With the miner's numbers as they were, others are kept.
  mining = {k: v for k, v in small.items() if k.startswith("miner.")}
  assert not np.allclose(value(large | mining, TWICE), twice, rtol=0.01)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_boundaries_of_a_ranked_list_are_in_the_unit_of_the_distance(metric):
  config = tiny_config(
    loss__name="ranked_list", reduction__name="none", metric__name=metric, **RAW
  )
  value = value_of(config)
  once, twice = (
    value(make_plan(config, splits).numbers, splits)
    for splits in (SPLITS, TWICE)
  )
  assert once.max() > 0
  np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)


def test_further_losses_are_in_units_of_their_own_metric():
  config = tiny_config(
    loss__name="contrastive",
    metric__name="l2",
    **{
      "also.first.loss.name": "triplet",
      "also.first.loss.margin": 0.25,
      "also.first.metric.name": "l1",
      "also.triplet.weight": 0.5,
      "also.triplet.metric.name": "l2",
      "also.triplet.normalize": "l2",
      "also.triplet.miner.name": "pair_margin",
      "also.triplet.miner.positive_margin": 0.5,
    },
    **RAW,
  )
  validate(config)
  images = SPLITS.train.inputs
  normalized = tiny_config(normalize="l2")
  # The default of the loss: squared L2 distances of normalized points.
  l1 = mean_of(tiny_config(normalize="l2"), images, "cityblock")
  l2, on_sphere = (
    mean_of(c, images, "euclidean") for c in (config, normalized)
  )
  expected = {
    "loss.margin": 1.0 * l2,
    "also.first.loss.margin": 0.25 * l1,
    "also.triplet.loss.margin": 0.2 * on_sphere,
    "also.triplet.miner.positive_margin": 0.5 * on_sphere,
    "also.triplet.miner.negative_margin": 0.8 * on_sphere,
    "optimizer.learning_rate": config.optimizer.learning_rate,
    **{f"optimizer.{group}.factor": 1.0 for group in GROUPS},
  }
  numbers = make_plan(config, SPLITS).numbers
  assert numbers == pytest.approx(expected, rel=1e-5)
  objective = objectives_of(config).with_numbers(numbers)
  prefixes = ("", "also.first.", "also.triplet.")
  for prefix, (_, one) in zip(prefixes, objective.terms, strict=True):
    for name, (value, _) in distances_in(one).items():
      assert value == numbers[prefix + name]


@pytest.mark.slow
def test_a_step_sees_the_numbers_of_its_own_data(tmp_path):
  # A pair of each kind counts between .2 and .8 of the mean distance.
  config = tiny_config(
    loss__name="contrastive",
    loss__margin=2.0,
    metric__name="l1",
    reduction__name="mean",
    miner__name="pair_margin",
    train__steps=1,
    train__eval_every=1,
    train__save_every=1,
    **RAW,
  )
  used = set()
  for place, images in enumerate((toy(), 2 * toy(1))):
    splits = splits_of(images)
    used.add(make_plan(config, splits).program)
    result = train(config, tmp_path / str(place), splits=splits)
    unit = mean_of(config, images, "cityblock")
    assert result["numbers"] == pytest.approx(
      {
        "loss.margin": 2 * unit,
        "miner.positive_margin": 0.2 * unit,
        "miner.negative_margin": 0.8 * unit,
        "optimizer.learning_rate": 3e-3,
        **{f"optimizer.{group}.factor": 1.0 for group in GROUPS},
      },
      rel=1e-5,
    )
    batch = make_batches(splits.train, config.batch, 0)(0).indices
    distances = squareform(pdist(points_of(config, images)[batch], "cityblock"))
    same = LABELS[batch][:, None] == LABELS[batch]
    pulled = np.triu(same & (distances > 0.2 * unit), 1)
    pushed = np.triu(~same & (distances < 0.8 * unit), 1)
    terms = np.where(same, distances, np.maximum(2 * unit - distances, 0)) ** 2
    loss = 0.5 * np.mean(terms[pulled | pushed])
    np.testing.assert_allclose(result["train"]["train/loss"], loss, rtol=1e-4)
  # The numbers are no constants of what is compiled.
  assert len(used) == 1


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      {"reduction.name": "mean", "reduction.low": 0.5},
      r"low=0.5 of the reduction bounds the value of contrastive.*'absolute'",
    ),
    (
      {
        "also.triplet.reduction.name": "mean",
        "also.triplet.reduction.high": 2.0,
      },
      r"high=2 of the reduction bounds the value of triplet",
    ),
    (
      {"also.supcon.metric.name": "dot"},
      r"supcon sees dot products.*'absolute' for loss.temperature",
    ),
    (
      {"loss__name": "cross_entropy", "miner.name": "multi_similarity"},
      r"cross_entropy sees dot products.*for miner.epsilon",
    ),
  ],
)
def test_numbers_that_cannot_follow_are_refused(overrides, message):
  config = {"loss__name": "contrastive", **overrides}
  validate(tiny_config(**config))
  with pytest.raises(InputError, match=message):
    validate(tiny_config(**config, margin_unit="initial_mean"))


def test_zero_is_zero_in_every_unit():
  def bounded(low):
    return tiny_config(
      loss__name="contrastive",
      reduction__name="mean",
      reduction__low=low,
      margin_unit="initial_mean",
    )

  assert validate(bounded(0.0)) is None
  with pytest.raises(InputError, match=r"low=0\.5 of the reduction"):
    validate(bounded(0.5))
