"""The table of spread by source, and what a cell of several searches cost."""

import numpy as np

from metric_learning.evaluation import heading
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study
from metric_learning.study.spread import searched_cells, spread_of
from metric_learning.study.table_lines import in_words


def spread_table(study: Study) -> str:
  """Of each cell of several searches, how far its scores move; else nothing."""
  cells = searched_cells(study)
  if not cells:
    return ""
  heads = ["", "score", "search", "seed", "test classes", "validation fold"]
  lines = []
  for column in study.compared["columns"]:
    for cell in cells:
      spread = spread_of(cell, column)
      shares = spread.shares
      lines.append(
        [
          in_words(cell.name),
          heading(column),
          *(
            _with_share(getattr(spread, name), shares[name])
            for name in ("search", "seed", "classes")
          ),
          _deviation(spread.fold),
        ]
      )
  note = (
    "Standard deviations of the test score of one final run, by source, and the"
    " share of each in its variance: another search, another seed of the same"
    " setting, other test classes (from random halves of them, the gallery"
    " halved too). An estimate for searches that is below 0 is given as 0."
    " Beside them, that of the validation score of what was chosen, over folds."
    " All searches and cells share the test classes."
  )
  return f"\n{as_markdown(heads, lines)}\n\n{note}\n"


def _deviation(value: float) -> str:
  return f"{value:.4f}" if np.isfinite(value) else "–"


def _with_share(value: float, share: float) -> str:
  if not np.isfinite(value):
    return "–"
  return f"{value:.4f} ({share:.0%})"


def cost_note(study: Study) -> list[str]:
  """What the searches of each cell took; nothing without several.

  Planned runs are the same for every cell; the seconds are those of training.
  """
  cells, tune = searched_cells(study), study.tune
  if not cells or "searches" not in tune:
    return []
  again = tune["finalists"] * tune["repeats"] * tune["folds"]
  each = tune["trials"] * tune["folds"] + again + tune["final_seeds"]
  said = (
    f"each cell has {tune['searches']} searches of {tune['trials']} trials on"
    f" {tune['folds']} folds"
  )
  if again:
    said += (
      f", the best {tune['finalists']} of each {tune['repeats']} times more on"
      " other folds with other seeds"
    )
  of_searches = [sum(e["seconds"] for e in cell.searches) for cell in cells]
  said += (
    f", and {tune['final_seeds']} final runs: {tune['searches'] * each} runs;"
    f" the searches of a cell trained for {min(of_searches) / 60:.1f} to"
    f" {max(of_searches) / 60:.1f} minutes"
  )
  return [said]
