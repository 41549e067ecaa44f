"""Draws `study.difference_curves`: two metrics at equal hyperparameters."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from metric_learning.evaluation import heading as name_of
from metric_learning.figures.chosen import loss_of, losses_of
from metric_learning.figures.style import (
  BAND,
  BLACK,
  heading,
  legend_below,
  panel_styles,
  panels,
  styled,
  ticks_at,
)
from metric_learning.study.curve_table import number_unit
from metric_learning.study.difference_curves import (
  EQUAL,
  OWN,
  Curve,
  difference_curves,
)
from metric_learning.study.results import Study
from metric_learning.study.table_lines import in_words, short

_READINGS = {
  OWN: (0, "each side at its own rate"),
  EQUAL: (1, "equal rates, mean over them"),
}


@styled
def curves_of_differences(study: Study) -> Figure | None:
  """The difference against the hyperparameter of each loss.

  There is one panel for each loss and score. The colored bands are simultaneous
  intervals: they hold for all values of a curve together. The gray band holds
  the differences that the study counts as negligible. Returns None if the study
  does not compare cells at equal hyperparameters.
  """
  curves = difference_curves(study)
  if not curves:
    return None
  grouped = [
    list(group)
    for _, group in itertools.groupby(
      curves, lambda curve: repr(curve._replace(reading="", points=()))
    )
  ]
  several = len({curve.column for curve in curves}) > 1
  titles = [_title(group[0], several) for group in grouped]
  figure, axes = panels(titles, height=1.8, narrowest=4.5, sharey=True)
  order, delta = losses_of(study), study.compared["delta"]
  for axis, group in zip(axes, grouped, strict=True):
    axis.axhspan(-delta, delta, color=BAND)
    axis.axhline(0, color=BLACK, linewidth=0.6)
    looks = panel_styles(len(_READINGS), order, loss_of(study, group[0].name))
    for curve in group:
      _draw(axis, curve, looks[_READINGS[curve.reading][0]])
    _axis_of(axis, group[0], number_unit(group[0], study))
  figure.supylabel(_label(curves))
  handles: dict[str, Artist] = {
    name: Line2D([], [], **panel_styles(len(_READINGS), order)[place])
    for place, name in _READINGS.values()
  }
  handles[f"within ±{delta:g}: negligible"] = Patch(color=BAND)
  legend_below(figure, handles)
  heading(
    figure, "Difference at equal hyperparameters, with simultaneous intervals"
  )
  return figure


def _title(curve: Curve, several: bool) -> str:
  """The fields that both sides have in common, in words."""
  shared = {k: v for k, v in curve.name.items() if curve.reference.get(k) == v}
  words = in_words(shared) or "all"
  return f"{words}, {name_of(curve.column)}" if several else words


def _label(curves: Sequence[Curve]) -> str:
  """The two sides by the fields in which they differ, and the score."""
  sides = {
    " − ".join(
      in_words({k: v for k, v in side.items() if other.get(k) != v})
      for side, other in (
        (curve.name, curve.reference),
        (curve.reference, curve.name),
      )
    )
    for curve in curves
  }
  label = sides.pop() if len(sides) == 1 else "difference"
  columns = {name_of(curve.column) for curve in curves}
  return f"{label}, {columns.pop()}" if len(columns) == 1 else label


def _draw(axis: Axes, curve: Curve, style: Mapping[str, Any]) -> None:
  x = [point.value for point in curve.points]
  differences = [point.judged.difference for point in curve.points]
  axis.plot(x, [each.mean for each in differences], **style)
  axis.fill_between(
    x,
    [each.low for each in differences],
    [each.high for each in differences],
    color=style["color"],
    alpha=0.2,
    linewidth=0,
  )


def _axis_of(axis: Axes, curve: Curve, unit: str) -> None:
  ticks_at(axis, [point.value for point in curve.points])
  axis.margins(x=0.08)
  axis.set_xlabel(
    f"{short(curve.field)} ({unit})" if unit else short(curve.field)
  )
