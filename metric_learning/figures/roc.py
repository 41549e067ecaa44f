"""ROC and DET curves: errors on genuine pairs against errors on impostors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.special import ndtri

from metric_learning import evaluation
from metric_learning.figures.spaces import Space, pairs_of
from metric_learning.figures.style import WIDTH, heading, line_styles, styled

POINTS = 300  # points drawn of a curve, which has one for each distance
LEAST_FAR = 1e-4


class Curve(NamedTuple):
  """The errors of one space at each threshold, and how its line looks.

  least: the FAR at which ten impostor pairs are accepted, at least 0.0001.
  """

  far: Float[np.ndarray, " t"]
  frr: Float[np.ndarray, " t"]
  eer: float
  least: float
  look: dict[str, Any]
  every: tuple[float, float]
  label: str


@styled
def roc_curves(
  spaces: Sequence[Space], part: str = "", *, log: bool = True
) -> Figure:
  """TAR against FAR of several spaces; a point marks each equal error rate.

  `log` draws FAR on a logarithmic axis. That axis starts where ten impostor
  pairs are accepted, but not below 0.0001. A space without same pairs or
  without different pairs has no curve.
  """
  figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
  axis = figure.subplots()
  curves = _curves(spaces)
  for curve in curves:
    _draw(axis, curve, curve.far, 1 - curve.frr, (curve.eer, 1 - curve.eer))
  lowest = min((curve.least for curve in curves), default=1.0)
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
  heading(figure, f"ROC on {_kind(part)}; a large marker is where FAR = FRR")
  return figure


# The error rates at the ticks of a DET axis.
_TICKS = (0.001, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
# Ticks so close together that their names would touch.
_UNNAMED = (0.4, 0.6)


@styled
def det_curves(spaces: Sequence[Space], part: str = "") -> Figure | None:
  """FRR against FAR, on axes of normal deviates.

  On these axes, normally distributed distances give a straight line. Returns
  None if no space has both same and different pairs.

  Source: Martin et al., "The DET curve in assessment of detection task
  performance", Eurospeech 1997.
  """
  curves = _curves(spaces)
  if not curves:
    return None
  figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
  axis = figure.subplots()
  low = min(curve.least for curve in curves)
  for curve in curves:
    inside = (curve.far >= low) & (curve.frr > 0) & (curve.far < 1)
    inside &= curve.frr < 1
    equal = ndtri(np.clip(curve.eer, 1e-6, 1 - 1e-6))
    far, frr = ndtri(curve.far[inside]), ndtri(curve.frr[inside])
    _draw(axis, curve, far, frr, (equal, equal))
  ends = ndtri(low), ndtri(0.99)
  axis.plot(ends, ends, color="0.7", linewidth=0.8, label="FAR = FRR")
  ticks = [tick for tick in _TICKS if tick >= low]
  for which in (axis.xaxis, axis.yaxis):
    labels = ["" if x in _UNNAMED else f"{100 * x:g} %" for x in ticks]
    which.set_ticks(ndtri(ticks), labels)
  axis.set(
    xlabel="false acceptance rate (FAR)",
    ylabel="false rejection rate (FRR)",
    xlim=ends,
    ylim=(ndtri(0.001), ends[1]),
  )
  axis.grid(color="0.9", linewidth=0.6)
  figure.legend(loc="outside right center", handlelength=2.8)
  heading(figure, f"DET on {_kind(part)}; a large marker is where FAR = FRR")
  return figure


def _kind(part: str) -> str:
  return f"{part} pairs" if part else "pairs"


def _curves(spaces: Sequence[Space]) -> list[Curve]:
  """The curves of the spaces that have same and different pairs."""
  curves = []
  order = [loss for space in spaces for loss in space.losses]
  looks = line_styles([space.loss for space in spaces], order)
  for index, (space, look) in enumerate(zip(spaces, looks, strict=True)):
    distances, same = pairs_of(space)
    if not same.any() or same.all():
      continue
    far, frr, _ = evaluation.roc(distances, same)
    eer = evaluation.verification(distances, same)["eer"]
    least = max(10 / np.count_nonzero(~same), LEAST_FAR)
    rows = _rows(far, frr, least)
    # Small markers tell lines apart in print. Their offset differs between
    # lines, so that they do not cover each other.
    every = (0.03 * (1 + index), 0.3)
    label = f"{space.title} (EER {100 * eer:.1f} %)"
    curves.append(
      Curve(far[rows], frr[rows], eer, min(least, 1.0), look, every, label)
    )
  return curves


def _draw(
  axis: Axes,
  curve: Curve,
  x: Float[np.ndarray, " r"],
  y: Float[np.ndarray, " r"],
  equal: tuple[float, float],
) -> None:
  """A line with small markers, and a large one at the equal error rate."""
  axis.plot(x, y, **curve.look, markersize=3, markevery=curve.every)
  axis.plot(
    *equal,
    **curve.look,
    markersize=7,
    markeredgecolor="white",
    markeredgewidth=0.7,
    label=curve.label,
  )


def _rows(
  far: Float[np.ndarray, " t"], frr: Float[np.ndarray, " t"], least: float
) -> Int[np.ndarray, " r"]:
  """Operating points to draw: evenly spaced on both axes, and around the EER.

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
