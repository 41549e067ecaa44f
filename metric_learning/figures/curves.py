"""Tuning curves: the validation score against a tuned hyperparameter."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from metric_learning.distances import METRICS
from metric_learning.figures.chosen import loss_of, losses_of
from metric_learning.figures.style import (
  BLACK,
  heading,
  legend_below,
  panel_styles,
  panels,
  styled,
  ticks_at,
)
from metric_learning.losses import LOSSES
from metric_learning.study.results import Cell, Setting, Study
from metric_learning.study.table_lines import in_words

# How an axis label writes units of the mean distance, by the power of a
# distance in the unit of the hyperparameter.
_PER_UNIT = {1: "/ d̄", 2: "/ d̄²", -1: "× d̄"}
# A panel: its title, the tuned field, and one cell for each metric.
Panel = tuple[str, str, dict[str, Cell]]


@styled
def tuning_curves(study: Study) -> Figure | None:
  """The mean validation score of each tried value, with its 95 % interval.

  There is one panel for each loss and tuned field, in the color of the loss,
  with one line for each metric. If several fields were tuned, a panel varies
  one of them and keeps the others at their chosen values. A setting that
  diverged is a cross on the axis. Returns None if every field has one value.
  """
  contents = _panels(study)
  if not contents:
    return None
  titles = [title for title, *_ in contents]
  figure, axes = panels(titles, height=1.8, narrowest=4.5, sharey=True)
  names = dict.fromkeys(m for *_, cells in contents for m in cells)
  # METRICS gives the order; it does not list metrics with options.
  with_options = [m for m in names if m not in METRICS]
  metrics = [m for m in METRICS if m in names] + with_options
  losses = losses_of(study)
  for axis, (_, field, cells) in zip(axes, contents, strict=True):
    loss = loss_of(study, next(iter(cells.values())).name)
    looks = panel_styles(len(metrics), losses, loss)
    for index, (metric, look) in enumerate(zip(metrics, looks, strict=True)):
      if metric in cells:
        shift = 3 * (index - (len(metrics) - 1) / 2)
        _draw(axis, cells[metric], field, look, shift)
    _axis_of(axis, field, list(cells.values()))
  figure.supylabel(f"validation {study.config['eval']['select']}")
  looks = panel_styles(len(metrics), losses)
  handles = {
    m: Line2D([], [], **look) for m, look in zip(metrics, looks, strict=True)
  }
  handles["chosen"] = Line2D([], [], linestyle="none", **_RING)
  legend_below(figure, handles)
  heading(figure, "Validation score of each tried value, with 95 % intervals")
  return figure


_RING: dict[str, Any] = {
  "marker": "o",
  "markersize": 9,
  "markerfacecolor": "none",
  "markeredgecolor": BLACK,
}


_CROSS: dict[str, Any] = {"marker": "x", "markersize": 6, "clip_on": False}


def _panels(study: Study) -> list[Panel]:
  grouped: dict[tuple[str, str], dict[str, Cell]] = {}
  for cell in study.cells:
    runs = [run for setting in cell.settings for run in setting.runs]
    if not runs:
      continue
    for field in cell.chosen.tuned:
      if len(slice_through_chosen(cell, field)) > 1:
        rest = {
          k: v for k, v in cell.name.items() if not k.startswith("metric.")
        }
        title = in_words(rest) or str(runs[0].spec.config.loss.name)
        cells = grouped.setdefault((title, field), {})
        # The metric as the config gives it, with its options. For a learned
        # metric, the result names another one: that of the mapped space.
        asked = dict(runs[0].spec.config.metric)
        name = asked.pop("name") or runs[0].result["metric"]
        words = [str(name), *(f"{k} {v:g}" for k, v in asked.items())]
        cells[", ".join(words)] = cell
  return [(*key, cells) for key, cells in grouped.items()]


def slice_through_chosen(cell: Cell, field: str) -> list[Setting]:
  """Settings with the chosen values in all other fields, sorted by `field`."""

  def other_fields(setting: Setting) -> dict[str, Any]:
    return {k: v for k, v in setting.tuned.items() if k != field}

  chosen = other_fields(cell.chosen)
  settings = [s for s in cell.settings if other_fields(s) == chosen]
  return sorted(settings, key=lambda setting: setting.tuned[field])


def _draw(
  axis: Axes, cell: Cell, field: str, style: dict, shift: float
) -> None:
  """Draws one line, `shift` points to the side so that all intervals show."""
  settings = slice_through_chosen(cell, field)
  finite = [s for s in settings if np.isfinite(s.validation.mean)]
  x = [s.tuned[field] for s in finite]
  means = np.array([s.validation.mean for s in finite])
  ends = np.array([[s.validation.low, s.validation.high] for s in finite])
  lengths = np.nan_to_num(np.abs(ends.T - means))  # no bar if unknown
  artists = axis.errorbar(x, means, lengths, **style, capsize=2).get_children()
  for setting in settings:
    value, mean = setting.tuned[field], setting.validation.mean
    if not np.isfinite(mean):
      floor = axis.get_xaxis_transform()
      artists += axis.plot(
        value, 0, **_CROSS, color=style["color"], transform=floor
      )
    elif setting is cell.chosen:
      artists += axis.plot(value, mean, **_RING)
  # The shift follows the drawing, so that it does not change the axis limits.
  offset = ScaledTranslation(shift / 72, 0, axis.figure.dpi_scale_trans)
  for artist in artists:
    artist.set_transform(artist.get_transform() + offset)


def _axis_of(axis: Axes, field: str, cells: Sequence[Cell]) -> None:
  """Puts ticks at the values that were tried, and writes their unit."""
  values = sorted({s.tuned[field] for c in cells for s in c.settings})
  ticks_at(axis, values)
  axis.margins(x=0.12)
  axis.set_xlabel(_unit(field, cells[0]))


def _unit(field: str, cell: Cell) -> str:
  """The name of a field, with its unit if that is the mean distance.

  As in the tables, d̄ is the mean distance at initialization.
  """
  run = next(run for setting in cell.settings for run in setting.runs)
  config, name = run.spec.config, field.split(".")[-1]
  power = LOSSES[config.loss.name].scaled.get(name)
  if power and config.margin_unit == "initial_mean":
    return f"{name} {_PER_UNIT[power]}"
  return name.replace("_", " ")
