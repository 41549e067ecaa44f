"""Selects the cells of a study to draw, and one run for each of them."""

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
  """The cells to draw, in the order of the study, each with its first run.

  That run is the first seed of the first fold at the chosen setting, among the
  runs for which `is_drawn` holds. A cell without such a run is left out. If
  there are more than eight cells, only the eight with the best validation
  scores are drawn.
  """
  candidates = []
  for cell in study.cells:
    runs = [run for run in cell.chosen.runs if is_drawn(run)]
    if runs:
      # Reversed, so that runs are sorted by fold, then by seed.
      first = min(runs, key=lambda run: run.replicate[::-1])
      candidates.append((cell, first))
  best = sorted(candidates, key=lambda pair: _rank(study, pair[0]))
  return [pair for pair in candidates if pair in best[:MOST_PANELS]]


def losses_of(study: Study) -> list[str]:
  """The losses of a study, in the order in which figures color them.

  The losses of the drawn cells come first, so that no two of them share a
  color.
  """
  cells = [*(cell for cell, _ in chosen_runs(study)), *study.cells]
  return list(dict.fromkeys(loss_of(study, cell.name) for cell in cells))


def loss_of(study: Study, name: Mapping[str, Any]) -> str:
  """The loss in the name of a cell; the study's loss if the name has none."""
  return str(name.get("loss.name", study.config["loss"]["name"]))


def best_run(study: Study) -> tuple[Cell, Run] | None:
  """The cell that is best on validation, and its first run."""
  pairs = chosen_runs(study)
  return min(pairs, key=lambda pair: _rank(study, pair[0]), default=None)


def _rank(study: Study, cell: Cell) -> tuple[bool, float]:
  """A sort key of a cell: the best validation score first, NaN last."""
  sign = 1 if lower_is_better(study.config["eval"]["select"]) else -1
  mean = cell.chosen.validation.mean
  return not np.isfinite(mean), sign * mean
