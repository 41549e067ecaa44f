"""Errors whose messages say what is wrong, where, and how to fix it."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Input that cannot be used: a name, a value, a file, a folder.

  The message is for the person who typed the command: it says what is wrong,
  where, and how to fix it. Scripts print only the message and exit with status
  2.
  """


def check_choice(kind: str, name: object, choices: Iterable[str]) -> None:
  """Raises an `InputError` that lists the choices if `name` is not one of them.

  >>> check_choice("metric", "l3", ["l1", "l2"])
  Traceback (most recent call last):
  metric_learning.errors.InputError: unknown metric 'l3'; did you mean 'l2'? \
Known: l1, l2.
  """
  choices = sorted(choices)
  if name in choices:
    return
  near = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
  hint = f"; did you mean {near[0]!r}?" if near else "."
  raise InputError(
    f"unknown {kind} {name!r}{hint} Known: {', '.join(choices)}."
  )
