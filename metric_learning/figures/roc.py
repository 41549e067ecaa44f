"""ROC curves: accepted genuine pairs against accepted impostor pairs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from metric_learning import evaluation
from metric_learning.figures.spaces import Space, pairs_of
from metric_learning.figures.style import WIDTH, heading, line_style, styled

POINTS = 300  # of a curve that are drawn, of as many as there are distances
LEAST_FAR = 1e-4


@styled
def roc_curves(
  spaces: Sequence[Space], part: str = "", *, log: bool = True
) -> Figure:
  """TAR against FAR of some spaces, each with its equal error rate as a point.

  `log` draws FAR on a logarithmic axis, down to what rests on ten impostor
  pairs, at most to 0.0001. A space without same or without different pairs has
  no curve.
  """
  figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
  axis = figure.subplots()
  lowest = 1.0
  for index, space in enumerate(spaces):
    distances, same = pairs_of(space)
    if not same.any() or same.all():
      continue
    far, frr, _ = evaluation.roc(distances, same)
    eer = evaluation.verification(distances, same)["eer"]
    style = line_style(index)
    least = max(10 / np.count_nonzero(~same), LEAST_FAR)
    lowest = min(lowest, least)
    rows = _rows(far, frr, least)
    # Small markers tell lines apart in print; each line's start elsewhere.
    every = (0.03 * (1 + index), 0.3)
    axis.plot(far[rows], 1 - frr[rows], **style, markersize=3, markevery=every)
    axis.plot(
      eer,
      1 - eer,
      **style,
      markersize=7,
      markeredgecolor="white",
      markeredgewidth=0.7,
      label=f"{space.title} (EER {100 * eer:.1f} %)",
    )
  log = log and lowest < 1
  start = lowest if log else 0.0
  line = np.linspace(start, 1, POINTS)
  axis.plot(line, 1 - line, color="0.7", linewidth=0.8, label="FAR = FRR")
  axis.set(
    xlabel="false acceptance rate (FAR)",
    ylabel="true acceptance rate (TAR = 1 − FRR)",
    xlim=(start, 1),
    ylim=(0, 1.02),
  )
  if log:
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
  axis.grid(color="0.9", linewidth=0.6)
  figure.legend(loc="outside right center", handlelength=2.8)
  kind = f"{part} pairs" if part else "pairs"
  heading(figure, f"ROC on {kind}; a large marker is where FAR = FRR")
  return figure


def _rows(
  far: Float[np.ndarray, " t"], frr: Float[np.ndarray, " t"], least: float
) -> Int[np.ndarray, " r"]:
  """Operating points to draw: even on both axes, and those around the EER.

  >>> far, frr = np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.5, 0.0])
  >>> _rows(far, frr, 0.1).tolist()
  [0, 1, 2]
  """
  last = len(far) - 1
  logs = np.searchsorted(far, np.geomspace(min(least, 1), 1, POINTS))
  even = np.searchsorted(far, np.linspace(0, 1, POINTS))
  rates = np.searchsorted(-frr, -np.linspace(1, 0, POINTS))
  equal = np.flatnonzero(frr >= far)[-1]
  ends = [0, equal, equal + 1, last]
  rows = np.unique(np.concatenate([ends, logs, even, rates]))
  return rows[rows <= last]
