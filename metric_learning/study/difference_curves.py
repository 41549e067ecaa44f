"""Two metrics at equal hyperparameters: curves of their difference.

In a study with config.study.choose=False, cells are compared at equal
hyperparameters. The comparisons of a loss then form a curve along its margin or
temperature. There are two readings, which treat the learning rates (the same
for both sides) differently:

- "equal": the mean over rates of the difference at equal rate; nothing is
  chosen.
- "own": for each seed, each side has the rate with its best validation score.
  The interval over seeds thus includes the variation of this choice.

All points of both readings form one family.
"""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metric_learning.evaluation import lower_is_better
from metric_learning.losses import LOSSES
from metric_learning.study.compared_with import Name, pairs_with_reference
from metric_learning.study.multiple import simultaneous_t
from metric_learning.study.ranges import FACTORS, RATE
from metric_learning.study.results import Study, by_unit
from metric_learning.study.runs import Run
from metric_learning.study.statistics import (
  Comparison,
  Interval,
  compare,
  standard_error,
)

EQUAL, OWN = READINGS = ("equal", "own")


class Point(NamedTuple):
  """A point of a curve: one value of the hyperparameter.

  scores: the mean scores of the cell and of its reference.
  rates: for each side, how many seeds chose each rate; empty for "equal".
  judged: the test of the difference. Its interval holds simultaneously with
    those of the other points of the curve; p is corrected for all curves.
  """

  value: float
  scores: tuple[float, float]
  rates: tuple[Mapping[float, int], Mapping[float, int]]
  judged: Comparison


class Curve(NamedTuple):
  """The difference between a cell and its reference along a hyperparameter.

  name, reference: the fields of both without hyperparameters.
  field: the hyperparameter, such as "loss.margin".
  """

  name: Name
  reference: Name
  column: str
  field: str
  reading: str
  points: Sequence[Point]


# The runs of one side at one value of the hyperparameter, grouped by the other
# numbers.
_Side = Mapping[str, list[Run]]


class _Found(NamedTuple):
  """A point before it is judged: the difference of each unit, NaN for a gap."""

  value: float
  scores: tuple[float, float]
  rates: tuple[Mapping[float, int], Mapping[float, int]]
  differences: dict[Any, float]


def difference_curves(study: Study) -> list[Curve]:
  """All curves of a scored study whose cells are compared at equal numbers.

  Empty if the study chooses numbers on validation. A curve follows the first
  number of the loss that varies. A unit that lost a needed run has no
  difference, and the point is not tested: the remaining units would be a biased
  selection.
  """
  if study.compared["choose"]:
    return []
  unjudged = [
    (
      Curve(name, reference, column, field, reading, ()),
      _points(study, (name, reference), field, column, reading),
    )
    for name, reference, field in _pairs(study)
    for column in study.compared["columns"]
    for reading in READINGS
  ]
  judged = iter(
    compare(
      [point.differences for _, points in unjudged for point in points],
      study.compared["delta"],
      [
        lower_is_better(curve.column)
        for curve, points in unjudged
        for _ in points
      ],
    )
  )
  return [
    curve._replace(
      points=_judged(points, list(itertools.islice(judged, len(points))))
    )
    for curve, points in unjudged
  ]


def _judged(
  points: Sequence[_Found], judged: Sequence[Comparison]
) -> list[Point]:
  """The points of a curve, with simultaneous intervals."""
  values = [np.array([*point.differences.values()]) for point in points]
  whole = [x for x in values if np.isfinite(x).all()]
  factor = simultaneous_t(np.array(whole)) if whole else float("nan")
  done = []
  for point, x, one in zip(points, values, judged, strict=True):
    mean, half = one.difference.mean, factor * standard_error(x)
    interval = Interval(mean, mean - half, mean + half, len(x))
    one = one._replace(difference=interval)
    done.append(Point(point.value, point.scores, point.rates, one))
  return done


def _is_number(field: str, name: Name, study: Study) -> bool:
  """Whether a field of a cell is a number that does not select code."""
  loss = LOSSES[name.get("loss.name", study.config["loss"]["name"])]
  option = field.removeprefix("loss.")
  return field in (RATE, *FACTORS) or (
    option != field and option in loss.hyper and option not in loss.static
  )


def _parts(name: Name, study: Study) -> tuple[Name, Name]:
  """A cell without its numbers, and the numbers."""
  numbers = {k: v for k, v in name.items() if _is_number(k, name, study)}
  return {k: v for k, v in name.items() if k not in numbers}, numbers


def _pairs(study: Study) -> list[tuple[Name, Name, str]]:
  """Each cell and its reference without numbers, and the varying number."""
  grouped: dict[str, tuple[Name, Name, list[Name]]] = {}
  for name, twin in pairs_with_reference(
    study.names, study.compared["reference"]
  ):
    plain, numbers = _parts(name, study)
    reference, _ = _parts(twin, study)
    key = json.dumps([plain, reference], sort_keys=True)
    grouped.setdefault(key, (plain, reference, []))[2].append(numbers)
  pairs = []
  for plain, reference, points in grouped.values():
    for field in points[0]:
      if field.startswith("loss.") and len({p.get(field) for p in points}) > 1:
        pairs.append((plain, reference, field))
        break
  return pairs


def _points(
  study: Study, pair: tuple[Name, Name], field: str, column: str, reading: str
) -> list[_Found]:
  """The points of a curve, in rising order of the number."""
  lower = lower_is_better(study.config["eval"]["select"])
  sides = [_sides(study, name, field) for name in pair]
  scored, chosen = {}, {}
  for value in sorted(sides[0].keys() & sides[1].keys()):
    own = [_chosen(side[value], lower) for side in sides]
    chosen[value] = own if reading == OWN else [[], []]
    scored[value] = [
      _scores({"": runs} if reading == OWN else side[value], column)
      for side, runs in zip(sides, own, strict=True)
    ]
  units = sorted({u for both in scored.values() for one in both for u in one})
  nothing = float("nan")
  return [
    _Found(
      value,
      (_mean(cell), _mean(reference)),
      (_rates(chosen[value][0]), _rates(chosen[value][1])),
      {u: cell.get(u, nothing) - reference.get(u, nothing) for u in units},
    )
    for value, (cell, reference) in scored.items()
  ]


def _mean(scores: Mapping[Any, float]) -> float:
  return float(np.mean([*scores.values()])) if scores else float("nan")


def _sides(study: Study, plain: Name, field: str) -> dict[float, _Side]:
  """The runs of a cell, by the varying number and by all other numbers."""
  runs = {
    json.dumps(cell.name, sort_keys=True): cell.chosen.runs
    for cell in study.cells
  }
  sides: dict[float, dict[str, list[Run]]] = {}
  for name in study.names:
    rest, numbers = _parts(name, study)
    if rest == plain:
      value = numbers.pop(field)
      own = runs.get(json.dumps(name, sort_keys=True), [])
      sides.setdefault(value, {})[json.dumps(numbers, sort_keys=True)] = own
  return {**sides}


def _chosen(side: _Side, lower: bool) -> list[Run]:
  """For each seed, the run with the best validation score."""
  sign = 1 if lower else -1
  best: dict[Any, Run] = {}
  for run in sorted(
    (run for group in side.values() for run in group),
    key=lambda run: sign * run.result["validation_selected"][_select(run)],
  ):
    best.setdefault(run.replicate, run)
  return [best[replicate] for replicate in sorted(best)]


def _select(run: Run) -> str:
  return run.spec.config.eval.select


def _scores(side: _Side, column: str) -> dict[Any, float]:
  """For each unit that is in all lists, the mean of its scores."""
  each = [
    by_unit(runs, lambda run: run.tested.selected[column])
    for runs in side.values()
  ]
  units = set.intersection(*map(set, each))
  return {u: float(np.mean([one[u] for one in each])) for u in sorted(units)}


def _rates(runs: Sequence[Run]) -> Mapping[float, int]:
  rates = [
    run.spec.overrides[RATE] for run in runs if RATE in run.spec.overrides
  ]
  return dict(sorted(Counter(rates).items()))
