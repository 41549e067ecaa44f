"""A run is its config: its fields, its checks, its digest.

Hyper-parameters of a loss and options of a model are fields of their own, so
that a misspelt one is refused before anything starts. `with_loss` and
`with_model` put in those that the named one has.
"""

import hashlib
import json
import math
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from metric_learning.combination import combine, regularize
from metric_learning.data.sampler import SAMPLERS
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import check_ranks, check_score
from metric_learning.losses import LOSSES
from metric_learning.losses.pairs import PAIR_LOSSES
from metric_learning.memory import with_memory
from metric_learning.models import MODELS, check_options, kinds_of, options_of
from metric_learning.objective import Objective, make_objective
from metric_learning.signatures import Kind, Named, parse_named
from metric_learning.training.optimizers import OPTIMIZERS, SCHEDULES
from metric_learning.training.units import check_units, with_distances

MARGIN_UNITS = ("absolute", "initial_mean")


def base_config() -> ConfigDict:
  """Every field of a run, with the values that most configs share.

  data: set, folder, split, protocol ("open-set": test classes are unseen in
    training).
    validation_folds, validation_fold: with 2 or more folds, training and
      validation classes are put together, and one of so many folds of them
      validates instead of the part that the split says.
    train_on: "train", or "train+validation", where nothing is left to choose
      by: the last checkpoint is the selected one.
    background: the gray level, 0 to 255, that transparent pixels show.
    small_classes: "refuse"; or, for classes with fewer than `images_per_class`
      images: "repeat", they fill their places more than once; "drop", they are
      in no batch. Both load classes of a single image, which no other answers.
    stream: images stay on the host, or on disk where they are files, and are
      read ahead of the steps; for sets that do not fit on the device.
    sampler: who is in a batch of `classes_per_batch` × `images_per_class`:
      "classes", "hierarchical" (from `superclasses_per_batch` super-classes),
      "uniform", "pairs" (those of the data, or `num_pairs` drawn once) or
      "triplets" (from `num_triplets` drawn once).
    views: how often each image is in the batch, under different augmentation;
      with 2 or more an image is its own class, and labels are not used.
    Augmentation: `flip`; `shift` in sides of the image; `rotate` in radians;
      `scale` as a log-factor; `shear` in pixels for each pixel; `stretch`,
      the largest change of a factor from 1 along each axis; `skip`, the
      probability that one of these is left out; `crop`, the largest share of
      the area that is cut away; `brightness`, `contrast`, `saturation`, the
      largest change of a factor from 1.
  loss, model: names with their keyword arguments.
  margin_unit: "absolute", or "initial_mean": numbers that are distances are
    multiplied by the mean distance at initialization, those that multiply a
    distance are divided by it: of the loss, of each of `also` (under its own
    metric), and of their miners.
  metric, normalize, reduction: None takes the loss's own default. A metric,
    reduction or miner with options is a text: "lp:p=3", "hdc:fraction=0.25".
  block_size: how many rows of the distance matrix exist at a time: "auto", None
    for all of them, or a whole number (memory linear in the batch, same value).
  also: further losses, each "weight*loss:option=value,…" with the keywords of
    `make_objective`, such as "0.5*tcm:miner=pair_margin".
  regularizer: "weight*name:option=value,…", or "".
  memory: a cross-batch memory of `size` embeddings; 0 for none.
  optimizer: `warmup` is a share of the steps; `loss_factor` multiplies the
    learning rate of what the loss learns (class weights, a threshold).
  train: all in steps; `save_every` is a multiple of `eval_every`.
  eval: `select` chooses checkpoints and margins, on validation classes;
    `columns` are what tables show, by the names of `evaluation.evaluate`; the
    slow ones (clustering, few-shot) are computed for tables only.
  study: how the cells of a study are compared, and no part of a run:
    `reference`, "field=value,…", names for each cell that with which it is
    compared, the same in all other fields; "" for the first of the sweep. A
    number that it names makes a cell, and is not chosen on validation. The
    family is all comparisons in each of the `columns`, and `delta` a difference
    that does not matter, in their units.
  tune: what `experiments.tune` does with each cell of a sweep; a single run
    knows nothing of it.
    trials: settings that are tried; sampler: "tpe", "random" or "grid".
    searched: so many values of the loss, the most important first, beside the
    learning rate. With 1 the search is as wide for all; many have no second.
    ranges: instead of those that the losses declare, each
      "margin=0:2", "triplet.margin=0:1" for one loss, with ":log" for even in
      the logarithm, "num_bins=5,10,20" for a grid; "learning_rate=1e-4:1e-2".
    folds: a trial's score is the mean over so many validation folds; with 1,
      that of the split's own validation part.
    prune: stop a trial whose mean after a fold is worse than the median of the
      others there; it counts as one of the trials.
    final_seeds: runs with what was chosen; final_on: their `data.train_on`.
  """
  config = ConfigDict()
  config.seed = 0
  config.data = ConfigDict(
    {
      "name": "glyphs",
      "data_dir": "",
      "split": "random",
      "split_seed": 0,
      "fold": 0,
      "validation_folds": 1,
      "validation_fold": 0,
      "train_on": "train",
      "image_size": (),
      "background": 255,
      "protocol": "open-set",
      "small_classes": "refuse",
      "stream": False,
      "sampler": "classes",
      "classes_per_batch": 32,
      "images_per_class": 4,
      "superclasses_per_batch": 2,
      "num_triplets": 10_000,
      "num_pairs": 10_000,
      "views": 1,
      "flip": False,
      "shift": 0.0,
      "rotate": 0.0,
      "scale": 0.0,
      "shear": 0.0,
      "stretch": 0.0,
      "skip": 0.0,
      "crop": 0.0,
      "brightness": 0.0,
      "contrast": 0.0,
      "saturation": 0.0,
    }
  )
  for name in ("metric", "normalize", "reduction"):
    config[name] = _reference(_KINDS[name], None)
  config.block_size = _reference(_KINDS["block_size"], "auto")
  config.miner = "all"
  config.also = ()
  config.regularizer = ""
  config.memory = ConfigDict({"size": 0, "enqueue_first": True, "warmup": 0})
  config.margin_unit = "absolute"
  config.optimizer = ConfigDict(
    {
      "name": "adam",
      "learning_rate": 3e-3,
      "schedule": "cosine",
      "warmup": 0.05,
      "weight_decay": 0.0,
      "momentum": 0.9,
      "loss_factor": 1.0,
    }
  )
  config.train = ConfigDict(
    {"steps": 400, "log_every": 20, "eval_every": 200, "save_every": 200}
  )
  config.eval = ConfigDict(
    {
      "select": "own/map_at_r",
      "columns": (
        "own/recall_at_1",
        "own/map_at_r",
        "cosine/recall_at_1",
        "cosine/map_at_r",
      ),
    }
  )
  config.study = ConfigDict(
    {"reference": "", "columns": ("own/map_at_r",), "delta": 0.01}
  )
  config.tune = ConfigDict(
    {
      "trials": 12,
      "sampler": "tpe",
      "searched": 1,
      "ranges": (),
      "folds": 4,
      "prune": False,
      "final_seeds": 10,
      "final_on": "train",
    }
  )
  with_loss(config, "infonce_per_pair")
  with_model(config, "conv3")
  return config


def with_loss(config: ConfigDict, name: str) -> ConfigDict:
  """Puts in a loss with its defaults.

  >>> sorted(with_loss(ConfigDict(), "contrastive").loss.to_dict())
  ['half', 'margin', 'name']
  """
  check_choice("loss", name, LOSSES)
  config.loss = _fields(name, LOSSES[name].hyper, LOSSES[name].kinds)
  return config


def with_model(
  config: ConfigDict, name: str, embedding_dim: int = 64
) -> ConfigDict:
  """Puts in a network with its default options."""
  options = {"embedding_dim": embedding_dim, **options_of(name)}
  config.model = _fields(name, options, kinds_of(name))
  return config


# Fields of the top that take other types than that of their value, as losses
# and networks say by their annotations.
_KINDS = {
  "metric": Kind((str, types.NoneType)),
  "normalize": Kind((str, types.NoneType)),
  "reduction": Kind((str, types.NoneType)),
  "block_size": Kind((int, str, types.NoneType)),
  "also": Kind((tuple,), str),
  "data.image_size": Kind((tuple,), int),
  "eval.columns": Kind((tuple,), str),
  "study.columns": Kind((tuple,), str),
  "tune.ranges": Kind((tuple,), str),
}
_MANY = {int: "whole numbers from 1", float: "numbers", str: "texts"}
_WORDS = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple",
  types.NoneType: "None",
}
_SEEDS = ("seed", "data.split_seed")
# A key of jax.random drops what is above it.
_LARGEST_SEED = 2**32 - 1

# Fields of the data that change an image at random.
AUGMENTATIONS = (
  "flip",
  "shift",
  "rotate",
  "scale",
  "shear",
  "stretch",
  "skip",
  "crop",
  "brightness",
  "contrast",
  "saturation",
)

# Losses that meet each class twice.
_TWO_VIEWS = ("infonce", "ntxent", "instance", "vicreg", "barlow")


def _fields(
  name: str, defaults: Mapping[str, Any], kinds: Mapping[str, Kind]
) -> ConfigDict:
  """A section of a name and its options, None where the default is None."""
  fields = ConfigDict({"name": name})
  for key, value in defaults.items():
    fields[key] = _reference(kinds.get(key), value, f"{key} of {name}")
  return fields


def _reference(kind: Kind | None, value: Any, what: str = "") -> Any:
  """A value as a field that takes all types of its kind, also as a flag."""
  if value is not None and (kind is None or len(kind.types) < 2):
    return value
  if kind is None:
    raise TypeError(
      f"{what}: a default of None needs an annotation, such as float | None."
    )
  some = [one for one in kind.types if one is not types.NoneType]
  # Flags of the type `object` are Python literals, or else texts.
  return config_dict.FieldReference(
    value, field_type=some[0] if len(some) == 1 else object
  )


def _kind_of(config: ConfigDict, field: str) -> Kind | None:
  """What a field takes, where it says more than the type of its value."""
  section, _, name = field.rpartition(".")
  if section == "loss" and config.loss.name in LOSSES:
    return LOSSES[config.loss.name].kinds.get(name)
  if section == "model" and config.model.name in MODELS:
    return kinds_of(config.model.name).get(name)
  return _KINDS.get(field)


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """A locked copy with flat overrides, such as {"loss.margin": 0.2}.

  "loss.name" and "model.name" bring the defaults of what they name, before the
  other overrides apply.

  Raises:
    InputError: with a line for each field that does not exist, and each value
      of the wrong type.
  """
  config = config.copy_and_resolve_references().unlock()
  errors: list[str] = []
  unknown: set[str] = set()
  # The names first: they say which other fields there are.
  for field in sorted(overrides, key=lambda field: field not in _NAMES):
    if _section(field) in unknown:
      continue
    try:
      _set(config, field, overrides[field])
    except InputError as error:
      errors.append(str(error))
      if field in _NAMES:
        unknown.add(_section(field))
  _refuse(errors)
  return config.lock()


_NAMES = ("loss.name", "model.name")


def _section(field: Any) -> str:
  return str(field).rpartition(".")[0]


def _set(config: ConfigDict, field: Any, value: Any) -> None:
  """Sets one field, named from the top, to a value of its type."""
  if field == "loss.name":
    with_loss(config, value)
    return
  if field == "model.name":
    with_model(config, value, config.model.embedding_dim)
    return
  inside, name = place_of(config, field)
  if isinstance(inside[name], ConfigDict):
    raise InputError(
      f"config.{field} is a section: set a field of it, such as"
      f" {field}.{min(inside[name])}."
    )
  kinds = _types_of(_kind_of(config, field), inside.get_type(name))
  fitting = [kind for kind in kinds if _is_of(kind, value)]
  if not fitting:
    words = " or ".join(_WORDS[kind] for kind in kinds)
    raise InputError(f"config.{field}={value!r} must be {words}.")
  with inside.ignore_type():  # A copy keeps the type of the value alone.
    inside[name] = None if value is None else fitting[0](value)


def _types_of(kind: Kind | None, default: type) -> tuple[type, ...]:
  """The types that a field takes; that of its value if it says no others.

  >>> _types_of(Kind((float, types.NoneType)), float)
  (<class 'float'>, <class 'NoneType'>)
  >>> _types_of(Kind((float,)), int)
  (<class 'int'>,)
  """
  return (default,) if kind is None or len(kind.types) < 2 else kind.types


def place_of(config: ConfigDict, field: Any) -> tuple[ConfigDict, str]:
  """The section that has a field, and the field's name there.

  Raises:
    InputError: if there is no such field, with those that there are.
  """
  if not isinstance(field, str):
    raise InputError(
      f"unknown config field {field!r}: names are texts, such as 'train.steps'."
    )
  section, _, name = field.rpartition(".")
  inside = config
  for part in section.split(".") if section else ():
    check_choice("config field", part, inside.keys())
    inside = inside[part]
    if not isinstance(inside, ConfigDict):
      raise InputError(f"unknown config field {field!r}: {part} has no fields.")
  where = f"field of config.{section}" if section else "config field"
  try:
    check_choice(where, name, inside.keys())
  except InputError as error:
    if f"{section}.name" not in _NAMES:
      raise
    raise InputError(
      f"{error} These are the fields of {inside.name}; config.{section}.name"
      f" brings those of another {section}."
    ) from None
  return inside, name


def _is_of(kind: type, value: Any) -> bool:
  """Whether a field of this type takes a value: one that changes nothing."""
  if isinstance(value, bool):
    return kind is bool
  if kind is float and isinstance(value, int):
    return abs(value) <= sys.float_info.max
  wider = {float: (int, float), tuple: (list, tuple)}
  return isinstance(value, wider.get(kind, kind))


def _is_item(kind: type, value: Any) -> bool:
  """Whether a tuple may hold a value; whole numbers are sizes."""
  return _is_of(kind, value) and (kind is not int or value > 0)


def _refuse(errors: Iterable[str]) -> None:
  """Raises one `InputError` with a line for each error, if there are any."""
  if lines := list(dict.fromkeys(errors)):
    raise InputError("\n".join(lines))


# Sections that say what is made of many runs, and change none of them.
_OF_STUDY = ("study", "tune")


def as_dict(config: ConfigDict) -> dict[str, Any]:
  """A run as plain nested data, equal before and after a trip through JSON."""
  fields = {k: v for k, v in config.to_dict().items() if k not in _OF_STUDY}
  return json.loads(json.dumps(fields, sort_keys=True))


def of_study(config: ConfigDict) -> dict[str, Any]:
  """The section `study` as plain data: no part of any run."""
  return json.loads(json.dumps(config.study.to_dict(), sort_keys=True))


def from_dict(fields: Mapping[str, Any]) -> ConfigDict:
  """The config that `as_dict` came from, lists as the tuples they were.

  >>> config = base_config()
  >>> digest(from_dict(as_dict(config))) == digest(config)
  True
  """

  def restore(value):
    if isinstance(value, Mapping):
      return {k: restore(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value

  return ConfigDict(restore(fields)).lock()


def digest(config: ConfigDict) -> str:
  """Twelve hexadecimal digits that change with any field of a run."""
  text = json.dumps(as_dict(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def hyper_parameters(config: ConfigDict) -> dict[str, Any]:
  """The keyword arguments of the loss."""
  return {k: v for k, v in config.loss.items() if k != "name"}


def _named(text: str | None) -> Named | None:
  return None if text is None else parse_named(text)


def main_objective_of(
  config: ConfigDict, hyper: Mapping[str, Any]
) -> Objective:
  """The objective of `config.loss`, with these hyper-parameters."""
  return make_objective(
    config.loss.name,
    _named(config.metric),
    config.normalize,
    _named(config.reduction),
    parse_named(config.miner),
    config.block_size,
    **hyper,
  )


def _weighted(field: str, text: str) -> tuple[float, str, dict[str, Any]]:
  """Weight, name and options of "weight*name:option=value,…"."""
  weight, star, rest = text.partition("*")
  try:
    number = float(weight) if star else math.nan
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise InputError(
      f"config.{field}={text!r} is not of the form weight*name:option=value,…"
    )
  return number, *parse_named(rest)


def objective_of(
  config: ConfigDict,
  hyper: Mapping[str, Any],
  numbers: Mapping[str, Any] | None = None,
) -> Any:
  """All that a config minimises, with these hyper-parameters of its loss.

  `numbers`, by their names in `numbers_of`, replace those of the loss, and the
  distances of miners and of further losses.
  """
  numbers = numbers or {}
  hyper = {**hyper, **_without("loss.", numbers)}
  objective: Any = main_objective_of(config, hyper)
  objective = with_distances(objective, numbers)
  if config.memory.size:
    objective = with_memory(objective, **config.memory)
  if config.also:
    others = [
      (weight, with_distances(other, _without(prefix, numbers)))
      for prefix, (weight, other) in _also_of(config).items()
    ]
    objective = combine([(1.0, objective), *others])
  if config.regularizer:
    weight, name, options = _weighted("regularizer", config.regularizer)
    objective = regularize(objective, (name, options), weight)
  return objective


def objectives_of(config: ConfigDict) -> dict[str, Objective]:
  """Each objective of a config, by what the names of its numbers begin with.

  >>> config = base_config()
  >>> config.also = ("0.5*triplet",)
  >>> list(objectives_of(config))
  ['', 'also.0.']
  """
  main = main_objective_of(config, hyper_parameters(config))
  others = {prefix: other for prefix, (_, other) in _also_of(config).items()}
  return {"": main, **others}


def _also_of(config: ConfigDict) -> dict[str, tuple[float, Objective]]:
  """The further losses and their weights."""
  found = {}
  for place, text in enumerate(config.also):
    weight, name, options = _weighted("also", text)
    options = {"block_size": config.block_size, **options}
    found[f"also.{place}."] = weight, make_objective(name, **options)
  return found


def _without(prefix: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
  """The numbers whose names have the prefix, without it."""
  return {
    name.removeprefix(prefix): value
    for name, value in numbers.items()
    if name.startswith(prefix)
  }


def traced_numbers(config: ConfigDict) -> dict[str, Any]:
  """The numbers that change without compiling again, by flat name.

  >>> sorted(traced_numbers(base_config()))
  ['loss.temperature', 'optimizer.learning_rate']
  """
  static = LOSSES[config.loss.name].static
  numbers = {
    f"loss.{name}": value
    for name, value in hyper_parameters(config).items()
    if name not in static and value is not None
  }
  return {**numbers, "optimizer.learning_rate": config.optimizer.learning_rate}


def _validate_batch(config: ConfigDict) -> None:
  fields, loss = config.data, config.loss.name
  check_choice("sampler", fields.sampler, SAMPLERS)
  if fields.views < 1:
    raise InputError(f"config.data.views must be at least 1: {fields.views}.")
  if fields.views > 1 and not any(fields[name] for name in AUGMENTATIONS):
    raise InputError(
      f"config.data.views={fields.views}, and without augmentation all views of"
      f" an image are equal: set one of config.data's {list(AUGMENTATIONS)}."
    )
  if not 0 <= fields.crop < 1:
    raise InputError(
      "config.data.crop is the share of the area that may be cut away, in"
      f" [0, 1); got {fields.crop}."
    )
  for name in ("shear", "stretch"):
    if not 0 <= fields[name] < 1:
      raise InputError(f"config.data.{name} is in [0, 1); got {fields[name]}.")
  # How often a label stands in a batch; 0 where nobody knows.
  by_class = fields.sampler in ("classes", "hierarchical")
  times = fields.images_per_class if by_class else 0
  times = fields.views if fields.views > 1 else times
  if loss in _TWO_VIEWS and times != 2:
    raise InputError(
      f"{loss} compares two views: set config.data.views=2 and augmentation, or"
      " the sampler 'classes' with config.data.images_per_class=2, or use"
      " infonce_per_pair or supcon."
    )
  if fields.sampler in ("pairs", "triplets"):
    _validate_explicit(config)


def _validate_explicit(config: ConfigDict) -> None:
  """Explicit pairs and triplets take a loss that reads an affinity."""
  sampler = config.data.sampler
  known = PAIR_LOSSES if sampler == "pairs" else LOSSES
  fit = [name for name, entry in known.items() if not entry.goes_by_classes]
  others = [_weighted("also", text)[1] for text in config.also]
  for name in (config.loss.name, *others):
    check_choice(f"loss for explicit {sampler}", name, fit)
  if config.data.views > 1 or config.memory.size:
    raise InputError(
      f"config.data.sampler={sampler!r} says who meets whom: set"
      " config.data.views=1 and config.memory.size=0."
    )


def validate(config: ConfigDict) -> None:
  """Checks all that can be checked without data.

  Raises:
    InputError: with a line for each problem: the field, what is wrong with it,
      and what would be right.
  """
  _refuse(_wrong_values(config))
  errors = []
  for check in _CHECKS:
    try:
      check(config)
    except InputError as error:
      errors.append(str(error))
  _refuse(errors)


def _wrong_values(config: ConfigDict) -> Iterator[str]:
  """What no field may be, whatever it means."""
  for field, value in _leaves(config):
    items = value if isinstance(value, tuple | list) else (value,)
    if not all(math.isfinite(x) for x in items if isinstance(x, float)):
      yield f"config.{field}={value!r} must be finite."
    kind = _kind_of(config, field)
    item = None if kind is None or value is None else kind.item
    if item is not None and not all(_is_item(item, one) for one in items):
      yield f"config.{field}={value!r} must be a tuple of {_MANY[item]}."
    if field in _SEEDS and not 0 <= value <= _LARGEST_SEED:
      yield (
        f"config.{field}={value} must be a whole number from 0 to"
        f" {_LARGEST_SEED}."
      )


def _leaves(config: ConfigDict, section: str = "") -> Iterator[tuple[str, Any]]:
  """All fields, named from the top."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _leaves(value, f"{section}{name}.")
    else:
      yield section + name, value


def _validate_objective(config: ConfigDict) -> None:
  check_choice("margin_unit", config.margin_unit, MARGIN_UNITS)
  objective = objective_of(config, hyper_parameters(config))
  if config.margin_unit == "initial_mean":
    if objective.space == "dot":
      raise InputError(
        "margin_unit='initial_mean' needs a distance, and a dot product has no"
        " unit: use margin_unit='absolute'."
      )
    for each in objectives_of(config).values():
      check_units(each)


def _validate_model(config: ConfigDict) -> None:
  options = dict(config.model)
  del options["embedding_dim"]
  check_options(**options)
  if config.model.embedding_dim < 1:
    raise InputError(
      "config.model.embedding_dim must be at least 1, got"
      f" {config.model.embedding_dim}."
    )


def _validate_optimizer(config: ConfigDict) -> None:
  check_choice("optimizer", config.optimizer.name, OPTIMIZERS)
  check_choice("schedule", config.optimizer.schedule, SCHEDULES)
  rate = config.optimizer.learning_rate
  if not rate > 0:
    raise InputError(
      f"config.optimizer.learning_rate must be positive, got {rate}."
    )
  for name in ("weight_decay", "loss_factor"):
    if config.optimizer[name] < 0:
      raise InputError(
        f"config.optimizer.{name} must not be negative, got"
        f" {config.optimizer[name]}."
      )
  if not 0 <= config.optimizer.momentum < 1:
    raise InputError(
      f"config.optimizer.momentum={config.optimizer.momentum} is not in [0, 1)."
    )
  if not 0 <= config.optimizer.warmup < 1:
    raise InputError(
      "config.optimizer.warmup is a share of the steps, in [0, 1); got"
      f" {config.optimizer.warmup}."
    )


def _validate_steps(config: ConfigDict) -> None:
  for name in ("steps", "log_every", "eval_every", "save_every"):
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


def _validate_scores(config: ConfigDict) -> None:
  check_score("score of config.eval.select", config.eval.select)
  check_ranks("score of config.eval.select", config.eval.select)
  for column in config.eval.columns:
    check_score("score of config.eval.columns", column, at_threshold=True)


_CHECKS = (
  _validate_objective,
  _validate_batch,
  _validate_model,
  _validate_optimizer,
  _validate_steps,
  _validate_scores,
)
