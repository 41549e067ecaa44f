"""Writes the tables and figures of a study from its files.

python -m experiments.report --study=runs/glyphs_compare

Scores the test classes of the chosen runs, once; trains nothing. With --strict
a run that no longer matches its config is an error, after the tables.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError

_STUDY = flags.DEFINE_string("study", None, "The folder of the study.")
_STRICT = flags.DEFINE_bool("strict", False, "Fail if any run is stale.")


def main() -> None:
  """Reports the study that --study names."""
  if not _STUDY.value:
    raise InputError("which study? --study=runs/glyphs_compare, for example.")
  stale = cli.report(Path(_STUDY.value))
  if _STRICT.value and stale:
    raise InputError(
      f"{len(stale)} runs of {_STUDY.value} no longer match their configs:"
      f" {', '.join(stale)}. Delete their folders, and give the command that"
      " made the study again."
    )


if __name__ == "__main__":
  cli.run(main, __doc__)
