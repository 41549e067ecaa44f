"""Which cells of a study are drawn, each by one run."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metric_learning.evaluation import lower_is_better
from metric_learning.study.results import Cell, Study
from metric_learning.study.runs import Run

MOST_PANELS = 8


def chosen_runs(
  study: Study, is_drawn: Callable[[Run], bool] = lambda run: True
) -> list[tuple[Cell, Run]]:
  """The cells that are drawn, in their order, each with its first run.

  At its chosen setting, of the first fold, the first seed. Of more than eight
  cells, the eight that are best on validation. A cell without a run that
  `is_drawn` is left out.
  """
  found = []
  for cell in study.cells:
    runs = [run for run in cell.chosen.runs if is_drawn(run)]
    if runs:
      first = min(runs, key=lambda run: run.replicate[::-1])  # the fold first
      found.append((cell, first))
  best = sorted(found, key=lambda pair: _rank(study, pair[0]))
  return [pair for pair in found if pair in best[:MOST_PANELS]]


def losses_of(study: Study) -> list[str]:
  """The losses of a study, in the order in which figures color them.

  Those of the cells that are drawn come first, so that no two of them share a
  color.
  """
  cells = [*(cell for cell, _ in chosen_runs(study)), *study.cells]
  return list(dict.fromkeys(loss_of(study, cell.name) for cell in cells))


def loss_of(study: Study, name: Mapping[str, Any]) -> str:
  """The loss of a cell with this name: its own, or that of the study."""
  return str(name.get("loss.name", study.config["loss"]["name"]))


def best_run(study: Study) -> tuple[Cell, Run] | None:
  """The cell that is best on validation, and its first run."""
  found = chosen_runs(study)
  return min(found, key=lambda pair: _rank(study, pair[0]), default=None)


def _rank(study: Study, cell: Cell) -> tuple[bool, float]:
  """Lower is better; NaN is last."""
  sign = 1 if lower_is_better(study.config["eval"]["select"]) else -1
  mean = cell.chosen.validation.mean
  return not np.isfinite(mean), sign * mean
