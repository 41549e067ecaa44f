"""User modules that add entries to the registries."""

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from metric_learning.errors import InputError, check_choice


def import_modules(names: Iterable[str]) -> list[ModuleType]:
  """Imports modules, which may add entries to registries.

  Raises:
    InputError: if a module does not exist or cannot be imported.
  """
  return [_imported(name) for name in names]


def _imported(name: str) -> ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise InputError(
      f"the module {name!r} cannot be imported: {error}. Python searches the"
      " current folder, PYTHONPATH, and the installed packages."
    ) from error


def enter(kind: str, registry: Any, name: str) -> None:
  """Adds the object MODULE:ATTRIBUTE to a registry, under that name.

  Names without a colon are ignored. An entry cannot change after it was first
  named, since compiled programs know it by its name.

  >>> registry = {"sin": abs}
  >>> enter("function", registry, "math:cos")
  >>> registry["math:cos"](0.0)
  1.0

  Raises:
    InputError: if the module or attribute does not exist, if the object has
      another type than the entries of the registry, or if it was defined anew
      after it was named.
  """
  module_name, colon, attribute = name.partition(":")
  if not colon:
    return
  if name in registry:
    now = getattr(sys.modules.get(module_name), attribute, registry[name])
    if now is not registry[name]:
      raise InputError(
        f"{name} was defined anew after it was used. Compiled programs still"
        " have the old one: choose a new name, or start Python anew."
      )
    return
  module = _imported(module_name)
  known = next(iter(registry.values()))
  fits = callable if callable(known) else lambda x: isinstance(x, type(known))
  if not hasattr(module, attribute):
    named = vars(module).items()
    names = [word for word, x in named if fits(x) and not word.startswith("_")]
    check_choice(f"{kind} of {module_name}", attribute, names)
  entry = getattr(module, attribute)
  if not fits(entry):
    raise InputError(
      f"{name} is {entry!r}, but a {kind} must be a {type(known).__name__}, as"
      f" {', '.join(sorted(registry)[:3])} are."
    )
  registry[name] = entry
