"""Identification: DIR against FAR, and the cumulative match of a closed set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
  FuncFormatter,
  LogLocator,
  MaxNLocator,
  NullLocator,
)

from metric_learning.evaluation.identification import Probes, dir_at_far
from metric_learning.evaluation.open_set import (
  TooFewForGalleryError,
  check_gallery,
  draws_of,
)
from metric_learning.figures.spaces import Space
from metric_learning.figures.style import WIDTH, heading, line_styles, styled

POINTS = 60  # points of a curve against FAR
RANKS = 20  # the most ranks of a cumulative match curve


@styled
def identification_curves(
  spaces: Sequence[Space], part: str = ""
) -> Figure | None:
  """Rank-1 DIR against FAR, and beside it the cumulative match curve.

  Lines are means over the draws of `evaluation.open_set`, and bands hold the
  middle 95 % of the draws. The axis of FAR starts where ten unknown probes are
  accepted. Returns None if no run asks for identification scores, or if no
  gallery can be drawn.
  """
  drawn = [
    (index, space) for index, space in enumerate(spaces) if _is_drawn(space)
  ]
  if not drawn:
    return None
  figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
  open_axis, closed_axis = figure.subplots(1, 2, sharey=True)
  lowest, most = 1.0, 1
  order = [loss for space in spaces for loss in space.losses]
  looks = line_styles([space.loss for space in spaces], order)
  for index, space in drawn:
    assert space.open_set is not None
    probes = list(
      draws_of(space.embeddings, space.labels, space.metric, space.open_set)
    )
    fewest = min(np.count_nonzero(~each.known) for each in probes)
    if fewest > 10:
      lowest = min(lowest, 10 / fewest)
      far = np.geomspace(10 / fewest, 1, POINTS)
      rates = np.array([[dir_at_far(p, 1, f) for f in far] for p in probes])
      _line(open_axis, far, rates, looks[index], index, space.title)
    known = space.open_set.num_known(len(np.unique(space.labels)))
    ranks = np.arange(1, min(RANKS, known) + 1)
    most = max(most, len(ranks))
    match = np.array([_cumulative(each, len(ranks)) for each in probes])
    _line(closed_axis, ranks, match, looks[index], index, space.title)
  _label(open_axis, closed_axis, lowest, most)
  figure.legend(
    *closed_axis.get_legend_handles_labels(),
    loc="outside lower center",
    ncols=3,
    handlelength=2.8,
  )
  kind = f"{part} classes" if part else "classes"
  heading(figure, f"Identification of {kind}: means and middle 95 % of draws")
  return figure


def _is_drawn(space: Space) -> bool:
  if space.open_set is None or space.has_several_labels:
    return False
  try:
    check_gallery(space.labels, space.open_set)
  except TooFewForGalleryError:
    return False
  return True


def _cumulative(probes: Probes, count: int) -> Float[np.ndarray, " k"]:
  """The share of known probes whose class is among the k nearest.

  >>> probes = Probes(
  ...   np.ones(2, bool), np.zeros(2), np.zeros(2), np.array([1, 3])
  ... )
  >>> _cumulative(probes, 3).tolist()
  [0.5, 0.5, 1.0]
  """
  ranks = probes.rank[probes.known]
  return np.mean(ranks[:, None] <= np.arange(1, count + 1), axis=0)


def _line(
  axis: Axes,
  x: Shaped[np.ndarray, " k"],
  rates: Float[np.ndarray, "draws k"],
  style: dict[str, Any],
  index: int,
  label: str,
) -> None:
  low, high = np.percentile(rates, [2.5, 97.5], axis=0)
  axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
  every = (0.05 * (1 + index), 0.3)
  mean = rates.mean(axis=0)
  axis.plot(x, mean, **style, markersize=3, markevery=every, label=label)


def _label(
  open_axis: Axes, closed_axis: Axes, lowest: float, most: int
) -> None:
  open_axis.set(
    xlabel="false acceptance rate (FAR) of unknown probes",
    ylabel="share of known probes",
    title="open set: DIR at rank 1",
    ylim=(0, 1.02),
  )
  if lowest < 1:
    open_axis.set_xscale("log")
    open_axis.set_xlim(lowest, 1)
    open_axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    open_axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    open_axis.xaxis.set_minor_locator(NullLocator())
  closed_axis.set(
    xlabel="rank K", title="closed set: among the K nearest classes"
  )
  closed_axis.set_xlim(1, max(2, most))
  closed_axis.xaxis.set_major_locator(MaxNLocator(integer=True))
  for axis in (open_axis, closed_axis):
    axis.grid(color="0.9", linewidth=0.6)
