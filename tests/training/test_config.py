"""Configs: overrides, checks, digests."""

import dataclasses
import math

import pytest
from ml_collections import ConfigDict

from metric_learning import LOSSES, InputError, models
from metric_learning.training import (
  base_config,
  config,
  optimizers,
  override,
  validate,
)
from metric_learning.training.build import objectives_of
from tests.tiny import tiny_config


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_has_a_valid_default_config(loss):
  fields = {"loss.name": loss}
  if loss in ("infonce", "ntxent", "instance", "vicreg", "barlow"):
    fields["batch.images_per_class"] = 2
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
    ({"metric.name": "l3"}, r"Known: angular, cosine, dot, l1, l2"),
    ({"loss.temperature": -1.0}, r"temperature must be positive, got -1.0"),
    (
      {"loss.name": "triplet", "metric.name": "dot"},
      r"does not allow.*it allows",
    ),
    ({"optimizer.name": "adan"}, r"did you mean 'adam'"),
    ({"optimizer.learning_rate": 0.0}, r"learning_rate must be positive"),
    ({"train.save_every": 4}, r"save_every=4 must be a multiple"),
    ({"train.steps": 0}, r"steps must be at least 1"),
    ({"margin_unit": "meter"}, r"Known: absolute, initial_mean"),
    ({"model.name": "conv5"}, r"did you mean 'conv"),
    ({"loss.name": "infonce"}, r"images_per_class=2"),
    ({"loss.name": "vicreg"}, r"images_per_class=2"),
    (
      {"loss.name": "ntxent", "batch.views": 3, "augment.flip": True},
      r"config.batch.views=2",
    ),
    (
      {"loss.name": "ntxent", "batch.views": 2},
      r"without augmentation all views of an image are equal.*'flip'",
    ),
    ({"batch.views": 0}, r"views must be at least 1"),
    ({"augment.crop": 1.0}, r"crop is the share.*in \[0, 1\); got 1.0"),
    ({"batch.sampler": "pair"}, r"did you mean 'pairs'"),
    (
      {"batch.sampler": "uniform", "loss.name": "ntxent"},
      r"compares two views: set config.batch.views=2",
    ),
    ({"batch.sampler": "pairs"}, r"loss for explicit pairs 'infonce_per_pair'"),
    (
      {"batch.sampler": "triplets", "loss.name": "arcface"},
      r"loss for explicit triplets 'arcface'",
    ),
    (
      {
        "batch.sampler": "pairs",
        "loss.name": "pair_bce",
        "also.center.weight": 0.1,
      },
      r"loss for explicit pairs 'center'",
    ),
    (
      {
        "batch.sampler": "pairs",
        "loss.name": "pair_bce",
        "memory.size": 64,
      },
      r"set config.batch.views=1 and config.memory.size=0",
    ),
    ({"metric.name": 3}, r"config.metric.name=3 must be a text or None"),
    ({"miner.name": None}, r"config.miner.name=None must be a text"),
    ({"block_size": 2.5}, r"block_size=2.5 must be a whole number or a text"),
    ({"block_size": 0}, r"None, 'auto' or a positive int, got 0"),
    ({"block_size": "all"}, r"None, 'auto' or a positive int, got 'all'"),
    ({"loss.name": "pair_bce", "loss.weighted": 1}, r"True or False or None"),
    ({"train.steps": None}, r"config.train.steps=None must be a whole number"),
    ({"train.steps": True}, r"config.train.steps=True must be a whole number"),
    ({"loss.temperature": None}, r"temperature=None must be a number"),
    ({"loss.temperature.x": 1}, r"'loss.temperature.x': temperature has no f"),
    (
      {"train": {"steps": 3}},
      r"config.train is a section: .* config.train.chunks",
    ),
    ({"optimizer.head.weight_decay": math.nan}, r"decay=nan must be finite"),
    ({"optimizer.trunk.weight_decay": -1.0}, r"decay must not be neg.* -1.0"),
    ({"optimizer.loss.factor": -0.1}, r"loss.factor must not be negative"),
    (
      {"optimizer.name": "sgd", "optimizer.momentum": 1},
      r"sgd: momentum must be in \[0, 1\), got 1.0",
    ),
    ({"optimizer.momentum": 0.5}, r"'momentum'.* fields of adam"),
    ({"optimizer.head.weight_decay": 10**400}, r"=1000.* be a number"),
    ({"optimizer.decay": "kernel"}, r"did you mean 'kernels'"),
    (
      {f"optimizer.{group}.freeze": True for group in optimizers.GROUPS},
      r"freezes trunk, head and loss",
    ),
    ({"augment.rotate": math.inf}, r"config.augment.rotate=inf must be finite"),
    ({"seed": -1}, r"config.seed=-1 must be a whole number from 0 to"),
    ({"data.split_seed": 2**32}, r"split_seed=4294967296 must be .*967295"),
    ({"model.hidden": ("a",)}, r"model.hidden=\('a',\) .* tuple of whole num"),
    ({"model.hidden": (0,)}, r"model.hidden=\(0,\) must be .* from 1"),
    ({"also": (3,)}, r"config.also is a section: .* config.also.LOSS.weight"),
    ({"also.centr.weight": 0.1}, r"did you mean 'center'"),
    ({"also.center.loss.rat": 0.1}, r"did you mean 'rate'"),
    ({"metric": "l1"}, r"config.metric is a section: .* config.metric.name"),
    ({"data." + "sampler": "pairs"}, r"sampler is now config.batch.sampler"),
    ({"data." + "flip": True}, r"data.flip is now config.augment.flip"),
    ({"optimizer.warmup": 0.1}, r"is now config.optimizer.schedule.warmup"),
    ({"metric.name": "lp"}, r"metric 'lp' needs its p"),
    ({"regularizer.name": "ridge"}, r"Known: .*center_invariant"),
    (
      {"loss.name": "fastap", "loss.value_range": ("a", "b")},
      r"config.loss.value_range=\('a', 'b'\) must be a tuple of numbers",
    ),
    (
      {"loss.name": "fastap", "loss.value_range": (1.0,)},
      r"value_range must be two numbers, low < high; got \(1.0,\)",
    ),
    ({"eval.select": "own/map_at_t"}, r"eval.select.*did you mean 'own/map_at"),
    ({"eval.select": "own/accuracy"}, r"score of config.eval.select"),
    (
      {"eval.select": "geometry/alignment"},
      r"'geometry/alignment' only describes",
    ),
    ({"eval.columns": ("own/nope",)}, r"eval.columns 'own/nope'"),
  ],
)
def test_bad_fields_are_refused_with_the_mend(overrides, message):
  with pytest.raises(InputError, match=message):
    validate(override(tiny_config(), overrides))


def refused(function, *arguments):
  """The lines of the message."""
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
  bad = {"optimizer.name": "adan", "metric.name": "l3", "seed": "a"}
  said = refused(override, tiny_config(), bad)
  for line, words in zip(said, ("adan", "l3", "seed"), strict=True):
    assert words in line
  bad = {"train.steps": 0, "augment.crop": 1.0, "loss.temperature": -1.0}
  said = refused(validate, override(tiny_config(), bad))
  for line, words in zip(said, ("temperature", "crop", "steps"), strict=True):
    assert words in line


def test_a_field_is_named_by_a_text():
  (line,) = refused(config.set_field, tiny_config(), 1, 2)
  assert line.startswith("unknown config field 1: a name is a string")


def test_values_take_the_type_of_their_field():
  fields = {"loss.value_range": [0, 2], "metric.name": None}
  fields["optimizer.learning_rate"] = 1
  whole = override(tiny_config(loss__name="fastap"), fields)
  validate(whole)
  assert whole.loss.value_range == (0, 2)
  assert isinstance(whole.optimizer.learning_rate, float)
  whole = override(tiny_config(), {"eval.columns": ("own/accuracy",)})
  validate(whole)


def test_naming_a_loss_brings_its_own_defaults():
  given = {"loss.name": "triplet_semihard", "loss.margin": 0.5}
  whole = override(tiny_config(), given)
  defaults = LOSSES["triplet_semihard"].hyper
  assert defaults["margin"] != 0.5
  expected = {**defaults, "name": "triplet_semihard", "margin": 0.5}
  assert whole.loss.to_dict() == expected


@pytest.mark.parametrize("loss", ["ntxent", "vicreg", "barlow", "infonce"])
def test_two_views_of_augmentation_serve_losses_of_two_views(loss):
  fields = {"loss.name": loss, "batch.views": 2, "augment.brightness": 0.1}
  two_views = override(base_config(), fields)
  validate(two_views)  # Views differ by augmentation; without it:
  with pytest.raises(InputError, match="without augmentation"):
    validate(override(two_views, {"augment.brightness": 0.0}))


def test_override_leaves_the_original_alone():
  base = tiny_config()
  before = config.digest(base)
  override(base, {"loss.temperature": 0.5, "data.image_size": (4, 4)})
  assert config.digest(base) == before


# Sections that say how many runs are made and compared, and where.
OF_STUDY = ("study", "tune", "mesh")


def other_value(field, value):
  """A different value of the same kind."""
  names = {
    "imports": ("math",),
    "loss.name": "triplet",
    "model.name": "conv3",
    "metric.name": "l1",
    "miner.name": "hdc",
    "reduction.name": "mean",
    "relation.name": "jaccard",
    "regularizer.name": "lp",
    "optimizer.name": "rmsprop",
    "optimizer.schedule.name": "constant",
    "optimizer.clip": 2.0,
    "optimizer.trunk.last_layers": 1,
    "data.short_side": 256,
  }
  if field in names:
    return names[field]
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return value + 1
  if isinstance(value, tuple):
    return (*value, *(value[:1] or ("more",)))
  return "other"


def test_digest_changes_with_every_field_of_a_run():
  base = tiny_config()
  fields = dict(config.leaves(base))
  assert len(fields) > 60
  digests = {"": config.digest(base)}
  for field, value in fields.items():
    other = override(base, {field: other_value(field, value)})
    digests[field] = config.digest(other)
  of_run = {
    f: d for f, d in digests.items() if f.partition(".")[0] not in OF_STUDY
  }
  assert len(set(of_run.values())) == len(of_run)
  # What makes and compares many runs, or says where, changes none of them.
  of_study = {d for f, d in digests.items() if f.partition(".")[0] in OF_STUDY}
  assert of_study == {digests[""]}


def test_traced_numbers_leave_out_what_selects_code():
  whole = tiny_config(loss__name="contrastive")
  assert config.traced_numbers(whole) == {
    "loss.margin": 1.0,
    "optimizer.learning_rate": 3e-3,
    "optimizer.trunk.factor": 1.0,
    "optimizer.head.factor": 1.0,
    "optimizer.loss.factor": 1.0,
  }


def test_an_option_of_another_network_is_refused():
  config = base_config()
  with config.unlocked():
    config.model.normalization = "group"
  with pytest.raises(InputError, match=r"'normalization'.* fields of conv3"):
    validate(config)
  # A field that was set before it moved, in a file of one's own.
  with config.unlocked():
    del config.model.normalization
    config.data.flip = True
  with pytest.raises(InputError, match=r"is now config\.augment\.flip"):
    validate(config)


def test_a_config_that_was_overridden_takes_the_flags_of_a_new_one():
  """Each field has the type of its flag, even if it is None."""

  def types_of(section, config):
    for name, value in config.items():
      if isinstance(value, ConfigDict):
        yield from types_of(f"{section}{name}.", value)
      else:
        yield f"{section}{name}", config.get_type(name)

  new, first = base_config(), override(base_config(), {"train.steps": 1})
  assert dict(types_of("", override(first, {"train.steps": 2}))) == dict(
    types_of("", new)
  )


@pytest.mark.parametrize("size", ["auto", None, 8])
def test_a_config_says_how_many_rows_exist_at_a_time(size):
  also = {"also.triplet.weight": 0.5}
  whole = override(tiny_config(), {"block_size": size, **also})
  # Of what is copied, and of a field that had a value of another type.
  for fields in (
    whole,
    override(override(whole, {"block_size": 3}), {"block_size": size}),
  ):
    validate(fields)
    assert config.from_dict(config.as_dict(fields)).block_size == size
    each = objectives_of(fields).each().values()
    assert [one.block_size for one in each] == [size, size]


def test_an_option_that_may_be_none_is_declared_by_its_annotation(monkeypatch):
  def terms(row, *, slack: float | None = None, ends: tuple[int, ...] = (1, 2)):
    raise NotImplementedError

  def bare(row, *, slack=None):
    raise NotImplementedError

  class Network:
    sees = ("image",)

    def __init__(self, shape, dim, *, width: int | None = None, rngs):
      raise NotImplementedError

  plain = LOSSES["contrastive"]
  for name, function in (("slacked", terms), ("bare", bare)):
    entry = dataclasses.replace(plain, terms=function, scaled={}, search={})
    monkeypatch.setitem(LOSSES, name, entry)
  monkeypatch.setitem(models.MODELS, "network", Network)
  whole = override(
    tiny_config(), {"loss.name": "slacked", "model.name": "network"}
  )
  validate(whole)
  assert (whole.loss.slack, whole.model.width) == (None, None)
  given = {"loss.slack": 1, "model.width": 3}
  other = override(whole, given)
  assert (other.loss.slack, other.model.width) == (1.0, 3)
  assert override(other, dict.fromkeys(given)).loss.slack is None
  said = refused(override, whole, {"loss.slack": "a", "model.width": 0.5})
  assert said == [
    "config.loss.slack='a' must be a number or None.",
    "config.model.width=0.5 must be a whole number or None.",
  ]
  (line,) = refused(validate, override(whole, {"loss.ends": (1, 2.5)}))
  assert line == (
    "config.loss.ends=(1, 2.5) must be a tuple of whole numbers from 1."
  )
  with pytest.raises(TypeError, match=r"slack of bare: .* needs an annotation"):
    override(whole, {"loss.name": "bare"})
