"""Writes the tables and figures of a study from its files.

python -m experiments.report --study=runs/glyphs_compare

Scores the test classes of the chosen runs, once; trains nothing.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError

_STUDY = flags.DEFINE_string("study", None, "The folder of the study.")


def main() -> None:
  """Reports the study that --study names."""
  if not _STUDY.value:
    raise InputError("which study? --study=runs/glyphs_compare, for example.")
  cli.report(Path(_STUDY.value))


if __name__ == "__main__":
  cli.run(main, __doc__)
