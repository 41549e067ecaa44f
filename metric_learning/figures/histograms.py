"""Distance histograms: the distances of same and of different pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
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
  """Histograms of the distances of same and of different pairs.

  Each histogram is normalized by its own number of pairs. A dashed line marks
  the threshold that is best on validation pairs. The margin of the loss is a
  dotted line if it is a distance; if it is a gap between two distances, it is a
  bar of that length that starts at the mean distance of same pairs. Each panel
  has the units of its metric.
  """
  titles = [space.title for space in spaces]
  # Bin widths differ between panels, so their heights have no common scale.
  figure, axes = panels(titles, height=1.7, narrowest=4.5)
  handles: dict[str, Any] = {}
  for axis, space in zip(axes, spaces, strict=True):
    distances, same = pairs_of(space)
    handles |= _histogram(axis, distances, same)
    handles |= _marks(axis, space, distances[same])
    axis.set_xlabel(f"{space.metric} distance")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set_yticks([])
    axis.set_ylim(0, 1.15 * axis.get_ylim()[1])
  figure.supylabel("share of pairs")
  legend_below(figure, handles)
  kind = f"{part} pairs" if part else "pairs"
  heading(figure, f"Distances of same and different {kind}")
  return figure


def _histogram(
  axis: Axes, distances: Float[np.ndarray, " p"], same: Bool[np.ndarray, " p"]
) -> dict[str, Any]:
  edges = np.histogram_bin_edges(distances, BINS)

  def draw(kind: np.ndarray, **look: Any) -> Any:
    counts = np.histogram(distances[kind], edges)[0]
    return axis.stairs(counts / max(1, counts.sum()), edges, **look)

  return {
    "same class": draw(same, color=BLUE, fill=True, alpha=0.45),
    "different classes": draw(~same, color=VERMILION, linewidth=1.2),
  }


def _marks(
  axis: Axes, space: Space, same: Float[np.ndarray, " s"]
) -> dict[str, Any]:
  """Marks threshold and margins by lines, and gaps by bars above the data."""
  marks: dict[str, Any] = {}
  if space.threshold is not None and np.isfinite(space.threshold):
    marks["threshold, best on validation"] = axis.axvline(
      space.threshold, color=BLACK, linewidth=1, linestyle="--"
    )
  for margin in space.margins:
    marks["margin"] = axis.axvline(margin, **_MARGIN, linestyle=":")
  for gap in space.gaps if len(same) else ():
    start = float(np.mean(same))
    (marks["margin, from the mean same pair"],) = axis.plot(
      [start, start + gap],
      [0.95, 0.95],
      **_MARGIN,
      marker="|",
      markersize=7,
      transform=axis.get_xaxis_transform(),
    )
  return marks
