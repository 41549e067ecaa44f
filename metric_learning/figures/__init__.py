"""Pictures from files: PNG and SVG of finished runs and studies.

Nothing here trains, and nothing here needs the images, except a strip of
neighbours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from metric_learning.evaluation import lower_is_better
from metric_learning.figures.curves import tuning_curves
from metric_learning.figures.histograms import distance_histograms
from metric_learning.figures.laws import pair_laws
from metric_learning.figures.maps import embedding_maps
from metric_learning.figures.neighbours import confusion, neighbour_strip
from metric_learning.figures.roc import roc_curves
from metric_learning.figures.spaces import (
  Space,
  finished_runs,
  is_finished,
  read_space,
)
from metric_learning.figures.style import save
from metric_learning.study.results import Cell, Study, check_scored
from metric_learning.study.runs import Run
from metric_learning.study.table_lines import in_words

__all__ = [
  "Space",
  "confusion",
  "distance_histograms",
  "draw_run",
  "draw_study",
  "embedding_maps",
  "finished_runs",
  "neighbour_strip",
  "pair_laws",
  "read_space",
  "roc_curves",
  "save",
  "tuning_curves",
]

FIGURES = "figures"
MOST_PANELS = 8


def draw_study(study: Study, part: str = "test") -> list[Path]:
  """Draws what applies to a study into its folder `figures`.

  maps, histograms and roc show one run of each cell at its chosen setting: of
  the first fold, the first seed; of more than eight cells, the eight that are
  best on validation. curves is there if a number was tuned, laws always. A
  cell without a finished run is left out.

  Raises:
    InputError: if the study is not scored; see `study.score_chosen`.
  """
  check_scored(study)
  spaces = [
    read_space(run.folder, part, in_words(cell.name) or None)
    for cell, run in _chosen_runs(study)
  ]
  figures = _draw_spaces(spaces, part) if spaces else {}
  curves = tuning_curves(study)
  if curves is not None:
    figures["curves"] = curves
  figures["laws"] = pair_laws()
  return _save_all(study.folder / FIGURES, figures)


def draw_run(folder: str | Path, part: str = "validation") -> list[Path]:
  """Draws map, histogram and ROC of one run into its folder `figures`.

  Of validation classes, unless told otherwise: looking is choosing.

  Raises:
    InputError: if the run is not finished, or for an unknown part.
  """
  space = read_space(folder, part)
  return _save_all(Path(folder) / FIGURES, _draw_spaces([space], part))


def _draw_spaces(spaces: Sequence[Space], part: str) -> dict[str, Figure]:
  return {
    "maps": embedding_maps(spaces, part),
    "histograms": distance_histograms(spaces, part),
    "roc": roc_curves(spaces, part),
  }


def _save_all(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
  return [
    path
    for name, figure in figures.items()
    for path in save(figure, folder / name)
  ]


def _chosen_runs(study: Study) -> list[tuple[Cell, Run]]:
  """The cells that are drawn, in their order, each with its first run."""
  found = []
  for cell in study.cells:
    runs = [run for run in cell.chosen.runs if is_finished(run.folder)]
    if runs:
      found.append((cell, min(runs, key=_replicate)))
  sign = 1 if lower_is_better(study.config["eval"]["select"]) else -1

  def rank(pair: tuple[Cell, Run]) -> tuple[bool, float]:
    mean = pair[0].chosen.validation.mean
    return not np.isfinite(mean), sign * mean  # NaN last

  best = sorted(found, key=rank)
  return [pair for pair in found if pair in best[:MOST_PANELS]]


def _replicate(run: Run) -> tuple[int, int]:
  config = run.spec.config
  return config.data.fold, config.seed
