"""One way to break the code; `python -m tests.breakages` tries all of them."""

from typing import NamedTuple


class Breakage(NamedTuple):
  """A text in a file of the package, its replacement, and the tests that fail.

  seen_by: a path in tests/, optionally followed by an expression for `-k`.
  """

  file: str
  text: str
  broken: str
  seen_by: str
