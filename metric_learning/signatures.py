"""Names with options, and functions whose options are keyword-only."""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from metric_learning.errors import InputError, check_choice

# A name, or a name with its options: "all" or ("hdc", {"fraction": 0.25}).
Named = str | tuple[str, Mapping[str, Any]]
REQUIRED = inspect.Parameter.empty


def keywords(function: Callable[..., Any] | None) -> dict[str, Any]:
  """The keyword-only parameters of a function with their defaults.

  >>> keywords(lambda row, *, margin=1.0: row)
  {'margin': 1.0}
  """
  return {one.name: one.default for one in _parameters(function)}


@functools.cache
def _parameters(
  function: Callable[..., Any] | None,
) -> tuple[inspect.Parameter, ...]:
  """Cached, since a sweep needs the options of each loss many times."""
  if function is None:
    return ()
  return tuple(
    parameter
    for parameter in inspect.signature(function).parameters.values()
    if parameter.kind is parameter.KEYWORD_ONLY
  )


class OneOf(tuple[str, ...]):
  """The names that an `Annotated` string may be.

  >>> OneOf(("pairs", "triplets"))
  pairs, triplets
  """

  __slots__ = ()

  def __repr__(self) -> str:
    """The names in words."""
    return ", ".join(self)


class Kind(NamedTuple):
  """The types that a parameter accepts, and the item type of a tuple.

  interval: the interval of an `Annotated` number (see `intervals`), or the
    names of an `Annotated` string.
  """

  types: tuple[type, ...]
  item: type | None = None
  interval: Any = None


def kinds(function: Callable[..., Any] | None) -> dict[str, Kind]:
  """The kinds of the keyword-only parameters of a function, by annotation.

  A kind lists only types that a config can hold: None, booleans, numbers,
  strings, and tuples of one of these. Parameters without annotation are left
  out.

  >>> def loss(row, *, margin: float | None = None, hidden: tuple[int, int]): 0
  >>> kinds(loss)["margin"].types
  (<class 'float'>, <class 'NoneType'>)
  >>> kinds(loss)["hidden"]
  Kind(types=(<class 'tuple'>,), item=<class 'int'>, interval=None)
  """
  return dict(_kinds(function))


@functools.cache
def _kinds(function: Callable[..., Any] | None) -> dict[str, Kind]:
  return {
    one.name: _kind(one.annotation)
    for one in _parameters(function)
    if one.annotation is not one.empty
  }


_PLAIN = (types.NoneType, bool, int, float, str)


def _kind(annotation: Any) -> Kind:
  origin = typing.get_origin(annotation)
  if origin is typing.Annotated:
    plain, interval, *_ = typing.get_args(annotation)
    return _kind(plain)._replace(interval=interval)
  if origin in (typing.Union, types.UnionType):
    members = [_kind(member) for member in typing.get_args(annotation)]
    return Kind(
      tuple(kind for member in members for kind in member.types),
      next((member.item for member in members if member.item), None),
      next((member.interval for member in members if member.interval), None),
    )
  if origin in (tuple, list, Sequence):
    items = _kind(typing.get_args(annotation)[0]).types
    return Kind((tuple,), items[0] if items else None)
  return Kind((annotation,) if annotation in _PLAIN else ())


def call_with(
  options: Mapping[str, Any], function: Callable[..., Any], *args: Any
) -> Any:
  """Calls a function with those options that it accepts.

  >>> call_with({"a": 1, "b": 2}, lambda x, *, a=0: x + a, 10)
  11
  """
  wanted = keywords(function)
  return function(*args, **{k: v for k, v in options.items() if k in wanted})


def split_named(
  kind: str,
  choice: Named,
  choices: Iterable[str],
  options_of: Callable[[str], Mapping[str, Any]],
) -> tuple[str, dict[str, Any]]:
  """Checks a choice, and returns its name and its given options.

  Raises:
    InputError: if the name or an option is unknown, or if an option is missing.

  >>> split_named("miner", ("hdc", {"fraction": 0.2}), ["hdc"],
  ...             lambda name: {"fraction": 0.5})
  ('hdc', {'fraction': 0.2})
  """
  name, options = (choice, {}) if isinstance(choice, str) else choice
  check_choice(kind, name, choices)
  known = options_of(name)
  for key in options:
    check_choice(f"option of {name}", key, known)
  for key, default in known.items():
    if default is REQUIRED and key not in options:
      raise InputError(
        f"the {kind} {name!r} needs its {key}: ({name!r}, {{{key!r}: …}})."
      )
  return name, dict(options)
