"""Pictures from files: PNG and SVG of finished runs and studies.

Nothing here trains, and nothing here needs the images, except a strip of
neighbors.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from metric_learning.evaluation import lower_is_better
from metric_learning.figures.curves import tuning_curves
from metric_learning.figures.difference_curves import curves_of_differences
from metric_learning.figures.histograms import distance_histograms
from metric_learning.figures.identification import identification_curves
from metric_learning.figures.maps import embedding_maps
from metric_learning.figures.neighbors import confusion, neighbor_strip
from metric_learning.figures.potentials import pair_potentials
from metric_learning.figures.roc import roc_curves
from metric_learning.figures.spaces import (
  Space,
  finished_runs,
  is_finished,
  read_space,
)
from metric_learning.figures.style import save
from metric_learning.figures.verdicts import (
  budget_curves,
  differences,
  spread_by_source,
)
from metric_learning.study.results import Cell, Study, check_scored
from metric_learning.study.runs import Run
from metric_learning.study.table_lines import in_words

__all__ = [
  "FIGURES",
  "Drawing",
  "Space",
  "budget_curves",
  "confusion",
  "curves_of_differences",
  "differences",
  "distance_histograms",
  "draw_study",
  "embedding_maps",
  "finished_runs",
  "identification_curves",
  "neighbor_strip",
  "pair_potentials",
  "read_space",
  "roc_curves",
  "save",
  "spread_by_source",
  "tuning_curves",
]

FOLDER = "figures"
MOST_PANELS = 8


class Drawing(NamedTuple):
  """A figure of a study.

  draw: gives the figure, or None where there is nothing to draw.
  takes: "spaces", those that are drawn and their part; "study", a scored one;
    or "nothing".
  """

  draw: Callable[..., Figure | None]
  takes: Literal["spaces", "study", "nothing"]


# A new figure is its function and one entry.
FIGURES = {
  "maps": Drawing(embedding_maps, "spaces"),
  "histograms": Drawing(distance_histograms, "spaces"),
  "roc": Drawing(roc_curves, "spaces"),
  "identification": Drawing(identification_curves, "spaces"),
  "curves": Drawing(tuning_curves, "study"),
  "differences": Drawing(differences, "study"),
  "difference_curves": Drawing(curves_of_differences, "study"),
  "spread": Drawing(spread_by_source, "study"),
  "budget": Drawing(budget_curves, "study"),
  "potentials": Drawing(pair_potentials, "nothing"),
}


def draw_study(study: Study, part: str = "test") -> list[Path]:
  """Draws what applies to a study into its folder `figures`.

  Spaces are those of one run of each cell at its chosen setting: of the first
  fold, the first seed; of more than eight cells, the eight that are best on
  validation. A cell without a finished run is left out.

  Raises:
    InputError: if the study is not scored; see `study.score_chosen`.
  """
  check_scored(study)
  spaces = [
    read_space(run.folder, part, in_words(cell.name) or None)
    for cell, run in _chosen_runs(study)
  ]
  given = {"spaces": (spaces, part), "study": (study,), "nothing": ()}
  figures = {
    name: drawing.draw(*given[drawing.takes])
    for name, drawing in FIGURES.items()
    if spaces or drawing.takes != "spaces"
  }
  return _save_all(study.folder / FOLDER, figures)


def _save_all(folder: Path, figures: Mapping[str, Figure | None]) -> list[Path]:
  return [
    path
    for name, figure in figures.items()
    if figure is not None
    for path in save(figure, folder / name)
  ]


def _chosen_runs(study: Study) -> list[tuple[Cell, Run]]:
  """The cells that are drawn, in their order, each with its first run."""
  found = []
  for cell in study.cells:
    runs = [run for run in cell.chosen.runs if is_finished(run.folder)]
    if runs:
      first = min(runs, key=lambda run: run.replicate[::-1])  # the fold first
      found.append((cell, first))
  sign = 1 if lower_is_better(study.config["eval"]["select"]) else -1

  def rank(pair: tuple[Cell, Run]) -> tuple[bool, float]:
    mean = pair[0].chosen.validation.mean
    return not np.isfinite(mean), sign * mean  # NaN last

  best = sorted(found, key=rank)
  return [pair for pair in found if pair in best[:MOST_PANELS]]
