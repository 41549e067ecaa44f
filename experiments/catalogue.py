"""Writes one page about several tuned studies of the same cells.

python -m experiments.catalogue --output=results/catalogue.md \
  --study=birds=runs/catalogue_birds --study=cars=runs/catalogue_cars

Each --study is a title and a folder of experiments.tune. The page marks, for
each cell, the sets on which no other cell is shown to beat it. It also shows
how L1 and cosine change the score of each loss, and the table of each set.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from metric_learning.study import catalogue, only_here, read_study, score_chosen
from metric_learning.training import run_files

_STUDIES = flags.DEFINE_multi_string(
  "study", [], "TITLE=FOLDER, several times."
)
_OUTPUT = cli.define_path("output", "results/catalogue.md", "The page.")


def main() -> None:
  """Scores the chosen runs of each study once, and writes the page."""
  cli.start_device()
  studies = {}
  for title, folder in catalogue.titled(_STUDIES.value).items():
    with only_here(Path(folder)):
      studies[title] = score_chosen(read_study(folder))
  text = catalogue.page(studies)
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(f"Wrote {_OUTPUT.value}")


if __name__ == "__main__":
  cli.run(main, __doc__)
