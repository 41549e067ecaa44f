"""Two metrics at equal numbers: their difference along the loss's number.

Of a study whose cells are compared at equal numbers (config.study.choose=False)
the comparisons of a loss are a curve along its margin, or its temperature.
There are two readings of the other numbers, the learning rates, of which both
sides have the same:

- "equal": the difference at each rate, and the mean over rates; nothing is
  chosen.
- "own": each side at a rate of its own, which every seed chooses for itself by
  the validation scores of its own runs. So the choice is a part of what varies
  over seeds, and of the interval.

All points of both readings are one family.
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
  """One value of the number.

  scores: the means of the cell and of its reference.
  rates: of either, how many seeds chose each rate; empty of "equal".
  judged: of the difference. Its interval is simultaneous with those of the
    other points of the curve; p is corrected for all curves.
  """

  value: float
  scores: tuple[float, float]
  rates: tuple[Mapping[float, int], Mapping[float, int]]
  judged: Comparison


class Curve(NamedTuple):
  """The difference of a cell and its reference along a number.

  name, reference: the fields of either without their numbers.
  field: the number, such as "loss.margin".
  """

  name: Name
  reference: Name
  column: str
  field: str
  reading: str
  points: Sequence[Point]


# The runs of one side at one value of the number: lists by the other numbers.
_Side = Mapping[str, list[Run]]


class _Found(NamedTuple):
  """A point before it is judged: the difference of each unit, NaN of a gap."""

  value: float
  scores: tuple[float, float]
  rates: tuple[Mapping[float, int], Mapping[float, int]]
  differences: dict[Any, float]


def difference_curves(study: Study) -> list[Curve]:
  """Every curve of a scored study whose cells are compared at equal numbers.

  None of a study that chooses. A curve is along the first number of the loss
  that varies. A unit that lost a run where it is needed has no difference, and
  the point is not tested: the units that are left would flatter their side.
  """
  if study.compared["choose"]:
    return []
  found = [
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
      [point.differences for _, points in found for point in points],
      study.compared["delta"],
      [
        lower_is_better(curve.column) for curve, points in found for _ in points
      ],
    )
  )
  return [
    curve._replace(
      points=_judged(points, list(itertools.islice(judged, len(points))))
    )
    for curve, points in found
  ]


def _judged(
  points: Sequence[_Found], judged: Sequence[Comparison]
) -> list[Point]:
  """The points of a curve with intervals that hold together."""
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
  """Whether a field of a cell is a number, and no choice of code."""
  loss = LOSSES[name.get("loss.name", study.config["loss"]["name"])]
  option = field.removeprefix("loss.")
  return field in (RATE, *FACTORS) or (
    option != field and option in loss.hyper and option not in loss.static
  )


def _parts(name: Name, study: Study) -> tuple[Name, Name]:
  """A cell without its numbers, and these."""
  numbers = {k: v for k, v in name.items() if _is_number(k, name, study)}
  return {k: v for k, v in name.items() if k not in numbers}, numbers


def _pairs(study: Study) -> list[tuple[Name, Name, str]]:
  """Each cell and its reference without numbers, and the number that varies."""
  grouped: dict[str, tuple[Name, Name, list[Name]]] = {}
  for name, twin in pairs_with_reference(
    study.names, study.compared["reference"]
  ):
    plain, numbers = _parts(name, study)
    reference, _ = _parts(twin, study)
    key = json.dumps([plain, reference], sort_keys=True)
    grouped.setdefault(key, (plain, reference, []))[2].append(numbers)
  found = []
  for plain, reference, points in grouped.values():
    for field in points[0]:
      if field.startswith("loss.") and len({p.get(field) for p in points}) > 1:
        found.append((plain, reference, field))
        break
  return found


def _points(
  study: Study, pair: tuple[Name, Name], field: str, column: str, reading: str
) -> list[_Found]:
  """The points of a curve, by rising number."""
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
  """The runs of a cell by the number that varies, and by all other numbers."""
  runs = {
    json.dumps(cell.name, sort_keys=True): cell.chosen.runs
    for cell in study.cells
  }
  found: dict[float, dict[str, list[Run]]] = {}
  for name in study.names:
    rest, numbers = _parts(name, study)
    if rest == plain:
      value = numbers.pop(field)
      own = runs.get(json.dumps(name, sort_keys=True), [])
      found.setdefault(value, {})[json.dumps(numbers, sort_keys=True)] = own
  return {**found}


def _chosen(side: _Side, lower: bool) -> list[Run]:
  """Of each seed the run that is best on validation."""
  sign = 1 if lower else -1
  best: dict[Any, Run] = {}
  for run in sorted(
    (run for some in side.values() for run in some),
    key=lambda run: sign * run.result["validation_selected"][_select(run)],
  ):
    best.setdefault(run.replicate, run)
  return [best[replicate] for replicate in sorted(best)]


def _select(run: Run) -> str:
  return run.spec.config.eval.select


def _scores(side: _Side, column: str) -> dict[Any, float]:
  """The mean over lists of the score of each unit that all of them have."""
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
