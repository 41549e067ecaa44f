"""Comparisons of the cells of a study with their references."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metric_learning.evaluation import class_bootstrap, lower_is_better
from metric_learning.study.compared_with import Name, pairs_with_reference
from metric_learning.study.results import (
  Cell,
  Setting,
  Study,
  by_unit,
)
from metric_learning.study.runs import Run
from metric_learning.study.spread import mean_in_halves
from metric_learning.study.statistics import Comparison, compare, t_interval


class Compared(NamedTuple):
  """A comparison of a cell with its reference in one column.

  over_classes: the 95 % interval of the difference over test classes. With
    several searches it comes from `_in_halves`, otherwise from resampling
    classes, if each class has one score in every run.
  """

  name: Name
  reference: Name
  column: str
  judged: Comparison
  over_classes: tuple[float, float] | None


def compare_cells(study: Study) -> list[Compared]:
  """All comparisons of a study, judged as one family.

  Runs at the chosen settings are paired by seed and fold, and searches by
  number. A cell without runs counts in the family and has no verdict.
  """
  pairs = pairs_with_reference(study.names, study.compared["reference"])
  named = [
    (column, name, reference)
    for column in study.compared["columns"]
    for name, reference in pairs
  ]
  chosen = [
    (_chosen(study.cells, name), _chosen(study.cells, reference))
    for _, name, reference in named
  ]
  runs = [_paired(own.runs, theirs.runs) for own, theirs in chosen]
  family = [
    _differences(*both, column)
    for (column, *_), both in zip(named, runs, strict=True)
  ]
  lower = [lower_is_better(column) for column, *_ in named]
  judged = [
    _with_lost(one, *both)
    for one, both in zip(
      compare(family, study.compared["delta"], lower), chosen, strict=True
    )
  ]
  return [
    Compared(
      name,
      reference,
      column,
      one,
      _in_halves(*both, column) or _over_classes(*both, column),
    )
    for (column, name, reference), both, one in zip(
      named, runs, judged, strict=True
    )
  ]


def in_pairs(study: Study, field: str, value: str, reference: str) -> Study:
  """The study with other pairs: cells of one value against another value.

  Only cells with one of the two values of the field remain. Each cell with the
  first value is compared with the otherwise identical cell with the second.
  These comparisons are a family of their own, written to their own folder.

  Raises:
    InputError: for a field or value that no cell has.
  """
  pairs_with_reference(study.names, {field: reference})
  pairs_with_reference(study.names, {field: value})
  has_value = lambda name: name.get(field) in (value, reference)
  return study._replace(
    folder=study.folder / f"{field}={value},{reference}",
    cells=[cell for cell in study.cells if has_value(cell.name)],
    names=[name for name in study.names if has_value(name)],
    given_up=[entry for entry in study.given_up if has_value(entry["cell"])],
    compared={**study.compared, "reference": {field: reference}},
  )


def _chosen(cells: Sequence[Cell], name: Name) -> Setting:
  settings = [cell.chosen for cell in cells if cell.name == name]
  return settings[0] if settings else Setting({}, [], t_interval([]))


def _with_lost(
  judged: Comparison, own: Setting, reference: Setting
) -> Comparison:
  """The comparison, without a verdict that lost runs could change.

  Lost runs count against their cell: a cell that lost runs can be called worse,
  but not better or equal.
  """
  lost = []
  for setting, of, unaffected in (
    (own, "", "worse"),
    (reference, " of the reference", "better"),
  ):
    if judged.verdict != unaffected:
      count = len(setting.runs) + setting.diverged + setting.unscored
      lost += [
        f"{number} of {count} runs{of} {what}"
        for number, what in (
          (setting.diverged, "diverged"),
          (setting.unscored, "without a score"),
        )
        if number
      ]
      if setting.unchosen:
        lost.append(f"{setting.unchosen} searches{of} chose nothing")
  if not (lost and judged.is_tested):
    return judged
  return judged._replace(verdict=f"unresolved: {', '.join(lost)}")


def _paired(
  runs: Sequence[Run], others: Sequence[Run]
) -> tuple[list[Run], list[Run]]:
  """The runs of both cells, paired by seed and fold."""
  both = {run.replicate for run in runs} & {run.replicate for run in others}
  kept = lambda some: [run for run in some if run.replicate in both]
  return kept(runs), kept(others)


def _differences(
  runs: Sequence[Run], others: Sequence[Run], column: str
) -> dict[Any, float]:
  def value(run: Run) -> float:
    return run.tested.selected[column]

  own, theirs = by_unit(runs, value), by_unit(others, value)
  return {unit: own[unit] - theirs[unit] for unit in own}


def _in_halves(
  runs: Sequence[Run], others: Sequence[Run], column: str
) -> tuple[float, float] | None:
  """The 95 % interval of a difference over test classes and their gallery.

  The mean difference ± 1.96 times its standard deviation over random halves of
  the classes; None if runs were not scored in halves.
  """
  own, theirs = mean_in_halves(runs, column), mean_in_halves(others, column)
  if own is None or theirs is None:
    return None
  differences = _differences(runs, others, column)
  mean = float(np.mean([*differences.values()]))
  half = 1.96 * float(np.std(own - theirs, ddof=1))
  return mean - half, mean + half


def class_interval(
  runs: Sequence[Run], column: str
) -> tuple[float, float] | None:
  """The bootstrap interval over test classes of the mean score of runs.

  Classes of all folds are resampled; a class that is tested in several folds is
  drawn with its queries in all of them. None if the runs of a fold do not share
  their test queries, or if the score is not a mean over queries.
  """
  return _over_classes(runs, [], column)


def _over_classes(
  runs: Sequence[Run], others: Sequence[Run], column: str
) -> tuple[float, float] | None:
  own: dict[int, list[np.ndarray]] = {}
  theirs: dict[int, list[np.ndarray]] = {}
  shared: dict[int, np.ndarray] = {}
  for scored, some in ((own, runs), (theirs, others)):
    for run in some:
      values = run.tested.queries.get(column)
      classes = run.tested.classes
      if values is None or classes is None:
        return None
      fold = run.spec.config.data.fold
      if not np.array_equal(classes, shared.setdefault(fold, classes)):
        return None
      scored.setdefault(fold, []).append(values)
  if not shared:
    return None
  means = [
    np.mean(own[fold], axis=0) - np.mean(theirs.get(fold, [[0.0]]), axis=0)
    for fold in shared
  ]
  names = np.concatenate(list(shared.values()))
  _, labels = np.unique(names, return_inverse=True)
  return class_bootstrap(np.concatenate(means), labels)
