"""The spread of a score over searches, seeds, folds and test classes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metric_learning.study.results import Cell, Study
from metric_learning.study.runs import Run


class Spread(NamedTuple):
  """Standard deviations of the test score of a cell with several searches.

  NaN where a source was not repeated.

  search: between searches, without the contribution of seeds.
  seed: between final runs of one search.
  classes: between draws of test classes, with their gallery.
  fold: between the folds of a stage, for the validation score of the chosen
    setting. It affects the choice of a search, but not the test score.
  """

  search: float
  seed: float
  classes: float
  fold: float

  @property
  def shares(self) -> dict[str, float]:
    """The share of each source in the variance of the test score of one run."""
    parts = {
      name: getattr(self, name) ** 2 for name in ("search", "seed", "classes")
    }
    whole = float(np.nansum([*parts.values()]))
    return {k: v / whole if whole else np.nan for k, v in parts.items()}


def components(
  values: Mapping[Any, Sequence[float]],
) -> tuple[float, float]:
  """Standard deviations between groups and within them.

  Within: the root of the mean variance of groups of two or more values.
  Between, by analysis of variance: the variance of the group means, minus the
  contribution of the variance within groups; 0 if that is negative. NaN if
  nothing is repeated.

  >>> between, within = components({0: [1.0, 3.0], 1: [5.0, 7.0]})
  >>> round(between**2, 9), round(within**2, 9)  # 8 - 2 / 2, and 2
  (7.0, 2.0)
  """
  groups = [np.asarray(group, float) for group in values.values()]
  inside = [np.var(group, ddof=1) for group in groups if len(group) > 1]
  within = float(np.mean(inside)) if inside else float("nan")
  if len(groups) < 2:
    return float("nan"), within**0.5
  means = np.var([group.mean() for group in groups], ddof=1)
  added = np.mean([1 / len(group) for group in groups]) * within
  return float(max(means - np.nan_to_num(added), 0.0)) ** 0.5, within**0.5


def mean_in_halves(
  runs: Sequence[Run], column: str
) -> Float[np.ndarray, " halves"] | None:
  """The mean over runs of the score in each half of the test classes.

  It covers the runs that were scored in halves, one of each of the first
  searches. None if there are none.
  """
  halves = [r.tested.halves[column] for r in runs if column in r.tested.halves]
  return np.mean(np.stack(halves), axis=0) if halves else None


def spread_of(cell: Cell, column: str) -> Spread:
  """The spread in one column of a cell with several searches."""
  values: dict[Any, list[float]] = {}
  for run in cell.chosen.runs:
    values.setdefault(run.search, []).append(run.tested.selected[column])
  search, seed = components(values)
  halves = mean_in_halves(cell.chosen.runs, column)
  classes = float("nan") if halves is None else float(np.std(halves, ddof=1))
  stages = [stage for entry in cell.searches for stage in entry["scores"]]
  _, fold = components(dict(enumerate(stages)))
  return Spread(search, seed, classes, fold)


def searched_cells(study: Study) -> list[Cell]:
  """The cells with several searches that have final runs."""
  return [cell for cell in study.cells if cell.searches and cell.chosen.runs]


def expected_best(
  history: Sequence[float], lower_is_better: bool = False
) -> Float[np.ndarray, " trials"]:
  """The expected best of k of n scores drawn without replacement, k ≤ n.

  E[best of k] = Σᵢ sᵢ C(i-1, k-1) / C(n, k), scores in rising order.

  >>> expected_best([1.0, 2.0, 3.0]).round(3).tolist()  # (2 + 3 + 3) / 3
  [2.0, 2.667, 3.0]

  Source: Dodge et al., EMNLP 2019, here without replacement.
  """
  sign = -1.0 if lower_is_better else 1.0
  scores = np.sort(sign * np.asarray(history, float))
  n = len(scores)
  # The share of sets of size k in which score i is the best; it grows with k.
  shares = np.full(n, 1 / max(n, 1))
  expected = []
  for k in range(1, n + 1):
    expected.append(sign * float(shares @ scores))
    i = np.arange(1, n + 1)
    grown = np.maximum(i - k, 0) / k * (k + 1) / max(n - k, 1)
    shares = shares * grown
  return np.array(expected)


def budget_curve(
  cell: Cell, lower_is_better: bool = False
) -> Float[np.ndarray, " trials"]:
  """The mean over searches of the expected best score, by number of trials.

  Trials that failed or were pruned have no score; searches with fewer scored
  trials end earlier.
  """
  curves = [
    expected_best([x for x in e["history"] if x is not None], lower_is_better)
    for e in cell.searches
  ]
  table = np.full((len(curves), max(map(len, curves))), np.nan)
  for line, values in zip(table, curves, strict=True):
    line[: len(values)] = values
  return np.nanmean(table, axis=0)
