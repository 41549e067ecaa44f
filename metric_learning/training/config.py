"""The config of a run: its fields, overrides and digest."""

import hashlib
import json
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import OpenSet
from metric_learning.losses import LOSSES
from metric_learning.plugins import import_modules
from metric_learning.signatures import Kind
from metric_learning.training.fields import FIELDS, MOVED
from metric_learning.training.optimizers import GROUPS
from metric_learning.training.sections import (
  PER_OBJECTIVE,
  as_field,
  choice_at,
  enter_all,
  kind_of,
  name_in,
)

# The names that the base config starts with, by section.
_NAMES: dict[str, str | None] = {
  "loss": "infonce_per_pair",
  "model": "conv3",
  "metric": None,
  "reduction": None,
  "miner": "all",
  "relation": "same_label",
  "regularizer": None,
  "optimizer": "adam",
  "optimizer.schedule": "cosine",
}
# Fields that accept more types than that of their default. (Options declare
# their types by annotations.)
_KINDS = {
  "normalize": Kind((str, types.NoneType)),
  "imports": Kind((tuple,), str),
  "block_size": Kind((int, str, types.NoneType)),
  "model.weights": Kind((str, types.NoneType)),
  "optimizer.clip": Kind((float, types.NoneType)),
  "optimizer.trunk.last_layers": Kind((int, types.NoneType)),
  "data.image_size": Kind((tuple,), int),
  "data.short_side": Kind((int, types.NoneType)),
  "data.drop_columns": Kind((tuple,), str),
  "eval.columns": Kind((tuple,), str),
  "study.columns": Kind((tuple,), str),
}
# Sections whose fields the user names: the type of their values, and an
# example.
_ANYTHING = Kind((str, int, float, bool, tuple, types.NoneType))
_OPEN: dict[str, tuple[Kind, str]] = {
  "study.reference": (_ANYTHING, "metric.name='l2'"),
  "tune.ranges": (Kind((tuple,)), "margin=(0.0, 2.0, False)"),
}
_WORDS = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple",
  types.NoneType: "None",
}


def base_config() -> ConfigDict:
  """Every field of a run, with the values that most configs share.

  What each field means: `print(metric_learning.training.fields.described())`.
  In a section with a `name`, the other fields are the options of the named
  thing. `also` holds further losses. Each is a section with a `weight` and its
  own `loss`, `metric`, `normalize`, `reduction` and `miner`: setting any field
  of `also.tcm` adds the loss `tcm`.
  """
  config = ConfigDict({"also": {}})
  for section, fields in FIELDS.items():
    place = _made(config, section)
    for name, field in fields.items():
      kind = _KINDS.get(f"{section}.{name}".lstrip("."))
      place[name] = as_field(kind, field.default)
  for place, named in _NAMES.items():
    _made(config, place)
    name_in(config, place, named)
  return config


def _made(config: ConfigDict, section: str) -> ConfigDict:
  """The section of this name, created if it is missing."""
  for part in section.split(".") if section else ():
    if part not in config:
      config[part] = ConfigDict()
    config = config[part]
  return config


def with_loss(config: ConfigDict, name: str) -> ConfigDict:
  """Sets the loss, with its default options.

  >>> sorted(with_loss(ConfigDict({"loss": {}}), "contrastive").loss.to_dict())
  ['half', 'margin', 'name']
  """
  return name_in(config, "loss", name)


def with_model(
  config: ConfigDict, name: str, embedding_dim: int = 64
) -> ConfigDict:
  """Sets the network, with its default options."""
  return name_in(config, "model", name, embedding_dim=embedding_dim)


def with_further_loss(config: ConfigDict, label: str) -> ConfigDict:
  """Adds a further loss to `also`, with its defaults, unless it exists.

  The label is the name of the loss; `also.LABEL.loss.name` changes the loss.

  >>> with_further_loss(base_config(), "center").also.center.loss.name
  'center'
  """
  if label not in config.also:
    place = config.also[label] = ConfigDict({"weight": 1.0})
    place.normalize = as_field(_KINDS["normalize"], None)
    for part in PER_OBJECTIVE:
      place[part] = ConfigDict()
      name = _NAMES[part]
      if part == "loss" and label in LOSSES:
        name = label
      name_in(config, f"also.{label}.{part}", name)
  return config


# --- Overriding -------------------------------------------------------------


def override(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """A locked copy with flat overrides such as {"loss.margin": 0.2} applied.

  An override of a name, such as "loss.name", first sets the defaults of the
  named thing; the other overrides are applied after it.

  Raises:
    InputError: with one line for each unknown field and each value of a wrong
      type.
  """
  config = _copy(config)
  errors: list[str] = []
  unknown: set[str] = set()
  import_modules(overrides.get("imports", ()))
  # Names first: they decide which other fields exist.
  for field in sorted(overrides, key=lambda field: not is_name(field)):
    if _section(field) in unknown:
      continue
    try:
      set_field(config, field, overrides[field])
    except InputError as error:
      errors.append(str(error))
      if is_name(field):
        unknown.add(_section(field))
  refuse(errors)
  return config.lock()


def _copy(config: ConfigDict) -> ConfigDict:
  """An unlocked copy whose fields accept the same types.

  Resolving references alone would give each field the type of its present
  value, and a flag could not set a field that is None.
  """
  copy = config.copy_and_resolve_references().unlock()

  def restore(section: str, place: ConfigDict) -> None:
    for name, value in list(place.items()):
      field = f"{section}.{name}".lstrip(".")
      if isinstance(value, ConfigDict):
        restore(field, value)
      elif (kind := kind_at(copy, field)) and len(kind.types) > 1:
        place[name] = as_field(kind, value, field)

  restore("", copy)
  return copy


def is_name(field: Any) -> bool:
  """Whether a field is the name of the thing that its section configures.

  >>> is_name("loss.name"), is_name("data.name")
  (True, False)
  """
  return str(field).endswith(".name") and choice_at(_section(field)) is not None


def _section(field: Any) -> str:
  return str(field).rpartition(".")[0]


def set_field(config: ConfigDict, field: Any, value: Any) -> None:
  """Sets one field, given by its full name, to a value of its type.

  Raises:
    InputError: for an unknown field, or a value of a wrong type.
  """
  inside, name = place_of(config, field)
  if field in _OPEN and isinstance(value, Mapping):
    inside[name] = ConfigDict()
    for key, one in value.items():
      set_field(config, f"{field}.{key}", one)
    return
  check_no_section(field, inside[name])
  if is_name(field) and isinstance(value, str):
    name_in(config, _section(field), value)
    return
  kinds = _types_of(kind_at(config, field), inside.get_type(name))
  fitting = [kind for kind in kinds if is_of(kind, value)]
  if not fitting:
    words = " or ".join(_WORDS[kind] for kind in kinds)
    raise InputError(f"config.{field}={value!r} must be {words}.")
  if is_name(field):
    name_in(config, _section(field), value)
    return
  inside[name] = None if value is None else fitting[0](value)


def check_no_section(field: str, held: Any) -> None:
  """Checks that a field to be set is not a section with fields.

  Raises:
    InputError: naming a field of the section, if it is.
  """
  if not isinstance(held, ConfigDict):
    return
  if field in _OPEN:
    inner = _OPEN[field][1]
  else:
    inner = "name" if "name" in held else min(held, default="LOSS.weight")
  raise InputError(
    f"config.{field} is a section: set a field of it, such as"
    f" config.{field}.{inner}."
  )


def kind_at(config: ConfigDict, field: str) -> Kind | None:
  """The type that a field declares; None if it takes that of its value."""
  if field.startswith("also.") and field.endswith(".normalize"):
    return _KINDS["normalize"]
  if section := _open_section(field):
    return _OPEN[section][0]
  return _KINDS.get(field) or kind_of(config, field)


def _types_of(kind: Kind | None, default: type) -> tuple[type, ...]:
  """The types that a field accepts: those it declares, or that of its value.

  >>> _types_of(Kind((float, types.NoneType)), float)
  (<class 'float'>, <class 'NoneType'>)
  >>> _types_of(Kind((float,)), int)
  (<class 'int'>,)
  """
  return (default,) if kind is None or len(kind.types) < 2 else kind.types


def place_of(config: ConfigDict, field: Any) -> tuple[ConfigDict, str]:
  """The section that holds a field, and the name of the field in it.

  Naming a field of a further loss that does not exist yet adds that loss.
  Likewise, naming a field of an open section adds the field.

  Raises:
    InputError: for an unknown field, with the known ones; for a field that has
      moved, with its new place.
  """
  if not isinstance(field, str):
    raise InputError(
      f"unknown config field {field!r}: a name is a string, such as "
      "'train.steps'."
    )
  if field in MOVED:
    raise InputError(f"config.{field} is now config.{MOVED[field]}.")
  section, _, name = field.rpartition(".")
  _add_further(config, field)
  _add_open(config, field)
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
    if choice_at(section) is None:
      raise
    raise InputError(
      f"{error} These are the fields of {inside.name}; for those of another "
      f"{section.rpartition('.')[2]}, set config.{section}.name first."
    ) from None
  return inside, name


def _add_further(config: ConfigDict, field: str) -> None:
  """Adds the further loss of a field such as "also.center.weight" if missing.

  Raises:
    InputError: if the label is not a loss and the field does not name one.
  """
  parts = field.split(".")
  if parts[0] != "also" or len(parts) < 3:
    return
  if not field.endswith(".loss.name") and parts[1] not in config.also:
    check_choice("loss in config.also", parts[1], LOSSES)
  with_further_loss(config, parts[1])


def _open_section(field: str) -> str | None:
  """The open section that a field is in; None if its section is not open.

  >>> _open_section("study.reference.metric.name"), _open_section("study.delta")
  ('study.reference', None)
  """
  return next((x for x in _OPEN if field.startswith(f"{x}.")), None)


def _add_open(config: ConfigDict, field: str) -> None:
  """Adds a field to an open section, unless it exists."""
  section = _open_section(field)
  if section is None:
    return
  *above, last = field.split(".")
  place = config
  for part in above:
    if part not in place:
      place[part] = ConfigDict()
    place = place[part]
    if not isinstance(place, ConfigDict):
      return
  if last not in place:
    kind = _OPEN[section][0]
    place[last] = as_field(kind, None) if len(kind.types) > 1 else ()


def is_of(kind: type, value: Any) -> bool:
  """Whether a field of this type can hold the value unchanged."""
  if isinstance(value, bool):
    return kind is bool
  if kind is float and isinstance(value, int):
    return abs(value) <= sys.float_info.max
  wider = {float: (int, float), tuple: (list, tuple)}
  return isinstance(value, wider.get(kind, kind))


def refuse(errors: Iterable[str]) -> None:
  """Raises one `InputError` with a line for each error, if any."""
  if lines := list(dict.fromkeys(errors)):
    raise InputError("\n".join(lines))


def leaves(config: ConfigDict, section: str = "") -> Iterator[tuple[str, Any]]:
  """All fields and their values, by full name."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f"{section}{name}.")
    else:
      yield section + name, value


# --- As plain data ----------------------------------------------------------

# Sections about the comparison of many runs; they do not change a run.
OF_STUDY = ("study", "tune")
# These, and the section about the devices that a run trains on.
NOT_OF_A_RUN = (*OF_STUDY, "mesh")


def as_dict(config: ConfigDict) -> dict[str, Any]:
  """The config of a run as plain nested data, which survives JSON unchanged."""
  fields = {k: v for k, v in config.to_dict().items() if k not in NOT_OF_A_RUN}
  return json.loads(json.dumps(fields, sort_keys=True))


def of_study(config: ConfigDict) -> dict[str, Any]:
  """The section `study` as plain data; it is not part of any run."""
  return json.loads(json.dumps(config.study.to_dict(), sort_keys=True))


def reference_of(config: ConfigDict) -> dict[str, Any]:
  """The fields of a study's reference cell, by full name.

  >>> reference_of(
  ...   override(base_config(), {"study.reference.metric.name": "l2"})
  ... )
  {'metric.name': 'l2'}
  """
  return dict(leaves(config.study.reference))


def from_dict(fields: Mapping[str, Any]) -> ConfigDict:
  """The config that `as_dict` was given; lists become tuples again.

  Raises:
    InputError: for a config that another version of the code wrote.

  >>> config = base_config()
  >>> digest(from_dict(as_dict(config))) == digest(config)
  True
  """

  def restore(value: Any) -> Any:
    if isinstance(value, Mapping):
      return {k: restore(v) for k, v in value.items()}
    return tuple(value) if isinstance(value, list) else value

  try:
    enter_all(fields)
  except (KeyError, TypeError) as error:
    lacks = (
      f"without {error}" if isinstance(error, KeyError) else "of old fields"
    )
    raise InputError(
      f"a config {lacks}: other code wrote it. Use the code of its run, whose"
      " commit is in its environment.json."
    ) from error
  return ConfigDict(restore(fields)).lock()


def digest(config: ConfigDict) -> str:
  """Twelve hexadecimal digits that differ if any field of a run differs."""
  return digest_of(as_dict(config))


def digest_of(fields: Mapping[str, Any]) -> str:
  """The digest of a run as plain data."""
  text = json.dumps(fields, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


# --- Numbers ----------------------------------------------------------------


def hyper_parameters(config: ConfigDict) -> dict[str, Any]:
  """The keyword arguments of the loss."""
  return {k: v for k, v in config.loss.items() if k != "name"}


def open_set_of(config: ConfigDict) -> OpenSet:
  """The options that choose the known classes for identification scores.

  They apply to test classes. Configs of an earlier version lack this section.
  """
  return OpenSet(**config.eval.get("identification", {}))


def batch_devices(config: ConfigDict) -> int:
  """How many devices share a batch: 1 if an older config lacks the field."""
  return config.get("mesh", {}).get("batch", 1)


def traced_numbers(config: ConfigDict) -> dict[str, Any]:
  """The numbers that can change without compiling again, by flat name.

  >>> sorted(traced_numbers(base_config()))[:2]
  ['loss.temperature', 'optimizer.head.factor']
  """
  static = LOSSES[config.loss.name].static
  numbers = {
    f"loss.{name}": value
    for name, value in hyper_parameters(config).items()
    if name not in static and value is not None
  }
  factors = {
    f"optimizer.{group}.factor": config.optimizer[group].factor
    for group in GROUPS
  }
  rate = config.optimizer.learning_rate
  return {**numbers, "optimizer.learning_rate": rate, **factors}
