"""The cells of a study against their reference, on test classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from metric_learning import evaluation
from metric_learning.study.references import Name, pairs_with_reference
from metric_learning.study.results import (
  Cell,
  Run,
  Study,
  by_unit,
  queries_on_test,
  replicate_of,
  scores_on_test,
)
from metric_learning.study.statistics import Comparison, compare
from metric_learning.training.recorder import lower_is_better


class Compared(NamedTuple):
  """A cell against its reference in one column.

  over_classes: the 95 % interval of the difference from resampled test
    classes, where each class has one score for every run.
  """

  name: Name
  reference: Name
  column: str
  judged: Comparison
  over_classes: tuple[float, float] | None


def compare_cells(study: Study) -> list[Compared]:
  """Every comparison that the study named, judged as one family.

  Runs at the chosen settings are paired by seed and fold. A cell without runs
  is in the family, and nothing is said of it.
  """
  pairs = pairs_with_reference(study.names, study.compared["reference"])
  named = [
    (column, name, reference)
    for column in study.compared["columns"]
    for name, reference in pairs
  ]
  runs = [
    _paired(_runs_of(study.cells, name), _runs_of(study.cells, reference))
    for _, name, reference in named
  ]
  family = [
    _differences(*both, column)
    for (column, *_), both in zip(named, runs, strict=True)
  ]
  lower = [lower_is_better(column) for column, *_ in named]
  judged = compare(family, study.compared["delta"], lower)
  return [
    Compared(name, reference, column, one, _over_classes(*both, column))
    for (column, name, reference), both, one in zip(
      named, runs, judged, strict=True
    )
  ]


def _runs_of(cells: Sequence[Cell], name: Name) -> list[Run]:
  found = [cell for cell in cells if cell.name == name]
  return found[0].chosen.runs if found else []


def _paired(
  runs: Sequence[Run], others: Sequence[Run]
) -> tuple[list[Run], list[Run]]:
  """The runs of either cell whose seed and fold both cells have."""
  both = {replicate_of(run) for run in runs} & {
    replicate_of(run) for run in others
  }
  kept = lambda some: [run for run in some if replicate_of(run) in both]
  return kept(runs), kept(others)


def _differences(
  runs: Sequence[Run], others: Sequence[Run], column: str
) -> Float[np.ndarray, " units"]:
  def value(run: Run) -> float:
    return scores_on_test(run)["selected"][column]

  own, theirs = by_unit(runs, value), by_unit(others, value)
  return np.array([own[unit] - theirs[unit] for unit in own])


def class_interval(
  runs: Sequence[Run], column: str
) -> tuple[float, float] | None:
  """Bootstrap interval over test classes of the mean score of some runs.

  None if the runs do not share their test queries, or the score is no mean
  over queries.
  """
  return _over_classes(runs, [], column)


def _over_classes(
  runs: Sequence[Run], others: Sequence[Run], column: str
) -> tuple[float, float] | None:
  own: list[np.ndarray] = []
  theirs: list[np.ndarray] = []
  shared = None
  for scored, some in ((own, runs), (theirs, others)):
    for run in some:
      found = queries_on_test(run, column)
      if found is None:
        return None
      values, classes = found
      shared = classes if shared is None else shared
      if not np.array_equal(classes, shared):
        return None
      scored.append(values)
  if shared is None:
    return None
  mean = np.mean(own, axis=0) - (np.mean(theirs, axis=0) if theirs else 0)
  _, labels = np.unique(shared, return_inverse=True)
  return evaluation.class_bootstrap(mean, labels)
