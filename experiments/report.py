"""Writes the tables and figures of a study from its files.

python -m experiments.report --study=runs/glyphs_compare

Scores the test classes of the chosen runs, once; trains nothing. With --strict
a run that no longer matches its config is an error, once the tables stand.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError

_STUDY = cli.define_path("study", None, "The folder of the study.")
_STRICT = flags.DEFINE_bool("strict", False, "Fail if any run is stale.")


def main() -> None:
  """Reports the study that --study names."""
  if not _STUDY.value:
    raise InputError("which study? --study=runs/glyphs_compare, for example.")
  cli.report(Path(_STUDY.value), strict=_STRICT.value)


if __name__ == "__main__":
  cli.run(main, __doc__)
