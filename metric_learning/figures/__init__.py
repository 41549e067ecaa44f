"""Figures drawn from the files of finished runs and studies, as PNG and SVG.

No function here trains a model, and only `neighbor_strip` needs the images.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from matplotlib.figure import Figure

from metric_learning.figures.chosen import chosen_runs, losses_of
from metric_learning.figures.curves import tuning_curves
from metric_learning.figures.difference_curves import curves_of_differences
from metric_learning.figures.histograms import distance_histograms
from metric_learning.figures.identification import identification_curves
from metric_learning.figures.maps import embedding_maps
from metric_learning.figures.neighbors import confusion, neighbor_strip
from metric_learning.figures.potentials import (
  pair_forces,
  pair_potentials,
  potentials_of,
)
from metric_learning.figures.roc import det_curves, roc_curves
from metric_learning.figures.spaces import (
  Space,
  finished_runs,
  is_finished,
  read_space,
)
from metric_learning.figures.style import FORMATS, save
from metric_learning.figures.training import training_curves
from metric_learning.figures.verdicts import (
  budget_curves,
  differences,
  spread_by_source,
)
from metric_learning.study.results import Study, check_scored
from metric_learning.study.table_lines import in_words

__all__ = [
  "FIGURES",
  "Drawing",
  "Space",
  "budget_curves",
  "confusion",
  "curves_of_differences",
  "det_curves",
  "differences",
  "distance_histograms",
  "draw_study",
  "embedding_maps",
  "finished_runs",
  "identification_curves",
  "neighbor_strip",
  "pair_forces",
  "pair_potentials",
  "potentials_of",
  "read_space",
  "roc_curves",
  "save",
  "spaces_of",
  "spread_by_source",
  "training_curves",
  "tuning_curves",
]

FOLDER = "figures"


class Drawing(NamedTuple):
  """A figure of a study.

  draw: returns the figure, or None if there is nothing to draw.
  takes: the arguments of `draw`: "spaces" for the spaces of the study and the
    name of their part, or "study" for the scored study.
  """

  draw: Callable[..., Figure | None]
  takes: Literal["spaces", "study"]


# A new figure needs its function and one entry here.
FIGURES = {
  "maps": Drawing(embedding_maps, "spaces"),
  "histograms": Drawing(distance_histograms, "spaces"),
  "roc": Drawing(roc_curves, "spaces"),
  "det": Drawing(det_curves, "spaces"),
  "identification": Drawing(identification_curves, "spaces"),
  "curves": Drawing(tuning_curves, "study"),
  "differences": Drawing(differences, "study"),
  "difference_curves": Drawing(curves_of_differences, "study"),
  "spread": Drawing(spread_by_source, "study"),
  "budget": Drawing(budget_curves, "study"),
  "training": Drawing(training_curves, "study"),
  "potentials": Drawing(potentials_of, "study"),
}


def spaces_of(study: Study, part: str = "test") -> list[Space]:
  """The spaces to draw for a study, in the order of its cells.

  Each cell is drawn by one run at its chosen setting: the first seed of the
  first fold. If there are more than eight cells, only the eight with the best
  validation scores are drawn. A cell without a finished run is left out.
  """
  losses = losses_of(study)
  return [
    read_space(run.folder, part, in_words(cell.name) or None, losses)
    for cell, run in chosen_runs(study, lambda run: is_finished(run.folder))
  ]


def draw_study(
  study: Study, part: str = "test", formats: Sequence[str] = FORMATS
) -> list[Path]:
  """Draws every figure that applies to a study into its `figures` folder.

  Raises:
    InputError: if the study is not scored; see `study.score_chosen`.
  """
  check_scored(study)
  spaces = spaces_of(study, part)
  given = {"spaces": (spaces, part), "study": (study,)}
  figures = {
    name: drawing.draw(*given[drawing.takes])
    for name, drawing in FIGURES.items()
    if spaces or drawing.takes != "spaces"
  }
  return _save_all(study.folder / FOLDER, figures, formats)


def _save_all(
  folder: Path,
  figures: Mapping[str, Figure | None],
  formats: Sequence[str],
) -> list[Path]:
  return [
    path
    for name, figure in figures.items()
    if figure is not None
    for path in save(figure, folder / name, formats)
  ]
