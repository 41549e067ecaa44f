"""User modules that add entries to the registries."""

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from metric_learning.errors import InputError, check_choice


def import_modules(names: Iterable[str]) -> list[ModuleType]:
  """Imports modules, which may add entries to registries.

  Raises:
    InputError: for a module that does not exist or cannot be imported.
  """
  return [_imported(name) for name in names]


def _imported(name: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise InputError(
      f"the module {name!r} cannot be imported: {error}. It is looked for in"
      " the folder of the command, in PYTHONPATH, and among packages."
    ) from error


def enter(kind: str, registry: Any, name: str) -> None:
  """Adds the object MODULE:ATTRIBUTE to a registry, under that name.

  Other names, and names that exist already, are ignored.

  >>> registry = {"sin": abs}
  >>> enter("function", registry, "math:cos")
  >>> registry["math:cos"](0.0)
  1.0

  Raises:
    InputError: for a module or attribute that does not exist, or an object that
      is not an entry for this registry.
  """
  module_name, colon, attribute = name.partition(":")
  if not colon or name in registry:
    return
  module = _imported(module_name)
  public = [word for word in vars(module) if not word.startswith("_")]
  check_choice(f"{kind} of {module_name}", attribute, public)
  thing, known = getattr(module, attribute), next(iter(registry.values()))
  fits = callable(thing) if callable(known) else isinstance(thing, type(known))
  if not fits:
    raise InputError(
      f"{name} is {thing!r}, and a {kind} is a {type(known).__name__}, as those"
      f" of {', '.join(sorted(registry)[:3])} are."
    )
  registry[name] = thing
