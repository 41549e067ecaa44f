"""One way to break the code; `python -m tests.breakages` tries all."""

from typing import NamedTuple


class Breakage(NamedTuple):
  """A text of a file of the package, what takes its place, and who sees it.

  seen_by: a path in tests/, and after a blank an expression for `-k`.
  """

  file: str
  text: str
  broken: str
  seen_by: str
