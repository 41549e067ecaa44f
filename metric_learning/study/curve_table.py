"""The table of differences at equal margins; see `difference_curves`."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from metric_learning.evaluation import heading
from metric_learning.losses import LOSSES
from metric_learning.study.difference_curves import EQUAL, OWN, Curve, Point
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study
from metric_learning.study.statistics import LEVEL, UNITS_NEEDED
from metric_learning.study.table_lines import UNITS, Line, in_words, short

_HEADS = ["", "compared with", "score", "at", "means at own rates", "own rates"]
_JUDGED = ("p (family)", "verdict")


def number_unit(curve: Curve, study: Study) -> str:
  """The unit of the hyperparameter of a curve; empty if it is absolute."""
  unit = curve.name.get("margin_unit", study.config["margin_unit"])
  loss = curve.name.get("loss.name", study.config["loss"]["name"])
  power = LOSSES[loss].scaled.get(curve.field.removeprefix("loss."))
  return UNITS[power] if power and unit == "initial_mean" else ""


def curve_table(study: Study, curves: Sequence[Curve]) -> str:
  """A line for each value of the hyperparameter, with both readings and notes.

  The curves come from `difference_curves`.
  """
  heads = [*_HEADS, "difference at own rates", *_JUDGED]
  heads += ["at equal rates", *_JUDGED]
  lines = []
  for _, group in itertools.groupby(curves, _side_by_side):
    readings = {curve.reading: curve for curve in group}
    own, equal = readings[OWN], readings[EQUAL]
    unit = number_unit(own, study)
    for point, even in zip(own.points, equal.points, strict=True):
      lines.append(
        [
          in_words(own.name),
          in_words(own.reference),
          heading(own.column),
          f"{short(own.field)} {point.value:g} {unit}".strip(),
          " and ".join(f"{score:.3f}" for score in point.scores),
          " and ".join(map(_counted, point.rates)),
          *_texts(point),
          *_texts(even),
        ]
      )
  return f"{as_markdown(heads, lines)}\n\n{_meaning(study, curves)}"


def _side_by_side(curve: Curve) -> str:
  return repr(curve._replace(reading="", points=()))


def _counted(rates: Mapping[float, int]) -> str:
  return ", ".join(f"{rate:g} ×{n}" for rate, n in rates.items()) or "–"


def _texts(point: Point) -> list[str]:
  judged = point.judged
  mean, low, high, _ = judged.difference
  difference = "–" if not np.isfinite(mean) else f"{mean:+.3f}"
  if np.isfinite(low):
    difference += f" [{low:+.3f}, {high:+.3f}]"
  tested = judged.is_tested
  p = f"{judged.corrected:.4f}" if tested else "–"
  return [difference, p, judged.verdict]


def _meaning(study: Study, curves: Sequence[Curve]) -> str:
  points = [point.judged for curve in curves for point in curve.points]
  units = max(one.difference.n for one in points)
  text = (
    "Own rates: for each seed, each side takes the learning rate whose run "
    f"has the better {study.config['eval']['select']} on validation, so that "
    "the interval includes the variation of this choice; ×n: n seeds chose "
    "this rate. Equal rates: the mean over learning rates of the difference "
    f"at equal rate; nothing is chosen. Differences are paired, n = {units}. [ "
    "] is a simultaneous 95 % interval for all values of a curve, from the 95 "
    "% quantile of the largest |t| when the signs of all deviations from the "
    "means are flipped together."
  )
  if not any(one.is_tested for one in points):
    return f"{text} A test needs {UNITS_NEEDED} units; here are fewer."
  return text + (
    f" p (family) is corrected for all {len(points)} points of the table in "
    "both readings by the step-down maximum test. No difference: two "
    "one-sided t-tests show that the difference is inside "
    f"±{study.compared['delta']:g}, corrected by Holm over the same family; "
    f"else better or worse: p (family) ≤ {LEVEL:g}; else unresolved."
  )


def curve_lines(curves: Sequence[Curve]) -> list[Line]:
  """All numbers of all points."""
  return [
    {
      "name": in_words(curve.name),
      "reference": in_words(curve.reference),
      "score": curve.column,
      "field": curve.field,
      "value": point.value,
      "rates": curve.reading,
      "mean": point.scores[0],
      "reference mean": point.scores[1],
      "rates of the cell": _counted(point.rates[0]),
      "rates of the reference": _counted(point.rates[1]),
      "difference": point.judged.difference,
      "n": point.judged.difference.n,
      "p (family)": point.judged.corrected,
      "p (equal)": point.judged.equal,
      "verdict": point.judged.verdict,
    }
    for curve in curves
    for point in curve.points
  ]
