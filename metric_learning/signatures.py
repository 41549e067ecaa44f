"""Options of a function are its keyword-only parameters."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def keywords(function: Callable[..., Any] | None) -> dict[str, Any]:
  """The keyword-only parameters of a function with their defaults.

  >>> keywords(lambda row, *, margin=1.0: row)
  {'margin': 1.0}
  """
  if function is None:
    return {}
  return {
    name: parameter.default
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  }


def call_with(
  options: Mapping[str, Any], function: Callable[..., Any], *args: Any
) -> Any:
  """Calls a function with those of the options that it has.

  >>> call_with({"a": 1, "b": 2}, lambda x, *, a=0: x + a, 10)
  11
  """
  wanted = keywords(function)
  return function(*args, **{k: v for k, v in options.items() if k in wanted})
