"""Simulates studies of losses, to choose the test before any table is made.

python -m experiments.power

Every simulated study has a reference cell and 150 others, of which the first 10
to 150 are a family. The score of a cell in search k is its mean, plus what the
searches of that number share, plus what that search of that cell drew, plus the
mean over the final runs of what their seeds gave, plus what the test classes
add to that cell, the same in all its searches. The spreads are those measured
on glyphs (results/glyphs.md). Reported are the share of families with any false
verdict, and the share of true differences that were found with their sign.

Writes power.md into --folder. It takes minutes on one core.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from experiments.power.page import page
from experiments.power.simulation import simulate_all
from metric_learning.training import run_files

_FOLDER = cli.define_path("folder", "results", "Where the page goes.")
_STUDIES = flags.DEFINE_integer("studies", 500, "Simulated for each line.", 1)


def main() -> None:
  """Simulates, and writes the page."""
  found = simulate_all(_STUDIES.value)
  text = page({**found, "commit": run_files.commit()})
  (Path(_FOLDER.value) / "power.md").write_text(text)
  print(text)


if __name__ == "__main__":
  cli.run(main, __doc__)
