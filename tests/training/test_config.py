"""Configs: overrides, checks, digests."""

import math

import pytest

from metric_learning import LOSSES, InputError
from metric_learning.training import base_config, config, override, validate
from tests.tiny import tiny_config


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_has_a_valid_default_config(loss):
  fields = {"loss.name": loss}
  if loss in ("infonce", "ntxent", "instance", "vicreg", "barlow"):
    fields["data.images_per_class"] = 2
  if loss == "contrastive_2005":
    fields["normalize"] = "l2"
  whole = override(base_config(), fields)
  validate(whole)
  assert set(whole.loss.keys()) == {"name", *LOSSES[loss].hyper}


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    ({"loss.temprature": 0.1}, r"did you mean 'temperature'"),
    ({"trian.steps": 1}, r"did you mean 'train'"),
    ({"train.steps": "many"}, r"config.train.steps='many'"),
    ({"loss.name": "tripplet"}, r"did you mean 'triplet'"),
    ({"metric": "l3"}, r"Known: angular, cosine, dot, l1, l2"),
    ({"loss.temperature": -1.0}, r"temperature must be positive, got -1.0"),
    ({"loss.name": "triplet", "metric": "dot"}, r"does not allow.*it allows"),
    ({"optimizer.name": "adan"}, r"did you mean 'adam'"),
    ({"optimizer.learning_rate": 0.0}, r"learning_rate must be positive"),
    ({"train.save_every": 4}, r"save_every=4 must be a multiple"),
    ({"train.steps": 0}, r"steps must be at least 1"),
    ({"margin_unit": "metre"}, r"Known: absolute, initial_mean"),
    ({"model.name": "conv5"}, r"did you mean 'conv"),
    ({"loss.name": "infonce"}, r"images_per_class=2"),
    ({"loss.name": "vicreg"}, r"images_per_class=2"),
    (
      {"loss.name": "ntxent", "data.views": 3, "data.flip": True},
      r"config.data.views=2",
    ),
    (
      {"loss.name": "ntxent", "data.views": 2},
      r"without augmentation all views of an image are equal.*'flip'",
    ),
    ({"data.views": 0}, r"views must be at least 1"),
    ({"data.crop": 1.0}, r"crop is the share.*in \[0, 1\); got 1.0"),
    ({"data.sampler": "pair"}, r"did you mean 'pairs'"),
    (
      {"data.sampler": "uniform", "loss.name": "ntxent"},
      r"compares two views: set config.data.views=2",
    ),
    ({"data.sampler": "pairs"}, r"loss for explicit pairs 'infonce_per_pair'"),
    (
      {"data.sampler": "triplets", "loss.name": "arcface"},
      r"loss for explicit triplets 'arcface'",
    ),
    (
      {
        "data.sampler": "pairs",
        "loss.name": "pair_bce",
        "also": ("0.1*center",),
      },
      r"loss for explicit pairs 'center'",
    ),
    (
      {
        "data.sampler": "pairs",
        "loss.name": "pair_bce",
        "memory.size": 64,
      },
      r"set config.data.views=1 and config.memory.size=0",
    ),
    ({"metric": 3}, r"config.metric=3 must be a text"),
    ({"miner": None}, r"config.miner=None must be a text"),
    ({"train.steps": None}, r"config.train.steps=None must be a whole number"),
    ({"train.steps": True}, r"config.train.steps=True must be a whole number"),
    ({"loss.temperature": None}, r"temperature=None must be a number"),
    ({"loss.temperature.x": 1}, r"'loss.temperature.x': temperature has no f"),
    ({"train": {"steps": 3}}, r"config.train is a section: set .* train.eval"),
    ({"optimizer.weight_decay": math.nan}, r"weight_decay=nan must be finite"),
    ({"optimizer.weight_decay": -1.0}, r"weight_decay must not be neg.* -1.0"),
    ({"optimizer.loss_factor": -0.1}, r"loss_factor must not be negative"),
    ({"optimizer.momentum": 1}, r"optimizer.momentum=1.0 is not in \[0, 1\)"),
    ({"optimizer.weight_decay": 10**400}, r"weight_decay=1000.* be a number"),
    ({"data.rotate": math.inf}, r"config.data.rotate=inf must be finite"),
    ({"seed": -1}, r"config.seed=-1 must be a whole number from 0 to"),
    ({"data.split_seed": 2**32}, r"split_seed=4294967296 must be .*967295"),
    ({"model.hidden": ("a",)}, r"model.hidden=\('a',\) .* tuple of whole num"),
    ({"model.hidden": (0,)}, r"model.hidden=\(0,\) must be .* from 1"),
    ({"also": (3,)}, r"config.also=\(3,\) must be a tuple of texts"),
    (
      {"loss.name": "fastap", "loss.value_range": ("a", "b")},
      r"config.loss.value_range=\('a', 'b'\) must be a tuple of numbers",
    ),
    (
      {"loss.name": "fastap", "loss.value_range": (1.0,)},
      r"value_range=\(low, high\) must rise, got \(1.0,\)",
    ),
    ({"eval.select": "own/map_at_t"}, r"eval.select.*did you mean 'own/map_at"),
    ({"eval.select": "own/accuracy"}, r"score of config.eval.select"),
    ({"eval.select": "geometry/alignment"}, r"'geometry/alignment' describes"),
    ({"eval.columns": ("own/nope",)}, r"eval.columns 'own/nope'"),
  ],
)
def test_bad_fields_are_refused_with_the_mend(overrides, message):
  with pytest.raises(InputError, match=message):
    validate(override(tiny_config(), overrides))


def refused(function, *arguments):
  """The lines of what is said."""
  with pytest.raises(InputError) as error:
    function(*arguments)
  return str(error.value).splitlines()


def test_all_bad_fields_are_refused_at_once():
  bad = {"sed": 1, "loss.name": "triplet", "loss.margn": 2, "seed": "a"}
  first, second, third = refused(override, tiny_config(), bad)
  assert "did you mean 'seed'" in first
  assert "did you mean 'margin'" in second
  assert third == "config.seed='a' must be a whole number."
  # Which fields a loss has, nobody knows if it does not exist.
  bad = {"loss.margin": 2.0, "seed": "a", "loss.name": "tripplet"}
  first, second = refused(override, tiny_config(), bad)
  assert "did you mean 'triplet'" in first
  assert second == third
  bad = {"train.steps": 0, "optimizer.name": "adan", "metric": "l3"}
  said = refused(validate, override(tiny_config(), bad))
  for line, words in zip(said, ("l3", "adan", "steps"), strict=True):
    assert words in line


def test_a_field_is_named_by_a_text():
  (line,) = refused(config._set, tiny_config(), 1, 2)
  assert line.startswith("unknown config field 1: names are texts")


def test_values_take_the_type_of_their_field():
  fields = {"loss.value_range": [0, 2], "metric": None}
  fields["optimizer.learning_rate"] = 1
  whole = override(tiny_config(loss__name="fastap"), fields)
  validate(whole)
  assert whole.loss.value_range == (0, 2)
  assert isinstance(whole.optimizer.learning_rate, float)
  whole = override(tiny_config(), {"eval.columns": ("own/accuracy",)})
  validate(whole)


def test_naming_a_loss_brings_its_own_defaults():
  whole = override(tiny_config(), {"loss.name": "cosface", "loss.scale": 8.0})
  assert whole.loss.to_dict() == {
    "name": "cosface",
    "margin": 0.35,
    "scale": 8.0,
  }


@pytest.mark.parametrize("loss", ["ntxent", "vicreg", "barlow", "infonce"])
def test_two_views_of_augmentation_serve_losses_of_two_views(loss):
  fields = {"loss.name": loss, "data.views": 2, "data.brightness": 0.1}
  two_views = override(base_config(), fields)
  validate(two_views)  # Views differ by augmentation; without it:
  with pytest.raises(InputError, match="without augmentation"):
    validate(override(two_views, {"data.brightness": 0.0}))


def test_override_leaves_the_original_alone():
  base = tiny_config()
  before = config.digest(base)
  override(base, {"loss.temperature": 0.5, "data.image_size": (4, 4)})
  assert config.digest(base) == before


def test_digest_changes_with_every_field():
  base = tiny_config()
  others = [
    {"seed": 1},
    {"loss.temperature": 0.5},
    {"data.image_size": (4, 4)},
    {"metric": "l1"},
  ]
  digests = {config.digest(override(base, o)) for o in others}
  assert len(digests | {config.digest(base)}) == 5


def test_traced_numbers_leave_out_what_selects_code():
  whole = tiny_config(loss__name="contrastive")
  assert config.traced_numbers(whole) == {
    "loss.margin": 1.0,
    "optimizer.learning_rate": 3e-3,
  }


def test_an_option_of_another_network_is_refused():
  config = base_config()
  with config.unlocked():
    config.model.normalization = "group"
  with pytest.raises(InputError, match=r"no option.*remove|Known:"):
    validate(config)
