"""Distance histograms: how far same and different pairs lie apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metric_learning.figures.spaces import Space, pairs_of
from metric_learning.figures.style import (
  BLACK,
  BLUE,
  PURPLE,
  VERMILION,
  heading,
  legend_below,
  panels,
  styled,
)

BINS = 50
_MARGIN: dict[str, Any] = {"color": PURPLE, "linewidth": 1.6}


@styled
def distance_histograms(spaces: Sequence[Space], part: str = "") -> Figure:
  """Distances of same and of different pairs, each a share of its own kind.

  Marked are the threshold that is best on validation pairs, and the margin
  where the loss has one: a line where it is a place on the axis, a bar of its
  length, around the threshold, where it is a gap between two distances. Each
  panel has the units of its metric.
  """
  figure, axes = panels(len(spaces), height=1.9, narrowest=4.5, sharey=True)
  handles = {}
  for axis, space in zip(axes, spaces, strict=True):
    handles |= _histogram(axis, space)
    handles |= _marks(axis, space)
    axis.set(title=space.title, xlabel=f"{space.metric} distance")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set_ylim(bottom=0)
  for axis in axes:
    if axis.get_subplotspec().is_first_col():
      axis.set_ylabel("share of pairs")
  legend_below(figure, handles)
  kind = f"{part} pairs" if part else "pairs"
  heading(figure, f"Distances of same and different {kind}")
  return figure


def _histogram(axis: Axes, space: Space) -> dict:
  distances, same = pairs_of(space)
  edges = np.histogram_bin_edges(distances, BINS)
  looks = {
    "same class": (same, {"color": BLUE, "fill": True, "alpha": 0.45}),
    "different classes": (~same, {"color": VERMILION, "linewidth": 1.2}),
  }
  return {
    name: axis.stairs(
      np.histogram(distances[kind], edges)[0] / max(1, np.count_nonzero(kind)),
      edges,
      **look,
    )
    for name, (kind, look) in looks.items()
  }


def _marks(axis: Axes, space: Space) -> dict:
  """Lines over the full height, and bars near its top."""
  marks = {}
  threshold = space.threshold
  if threshold is not None and np.isfinite(threshold):
    marks["best threshold on validation"] = axis.axvline(
      threshold, color=BLACK, linewidth=1
    )
  for margin in space.margins:
    marks["margin"] = axis.axvline(margin, **_MARGIN, linestyle=":")
  for gap in space.gaps:
    (marks["margin (a gap)"],) = axis.plot(
      *_bar(gap, threshold),
      **_MARGIN,
      marker="|",
      markersize=7,
      transform=axis.get_xaxis_transform(),
    )
  return marks


def _bar(gap: float, threshold: float | None):
  """The ends of a gap around a threshold, or from 0, at 95 % of the height."""
  if threshold is None or not np.isfinite(threshold):
    return [0, gap], [0.95, 0.95]
  return [threshold - gap / 2, threshold + gap / 2], [0.95, 0.95]
