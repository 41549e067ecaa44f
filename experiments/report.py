"""Writes the tables, figures and page of a study from its files.

python -m experiments.report --study=runs/glyphs_compare

This scores the test classes of the chosen runs once, and trains nothing. With
--strict, runs that do not match their configs are an error after the tables are
written. The page, report.html, is one file that opens without a network.
--figures=pdf adds figures for print, with embedded fonts.
--pair=metric.name=l1,l2 compares L1 with L2, all else equal, and writes to a
subfolder.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.errors import InputError

_STUDY = cli.define_path("study", None, "The folder of the study.")
_STRICT = flags.DEFINE_bool("strict", False, "Fail if any run is stale.")
_PAIR = cli.define_pair()
_FIGURES = flags.DEFINE_enum(
  "figures", None, ["pdf"], "A format of figures besides PNG and SVG."
)


def main() -> None:
  """Reports the study that --study names."""
  if not _STUDY.value:
    raise InputError("which study? --study=runs/glyphs_compare, for example.")
  cli.start_device()
  cli.report(
    Path(_STUDY.value),
    strict=_STRICT.value,
    pair=_PAIR.value,
    formats=[_FIGURES.value] if _FIGURES.value else [],
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
