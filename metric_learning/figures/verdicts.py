"""Figures of the verdicts of a study: differences, spread and search budget."""

import textwrap

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from metric_learning.evaluation import heading as name_of
from metric_learning.evaluation import lower_is_better
from metric_learning.figures.chosen import loss_of, losses_of
from metric_learning.figures.style import (
  BAND,
  BLACK,
  BLUE,
  GRAY,
  GREEN,
  ORANGE,
  SKY,
  VERMILION,
  WIDTH,
  legend_below,
  panel_styles,
  panels,
  styled,
)
from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.results import Study
from metric_learning.study.spread import (
  budget_curve,
  searched_cells,
  spread_of,
)
from metric_learning.study.table_lines import in_words

# The color and marker of each verdict.
_VERDICTS = {
  "better": (BLUE, "o"),
  "worse": (VERMILION, "s"),
  "no difference": (GREEN, "D"),
  "unresolved": (GRAY, "x"),
}
_SOURCES = {
  "search": (BLUE, "", "search"),
  "seed": (ORANGE, "//", "seed"),
  "classes": (SKY, "..", "test classes"),
}
_LINE = 0.22  # the height of the line of a cell, in inches
_LONGEST = 52  # characters of a line


@styled
def differences(study: Study) -> Figure | None:
  """A forest plot: each cell against its reference, grouped by loss.

  Lines are 95 % t-intervals over searches, seeds or folds. The gray band holds
  the differences that the study counts as negligible. Returns None if no
  comparison has two or more replicates, or if cells are compared at equal
  hyperparameters, which `curves_of_differences` draws.
  """
  if not study.compared["choose"]:
    return None
  compared = [
    one
    for one in compare_cells(study)
    if np.isfinite(one.judged.difference.half_width)
  ]
  if not compared:
    return None
  columns = list(dict.fromkeys(one.column for one in compared))
  delta = study.compared["delta"]
  height = 0.6 + _LINE * max(
    sum(
      1 + _label(one).count("\n") / 2
      for one in compared
      if one.column == column
    )
    + _losses(compared)
    for column in columns
  )
  size = (WIDTH, 0.4 + height * len(columns))
  figure = Figure(figsize=size, layout="constrained")
  axes = figure.subplots(len(columns), 1, squeeze=False)[:, 0]
  for axis, column in zip(axes, columns, strict=True):
    _forest(axis, [one for one in compared if one.column == column])
    axis.axvspan(-delta, delta, color=BAND)
    better = " (lower is better)" if lower_is_better(column) else ""
    axis.set_xlabel(f"difference in {name_of(column)}{better}")
  handles: dict[str, Artist] = {
    name: Line2D([], [], color=color, marker=marker, linestyle="none")
    for name, (color, marker) in _VERDICTS.items()
  }
  handles["not tested"] = Line2D(
    [], [], color=BLACK, marker="|", linestyle="none"
  )
  handles[f"within ±{delta:g}: negligible"] = Patch(color=BAND)
  legend_below(figure, handles)
  figure.set_label(_in_words(compared))
  return figure


def _in_words(compared: list[Compared]) -> str:
  """The differences as sentences, for readers who do not see the figure."""
  lines = [
    f"{in_words(one.name)} minus {in_words(one.reference)} in"
    f" {name_of(one.column)}: {one.judged.difference.mean:+.3f}, from"
    f" {one.judged.difference.low:+.3f} to {one.judged.difference.high:+.3f}:"
    f" {one.judged.verdict}."
    for one in compared
  ]
  return " ".join(["Differences with 95 % intervals.", *lines])


def _label(one: Compared) -> str:
  """The cell, and where its reference differs from it; long cells in lines."""
  other = one.reference
  differs = {k: v for k, v in other.items() if one.name.get(k) != v} or other
  label = f"{in_words(one.name)} − {in_words(differs)}"
  return "\n".join(textwrap.wrap(label, _LONGEST))


def _losses(compared: list[Compared]) -> int:
  return len({one.name.get("loss.name") for one in compared})


def _forest(axis: Axes, compared: list[Compared]) -> None:
  order = sorted(
    range(len(compared)),
    key=lambda place: (
      [one.name.get("loss.name") for one in compared].index(
        compared[place].name.get("loss.name")
      ),
      place,
    ),
  )
  place, loss, ticks = 0.0, None, []
  for index in order:
    one = compared[index]
    if loss is not None and one.name.get("loss.name") != loss:
      place += 0.6
    loss = one.name.get("loss.name")
    interval = one.judged.difference
    verdict = one.judged.verdict.partition(":")[0]
    color, marker = _VERDICTS.get(verdict, (BLACK, "|"))
    axis.plot([interval.low, interval.high], [place, place], color=color)
    axis.plot(interval.mean, place, color=color, marker=marker)
    label = _label(one)
    ticks.append((place, label))
    place += 1 + label.count("\n") / 2
  axis.axvline(0, color=BLACK, linewidth=0.6)
  # Small differences have long labels: more ticks would run into each other.
  axis.xaxis.set_major_locator(MaxNLocator(5))
  axis.set_yticks(*map(list, zip(*ticks, strict=True)))
  axis.set_ylim(place - 0.4, -0.6)


@styled
def spread_by_source(study: Study) -> Figure | None:
  """Bars of the variance of the test score of one final run, by source.

  Returns None if no cell has several searches.
  """
  cells, columns = searched_cells(study), study.compared["columns"]
  if not cells or not columns:
    return None
  height = 0.7 + _LINE * len(cells)
  size = (WIDTH, 0.4 + height * len(columns))
  figure = Figure(figsize=size, layout="constrained")
  axes = figure.subplots(len(columns), 1, squeeze=False)[:, 0]
  for axis, column in zip(axes, columns, strict=True):
    left = np.zeros(len(cells))
    spreads = [spread_of(cell, column) for cell in cells]
    for source, (color, hatch, _) in _SOURCES.items():
      parts = np.nan_to_num([getattr(one, source) ** 2 for one in spreads])
      axis.barh(
        np.arange(len(cells)),
        parts,
        left=left,
        height=0.7,
        color=color,
        hatch=hatch,
        edgecolor="white",
        linewidth=0.4,
      )
      left += parts
    axis.set_yticks(np.arange(len(cells)), [in_words(c.name) for c in cells])
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.set_xlabel(f"variance of {name_of(column)} of one final run")
  legend_below(
    figure,
    {
      name: Patch(facecolor=color, hatch=hatch, edgecolor="white")
      for color, hatch, name in _SOURCES.values()
    },
  )
  return figure


@styled
def budget_curves(study: Study) -> Figure | None:
  """The expected best validation score against the number of trials.

  There is one panel for each loss and one line for each of its cells. A line is
  the mean, over searches, of the best of k trials drawn in random order.
  Returns None if no cell has several searches.
  """
  cells = searched_cells(study)
  if not cells or max(cell.trials for cell in cells) < 2:
    return None
  select = study.config["eval"]["select"]
  losses = list(dict.fromkeys(loss_of(study, c.name) for c in cells))
  figure, axes = panels(losses, height=1.6, narrowest=4.5, sharey=True)
  rest = lambda cell: in_words(
    {k: v for k, v in cell.name.items() if k != "loss.name"}
  )
  names = list(dict.fromkeys(rest(cell) for cell in cells))
  order = losses_of(study)
  for axis, loss in zip(axes, losses, strict=True):
    looks = panel_styles(len(names), order, loss)
    for cell in cells:
      if loss_of(study, cell.name) == loss:
        curve = budget_curve(cell, lower_is_better(select))
        axis.plot(
          np.arange(1, len(curve) + 1), curve, **looks[names.index(rest(cell))]
        )
    axis.set_xlabel("trials")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
  figure.supylabel(f"expected best\nvalidation {select}")
  if any(names):
    legend_below(
      figure,
      {
        name: Line2D([], [], **look)
        for name, look in zip(
          names, panel_styles(len(names), order), strict=True
        )
      },
    )
  return figure
