"""Verifies signatures within a medium and across media, for several studies.

python -m experiments.benchmarks.media --output=signatures.md \
  --study="conv4=runs/signatures" --study="head=runs/signatures_heads"

Each --study is a title and the folder of a sweep on `signatures`, or on
features of it, with the split "writers". The chosen runs are scored on pairs of
test signatures: both on paper, both on a phone, one on each, and all pairs; and
on pairs of one name. (Everybody writes the same ten names, each once on paper
and twice on a phone.) The inputs of each study are scored as they are, too:
pixels, or frozen features.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float, Int

from experiments import cli
from metric_learning.data.loaded import load_once
from metric_learning.data.sets.signatures import (
  PAPER,
  PHONE,
  media_of,
  names_of,
)
from metric_learning.distances import MetricName, pairwise
from metric_learning.errors import InputError
from metric_learning.evaluation import verification
from metric_learning.specs import as_numbers
from metric_learning.study import catalogue
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study
from metric_learning.study.runs import Run
from metric_learning.study.scoring import selected_arrays
from metric_learning.study.statistics import t_interval
from metric_learning.study.table_lines import in_words
from metric_learning.training import run_files

_STUDIES = flags.DEFINE_multi_string(
  "study", [], "TITLE=FOLDER, several times."
)
_OUTPUT = cli.define_path("output", "signatures.md", "The page.")


class Pairs(NamedTuple):
  """The media of the two signatures of a pair, and whether they are one name.

  Without media, a pair may be on any two.
  """

  media: tuple[int, int] | None = None
  one_name: bool = False


PAIRS = {
  "on paper": Pairs((PAPER, PAPER)),
  "on phones": Pairs((PHONE, PHONE)),
  "one name on phones": Pairs((PHONE, PHONE), one_name=True),
  "paper and phone": Pairs((PAPER, PHONE)),
  "one name on paper and phone": Pairs((PAPER, PHONE), one_name=True),
  "all": Pairs(),
}
HEADS = ("", "metric", *(f"EER, {pairs}" for pairs in PAIRS), "runs")


def main() -> None:
  """Scores the chosen runs of all studies, and writes the page."""
  cli.start_device()
  lines: list[list[str]] = []
  for title, folder in catalogue.titled(_STUDIES.value).items():
    lines += lines_of(title, cli.scored(Path(folder)))
  text = (
    "# Signatures within and across media\n\nWritten by `python -m"
    f" experiments.benchmarks.media` at commit {run_files.commit()}. ± is a 95"
    " % t-interval over the seeds of training; inputs as they are have no seed."
    f"\n\n{as_markdown(HEADS, lines)}\n"
  )
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def lines_of(title: str, study: Study) -> Iterator[list[str]]:
  """The lines of a study: its inputs as they are, then its cells.

  Raises:
    InputError: if its runs are not on one test part of whole writers.
  """
  cells = [cell for cell in study.cells if cell.chosen.runs]
  parts = {
    id(part): part
    for cell in cells
    for run in cell.chosen.runs
    for part in [load_once(run.spec.config.data).test]
  }
  if len(parts) != 1:
    raise InputError(
      f"{study.folder}: its chosen runs are on {len(parts)} test parts; give a"
      " study with finished runs, all of one split."
    )
  (test,) = parts.values()
  inputs = np.asarray(as_numbers(np.asarray(test.inputs)))
  points = inputs.reshape(len(inputs), -1)
  for metric in ("l2", "cosine"):
    scores = [eers(points, test.labels, metric)]
    yield _line(f"{title}: inputs", metric, scores)
  for cell in cells:
    runs = cell.chosen.runs
    scores = [_of_run(run) for run in runs]
    name = f"{title}: {in_words(cell.name)}"
    yield _line(name, runs[0].result["metric"], scores)


def _of_run(run: Run) -> dict[str, float]:
  arrays = selected_arrays(run)
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  return eers(points, labels, run.result["metric"])


def eers(
  points: Float[np.ndarray, "n d"],
  labels: Int[np.ndarray, " n"],
  metric: MetricName,
) -> dict[str, float]:
  """The equal error rate among pairs of these media, by `PAIRS`."""
  media = media_of(labels)
  first, second = np.triu_indices(len(labels), 1)
  rows = jnp.asarray(points)
  matrix = np.asarray(pairwise(metric, rows, rows, exact=True))
  distances = matrix[first, second]
  same = labels[first] == labels[second]
  of_name = names_of(labels)
  is_name = of_name[first] == of_name[second]
  # Unordered pairs: paper and phone is phone and paper.
  both = np.sort([media[first], media[second]], axis=0).T
  rates = {}
  for name, pairs in PAIRS.items():
    among = is_name | (not pairs.one_name)
    if pairs.media is not None:
      among &= np.all(both == pairs.media, axis=1)
    rates[name] = verification(distances[among], same[among])["eer"]
  return rates


def _line(
  name: str, metric: str, scores: Sequence[Mapping[str, float]]
) -> list[str]:
  """A line of the table; the mean over runs with its interval."""
  means = [t_interval([run[pairs] for run in scores]) for pairs in PAIRS]
  rates = [
    f"{x.mean:.3f}" + (f" ± {x.half_width:.3f}" if x.n > 1 else "")
    for x in means
  ]
  return [name, metric, *rates, str(len(scores)) if len(scores) > 1 else "–"]


if __name__ == "__main__":
  cli.run(main, __doc__)
