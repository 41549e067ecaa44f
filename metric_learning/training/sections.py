"""Sections of a config with a name: the other fields are its options.

`config.loss.name` decides which other fields `config.loss` has: the keyword
arguments of that loss, with their defaults. The same holds for networks,
metrics, miners and everything else that has a name and options.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from metric_learning import models
from metric_learning.distances import METRICS
from metric_learning.errors import check_choice
from metric_learning.losses import LOSSES
from metric_learning.losses.regularizers import REGULARIZERS
from metric_learning.miners import MINERS
from metric_learning.objectives import REDUCTION_OPTIONS
from metric_learning.plugins import enter, import_modules
from metric_learning.relations import RELATIONS
from metric_learning.rows import REDUCTIONS
from metric_learning.signatures import REQUIRED, Kind, keywords, kinds
from metric_learning.training.optimizers import OPTIMIZERS, SCHEDULES


class Choice(NamedTuple):
  """The names that a section accepts, and the options of each.

  choices: the registry that holds the names.
  options: from a name to its options and their defaults.
  kinds: from a name to the types of its options.
  default: whether the name may be None: the loss then chooses, or there is no
    such thing.
  """

  choices: Mapping[str, Any]
  options: Callable[[str], Mapping[str, Any]]
  kinds: Callable[[str], Mapping[str, Kind]]
  default: bool = False


def _of_functions(
  functions: Mapping[str, Any], *left_out: str, default: bool = False
) -> Choice:
  """A choice among functions, whose options are their keyword arguments."""

  def without(found: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k not in left_out}

  return Choice(
    functions,
    lambda name: without(keywords(functions[name])),
    lambda name: without(kinds(functions[name])),
    default,
  )


# By section. Those in `PER_OBJECTIVE` are also in each entry of `config.also`.
CHOICES: dict[str, Choice] = {
  "loss": Choice(
    LOSSES, lambda name: LOSSES[name].hyper, lambda name: LOSSES[name].kinds
  ),
  "model": Choice(models.MODELS, models.options_of, models.kinds_of),
  "metric": Choice(
    METRICS,
    lambda name: keywords(METRICS[name].matrix),
    lambda name: kinds(METRICS[name].matrix),
    default=True,
  ),
  "reduction": Choice(
    REDUCTIONS,
    lambda name: dict.fromkeys(REDUCTION_OPTIONS),
    lambda name: REDUCTION_OPTIONS,
    default=True,
  ),
  "miner": Choice(
    MINERS, lambda name: MINERS[name].options, lambda name: MINERS[name].kinds
  ),
  "relation": Choice(
    RELATIONS,
    lambda name: keywords(RELATIONS[name].weights),
    lambda name: kinds(RELATIONS[name].weights),
  ),
  "regularizer": _of_functions(REGULARIZERS, "where", default=True),
  "optimizer": _of_functions(OPTIMIZERS),
  "optimizer.schedule": _of_functions(SCHEDULES),
}
PER_OBJECTIVE = ("loss", "metric", "reduction", "miner")


def choice_at(section: str) -> Choice | None:
  """The choice of a section, by its full name; None if it has no name.

  >>> choice_at("also.center.metric") is CHOICES["metric"]
  True
  >>> choice_at("train")
  """
  parts = section.split(".")
  if parts[0] == "also" and len(parts) == 3 and parts[2] in PER_OBJECTIVE:
    return CHOICES[parts[2]]
  return CHOICES.get(section)


def name_in(
  config: ConfigDict, section: str, name: str | None, **shared: Any
) -> ConfigDict:
  """Sets the name of a section, and the defaults of its options.

  Fields that all names of a section share keep their values; `shared` sets
  them.

  >>> config = ConfigDict({"loss": {}})
  >>> sorted(name_in(config, "loss", "contrastive").loss.to_dict())
  ['half', 'margin', 'name']

  Raises:
    InputError: for an unknown name.
  """
  choice = choice_at(section)
  assert choice is not None, section
  *above, last = section.split(".")
  place = config
  for part in above:
    place = place[part]
  before = place.get(last, ConfigDict())
  own = set(_options(choice, before.get("name"))) | {"name"}
  fields = ConfigDict(
    {"name": as_field(_NAME, name) if choice.default else name}
  )
  # By reference: a field that is None now keeps its type.
  for key, value in before.items(preserve_field_references=True):
    if key not in own:
      fields[key] = value
  for key, value in shared.items():
    fields[key] = value
  if name is not None:
    enter(last, choice.choices, name)
    check_choice(last, name, choice.choices)
    kinds = choice.kinds(name)
    for key, value in _options(choice, name).items():
      fields[key] = as_field(kinds.get(key), value, f"{key} of {name}")
  place[last] = fields
  return config


_NAME = Kind((str, types.NoneType))


def _options(choice: Choice, name: str | None) -> Mapping[str, Any]:
  if name is None or name not in choice.choices:
    return {}
  return choice.options(name)


def given(section: Any, *left_out: str) -> dict[str, Any]:
  """The options of a section that are not None, without its name."""
  return {
    key: value
    for key, value in section.items()
    if key not in ("name", *left_out) and value is not None
  }


def named(section: Any) -> Any:
  """A section as the library accepts it: None, a name, or a name with options.

  >>> named({"name": "lp", "p": 3}), named({"name": "l1"})
  (('lp', {'p': 3}), 'l1')
  """
  options = given(section)
  return (section["name"], options) if options else section["name"]


def kind_of(config: Any, field: str) -> Kind | None:
  """The type that an option declares; None if only its default shows it."""
  section, _, name = field.rpartition(".")
  choice = choice_at(section)
  if choice is None:
    return None
  if name == "name":
    return _NAME if choice.default else None
  for part in section.split("."):
    config = config[part]
  if config["name"] not in choice.choices:
    return None
  return choice.kinds(config["name"]).get(name)


def as_field(kind: Kind | None, value: Any, what: str = "") -> Any:
  """A value as a config field that accepts all types of its kind."""
  if value is REQUIRED:
    # It must be set by the user; it is None until then.
    value, kind = (
      None,
      kind and kind._replace(types=(*kind.types, types.NoneType)),
    )
  if value is not None and (kind is None or len(kind.types) < 2):
    return value
  if kind is None:
    raise TypeError(
      f"{what}: a default of None needs an annotation, such as float | None."
    )
  types_of_kind = [one for one in kind.types if one is not types.NoneType]
  # Flags of the type `object` are parsed as Python literals, otherwise kept as
  # strings.
  return config_dict.FieldReference(
    value, field_type=types_of_kind[0] if len(types_of_kind) == 1 else object
  )


def enter_all(config: Any) -> None:
  """Registers the things that a config names in other modules.

  Raises:
    InputError: for an unknown module, attribute or name.
  """
  import_modules(config["imports"])
  for section in sections_with_names(config):
    place = config
    for part in section.split("."):
      place = place[part]
    choice = choice_at(section)
    if choice is not None and place["name"] is not None:
      kind = section.rpartition(".")[2]
      enter(kind, choice.choices, place["name"])
      check_choice(kind, place["name"], choice.choices)


def sections_with_names(config: Any) -> Iterable[str]:
  """Every section of a config that has a name, by its full name."""
  yield from CHOICES
  for label in config["also"]:
    yield from (f"also.{label}.{part}" for part in PER_OBJECTIVE)
