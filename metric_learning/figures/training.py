"""Training curves: the log of the first run of each cell."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from metric_learning.evaluation import heading as name_of
from metric_learning.figures.chosen import chosen_runs, loss_of, losses_of
from metric_learning.figures.style import (
  heading,
  legend_below,
  line_styles,
  panels,
  styled,
)
from metric_learning.study.results import Study
from metric_learning.study.table_lines import in_words
from metric_learning.training import run_files

# The most points drawn of a log; longer logs are thinned.
_MOST = 400


class _Panel(NamedTuple):
  """A panel: its title, and the names under which its value may be logged."""

  title: str
  names: Sequence[str]


def _panels(select: str) -> list[_Panel]:
  return [
    _Panel("loss, in its own units", ("train/loss",)),
    _Panel(
      "active fraction", ("train/active_fraction", "train/0/active_fraction")
    ),
    _Panel(
      "effective rank, validation", ("validation/geometry/effective_rank",)
    ),
    _Panel(f"{name_of(select)}, validation", (f"validation/{select}",)),
  ]


@styled
def training_curves(study: Study) -> Figure | None:
  """Loss, active fraction, effective rank and validation score by step.

  Each line is the first run of a cell at its chosen setting. If there are more
  than eight cells, only the eight with the best validation scores are drawn.
  Returns None if no run has a log.
  """
  logs = [
    (cell, run_files.read_metrics(run.folder))
    for cell, run in chosen_runs(study)
  ]
  contents = [
    panel
    for panel in _panels(study.config["eval"]["select"])
    if any(name in r for _, log in logs for r in log for name in panel.names)
  ]
  if not contents:
    return None
  last = max(record["step"] for _, log in logs for record in log)
  figure, axes = panels(
    [panel.title for panel in contents], height=1.9, columns=2, narrowest=4.5
  )
  losses = [loss_of(study, cell.name) for cell, _ in logs]
  looks = line_styles(losses, losses_of(study))
  for axis, panel in zip(axes, contents, strict=True):
    for (_, log), look in zip(logs, looks, strict=True):
      _draw(axis, log, panel.names, look)
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_xlim(0, 1.02 * last)  # also where a panel has a single point
    axis.grid(color="0.9", linewidth=0.6)
  if contents[0].names == ("train/loss",) and _is_positive(axes[0]):
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes[0].yaxis.set_minor_formatter(NullFormatter())
  titles = [in_words(cell.name) or "the one cell" for cell, _ in logs]
  legend_below(
    figure,
    {
      title: Line2D([], [], **look)
      for title, look in zip(titles, looks, strict=True)
    },
  )
  heading(figure, "Training of the first run of each cell")
  return figure


def _draw(
  axis: Axes,
  log: Sequence[dict[str, Any]],
  names: Sequence[str],
  look: dict[str, Any],
) -> None:
  points = [
    (record["step"], record[name])
    for record in log
    for name in names
    if name in record
  ]
  if not points:
    return
  points = points[:: -(-len(points) // _MOST)]
  # A line of one point is visible only by its marker.
  every = 1 if len(points) == 1 else (0.1, 0.3)
  axis.plot(*np.array(points).T, **look, markersize=3, markevery=every)


def _is_positive(axis: Axes) -> bool:
  values = [np.asarray(line.get_ydata(), float) for line in axis.lines]
  return bool(values) and all((v > 0).all() for v in values)
