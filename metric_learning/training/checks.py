"""Checks of a config that need no data."""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from metric_learning import models
from metric_learning.data.samplers import SAMPLERS
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import (
  check_open_set,
  check_ranks,
  check_score,
)
from metric_learning.intervals import check_options
from metric_learning.losses import LOSSES
from metric_learning.losses.pairs import PAIR_LOSSES
from metric_learning.relations import RELATIONS
from metric_learning.training.build import objectives_of
from metric_learning.training.config import (
  NOT_OF_A_RUN,
  base_config,
  batch_devices,
  is_of,
  kind_at,
  leaves,
  open_set_of,
  place_of,
  refuse,
)
from metric_learning.training.optimizers import GROUPS
from metric_learning.training.sections import (
  CHOICES,
  choice_at,
  name_in,
  sections_with_names,
)
from metric_learning.training.units import check_units

MARGIN_UNITS = ("absolute", "initial_mean")
NOT_FINITE = ("stop", "skip")

_MANY = {int: "whole numbers from 1", float: "numbers", str: "texts"}
_SEEDS = ("seed", "data.split_seed", "data.validation_draw")
# jax.random.key ignores higher bits.
_LARGEST_SEED = 2**32 - 1


def validate(config: ConfigDict) -> None:
  """Checks a config as far as that is possible without data.

  Raises:
    InputError: with a line for each problem: the field, what is wrong with it,
      and what would be right.
  """
  refuse(_wrong_fields(config))
  refuse(_wrong_values(config))
  errors = []
  for check in _CHECKS:
    try:
      check(config)
    except InputError as error:
      errors.append(str(error))
  refuse(errors)


def _wrong_fields(config: ConfigDict) -> Iterator[str]:
  """Unknown names, and fields that are missing or unknown."""
  whole = base_config()
  for section in sections_with_names(config):
    choice, place = choice_at(section), config
    try:
      for part in section.split("."):
        place = place[part]
      name = place["name"]
    except (KeyError, TypeError):
      continue  # Reported below as missing.
    if name is None and choice is not None and choice.default:
      continue
    try:
      place_of(whole, f"{section}.name")
      name_in(whole, section, name)
    except InputError as error:
      yield str(error)
      return
  values, expected = dict(leaves(config)), dict(leaves(whole))
  for field in sorted(values.keys() - expected.keys()):
    try:
      inside, name = place_of(whole, field)
    except InputError as error:
      yield str(error)
      continue
    if isinstance(inside[name], ConfigDict):
      yield f"config.{field} is a section, and was set to {values[field]!r}."
  for field in sorted(expected.keys() - values.keys()):
    # The config of a run on disk lacks the sections about devices and studies.
    if (
      field.partition(".")[0] in NOT_OF_A_RUN
      and field.partition(".")[0] not in config
    ):
      continue
    yield f"config.{field} is missing: begin with base_config()."


def _wrong_values(config: ConfigDict) -> Iterator[str]:
  """Values that no field may have, whatever its meaning."""
  for field, value in leaves(config):
    items = value if isinstance(value, tuple | list) else (value,)
    if not all(math.isfinite(x) for x in items if isinstance(x, float)):
      yield f"config.{field}={value!r} must be finite."
    kind = kind_at(config, field)
    item = None if kind is None or value is None else kind.item
    if item is not None and not all(_is_item(item, one) for one in items):
      yield f"config.{field}={value!r} must be a tuple of {_MANY[item]}."
    if field in _SEEDS and not 0 <= value <= _LARGEST_SEED:
      yield (
        f"config.{field}={value} must be a whole number from 0 to"
        f" {_LARGEST_SEED}."
      )


def _is_item(kind: type, value: Any) -> bool:
  """Whether a tuple may hold this value; whole numbers are sizes."""
  return is_of(kind, value) and (kind is not int or value > 0)


def _check_objective(config: ConfigDict) -> None:
  check_choice("margin_unit", config.margin_unit, MARGIN_UNITS)
  objectives = objectives_of(config)
  objectives.with_numbers({})
  relation = config.relation.name
  for each in objectives.each().values():
    if RELATIONS[relation].labels != "one" and each.entry.needs_labels:
      raise InputError(
        f"{each.loss} needs one class label for each item, which "
        f"config.relation.name={relation!r} does not compare. Set it to "
        "same_label, or choose another loss."
      )
  if config.margin_unit == "initial_mean":
    if objectives.main.eval_metric == "dot":
      raise InputError(
        "margin_unit='initial_mean' needs a distance, and a dot product has no"
        " unit: use margin_unit='absolute'."
      )
    for each in objectives.each().values():
      check_units(each)


def _check_batch(config: ConfigDict) -> None:
  batch, jitter = config.batch, config.augment
  check_choice("sampler", batch.sampler, SAMPLERS)
  if batch.views < 1:
    raise InputError(f"config.batch.views must be at least 1: {batch.views}.")
  section = config.data
  if not 0 <= section.random_crop < 1:
    raise InputError(
      "config.data.random_crop is the share of the area that may be cut away,"
      f" in [0, 1); got {section.random_crop}."
    )
  if section.random_crop and not (section.stream and section.image_size):
    raise InputError(
      f"config.data.random_crop={section.random_crop:g} cuts a part of each"
      " file while training: set config.data.stream=True and"
      " config.data.image_size, or use config.augment.crop, which cuts images"
      " in memory."
    )
  if batch.views > 1 and not (any(jitter.values()) or section.random_crop):
    raise InputError(
      f"config.batch.views={batch.views}, and without augmentation all views of"
      f" an image are equal: set one of config.augment's {sorted(jitter)}."
    )
  if not 0 <= jitter.crop < 1:
    raise InputError(
      "config.augment.crop is the share of the area that may be cut away, in"
      f" [0, 1); got {jitter.crop}."
    )
  for name in ("shear", "stretch"):
    if not 0 <= jitter[name] < 1:
      raise InputError(
        f"config.augment.{name} is in [0, 1); got {jitter[name]}."
      )
  # How many times a label is in a batch; 0 if that is not fixed.
  sampler = SAMPLERS[batch.sampler]
  times = batch.images_per_class if sampler.repeats_classes else 0
  times = batch.views if batch.views > 1 else times
  loss = config.loss.name
  if LOSSES[loss].two_views and times != 2:
    raise InputError(
      f"{loss} compares two views: set config.batch.views=2 and"
      " config.augment, or the sampler 'classes' with"
      " config.batch.images_per_class=2, or use infonce_per_pair or supcon."
    )
  if sampler.explicit:
    _check_explicit(config, sampler.explicit)
  relation = config.relation.name
  if RELATIONS[relation].labels != "one" and (
    batch.views > 1 or sampler.explicit
  ):
    what = "views" if batch.views > 1 else f"explicit {sampler.explicit}"
    raise InputError(
      f"config.relation.name={relation!r} compares labels, and {what} leave the"
      " labels out: set it to same_label."
    )


def _check_explicit(config: ConfigDict, explicit: str) -> None:
  """Explicit pairs and triplets need a loss that accepts an affinity."""
  known = PAIR_LOSSES if explicit == "pairs" else LOSSES
  fit = [name for name, entry in known.items() if not entry.needs_labels]
  others = [section.loss.name for section in config.also.values()]
  for name in (config.loss.name, *others):
    check_choice(f"loss for explicit {explicit}", name, fit)
  if config.batch.views > 1 or config.memory.size:
    raise InputError(
      f"config.batch.sampler={config.batch.sampler!r} decides which items are "
      "compared: set config.batch.views=1 and config.memory.size=0."
    )


def _check_model(config: ConfigDict) -> None:
  shared = ("embedding_dim", "dtype", "weights")
  models.check_options(
    **{k: v for k, v in config.model.items() if k not in shared}
  )
  models.check_weights(config.model.name, config.model.weights)
  check_choice("config.model.dtype", config.model.dtype, models.DTYPES)
  if config.model.embedding_dim < 1:
    raise InputError(
      "config.model.embedding_dim must be at least 1, got"
      f" {config.model.embedding_dim}."
    )


def _check_optimizer(config: ConfigDict) -> None:
  section = config.optimizer
  if not section.learning_rate > 0:
    raise InputError(
      "config.optimizer.learning_rate must be positive, got"
      f" {section.learning_rate}."
    )
  check_choice("decay", section.decay, ("kernels", "all"))
  if section.clip is not None and not section.clip > 0:
    raise InputError(
      f"config.optimizer.clip must be positive, or None: {section.clip}."
    )
  if not 0 <= section.ema < 1:
    raise InputError(
      f"config.optimizer.ema is a share, in [0, 1); got {section.ema}."
    )
  if config.eval.averaged and not section.ema:
    raise InputError(
      "config.eval.averaged=True scores the mean of the weights: set"
      " config.optimizer.ema, such as 0.99."
    )
  if not 0 < section.trunk.layer_decay <= 1:
    raise InputError(
      "config.optimizer.trunk.layer_decay is a factor, in (0, 1]; got"
      f" {section.trunk.layer_decay}."
    )
  last = section.trunk.last_layers
  if last is not None and last < 1:
    raise InputError(
      f"config.optimizer.trunk.last_layers={last}: give 1 or more, None for"
      " all, or freeze the trunk with config.optimizer.trunk.freeze=True."
    )
  for group in GROUPS:
    for name in ("weight_decay", "factor"):
      if section[group][name] < 0:
        raise InputError(
          f"config.optimizer.{group}.{name} must not be negative, got"
          f" {section[group][name]}."
        )
  if all(section[group].freeze for group in GROUPS):
    raise InputError(
      "config.optimizer freezes trunk, head and loss, so that nothing is left"
      " to train: set freeze=False in one of them."
    )
  check_options(
    f"config.optimizer, {section.name}",
    CHOICES["optimizer"].kinds(section.name),
    dict(section),
  )
  if not 0 <= section.schedule.warmup < 1:
    raise InputError(
      "config.optimizer.schedule.warmup is a share of the steps, in [0, 1); got"
      f" {section.schedule.warmup}."
    )


def _check_steps(config: ConfigDict) -> None:
  check_choice("train.not_finite", config.train.not_finite, NOT_FINITE)
  for name in ("steps", "chunks", "log_every", "eval_every", "save_every"):
    if config.train[name] < 1:
      raise InputError(
        f"config.train.{name} must be at least 1, got {config.train[name]}."
      )
  if config.train.save_every % config.train.eval_every:
    raise InputError(
      f"config.train.save_every={config.train.save_every} must be a multiple"
      f" of eval_every={config.train.eval_every}: checkpoints are chosen by"
      " their validation score."
    )


def _check_mesh(config: ConfigDict) -> None:
  if batch_devices(config) < 1:
    raise InputError(
      f"config.mesh.batch must be at least 1, got {batch_devices(config)}."
    )


def _check_scores(config: ConfigDict) -> None:
  check_score("score of config.eval.select", config.eval.select)
  check_ranks("score of config.eval.select", config.eval.select)
  for column in config.eval.columns:
    check_score("score of config.eval.columns", column, at_threshold=True)
  check_open_set("config.eval.identification", open_set_of(config))


_CHECKS = (
  _check_objective,
  _check_batch,
  _check_model,
  _check_optimizer,
  _check_steps,
  _check_mesh,
  _check_scores,
)
