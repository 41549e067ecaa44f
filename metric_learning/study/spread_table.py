"""The table of spread by source, and the cost of searches."""

import numpy as np

from metric_learning.evaluation import heading
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study
from metric_learning.study.runs import HALVED_SEARCHES
from metric_learning.study.spread import searched_cells, spread_of
from metric_learning.study.table_lines import in_words


def spread_table(study: Study) -> str:
  """The spread of the scores of each cell with several searches, if any."""
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
    "Standard deviations of the test score of one final run, by source, with "
    "the share of each source in the variance: another search; another seed "
    "with the same setting; other test classes (from random halves of the "
    "classes, with the gallery halved too, in the first "
    f"{HALVED_SEARCHES} searches). A negative estimate for searches is shown "
    "as 0. The last column is the standard deviation over folds of the "
    "validation score of the chosen setting. All searches and cells share the "
    "test classes."
  )
  return f"\n{as_markdown(heads, lines)}\n\n{note}\n"


def _deviation(value: float) -> str:
  return f"{value:.4f}" if np.isfinite(value) else "–"


def _with_share(value: float, share: float) -> str:
  if not np.isfinite(value):
    return "–"
  return f"{value:.4f} ({share:.0%})"


def cost_note(study: Study) -> list[str]:
  """The cost of the searches of each cell; empty without several searches.

  Every cell has the same number of planned runs. Time is training time.
  """
  cells, tune = searched_cells(study), study.tune
  if not cells or "searches" not in tune:
    return []
  again = tune["finalists"] * tune["repeats"] * tune["folds"]
  each = tune["trials"] * tune["folds"] + again + tune["final_seeds"]
  note = (
    f"each cell has {tune['searches']} searches of {tune['trials']} trials on"
    f" {tune['folds']} folds"
  )
  if again:
    note += (
      f", the best {tune['finalists']} of each {tune['repeats']} times more on"
      " other folds with other seeds"
    )
  of_searches = [sum(e["seconds"] for e in cell.searches) for cell in cells]
  note += (
    f", and {tune['final_seeds']} final runs: {tune['searches'] * each} runs;"
    f" the searches of a cell trained for {min(of_searches) / 60:.1f} to"
    f" {max(of_searches) / 60:.1f} minutes"
  )
  return [note]
