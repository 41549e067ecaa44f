"""Pair potentials: the cost of a pair at each distance, and the force on it."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from metric_learning.figures.chosen import loss_of
from metric_learning.figures.style import (
  BLUE,
  PURPLE,
  VERMILION,
  heading,
  legend_below,
  panels,
  styled,
)
from metric_learning.losses import PAIR_POTENTIALS
from metric_learning.study.results import Study

FARTHEST = 2.0  # the upper bound Q of distances, for potentials that need one
MARGIN = 1.0
_HIGHEST = 3.0
_MARK: dict[str, Any] = {"color": PURPLE, "linestyle": ":"}


def pair_potentials(losses: Sequence[str] = tuple(PAIR_POTENTIALS)) -> Figure:
  """Attraction and repulsion of pair potentials, with margin 1.

  Other hyperparameters have their defaults. The vertical axis ends at 3, since
  some repulsions have no upper bound.
  """
  numbers = f"margin {MARGIN:g}, upper bound {FARTHEST:g}"
  return _draw(
    losses,
    forces=False,
    ylabel="cost of a pair",
    title="Pair potentials: " + numbers,
  )


def pair_forces(losses: Sequence[str] = tuple(PAIR_POTENTIALS)) -> Figure:
  """How hard each potential pulls same pairs and pushes different pairs.

  The force is the absolute slope of the potential at each distance. A pair
  without a force does not move, whatever it costs.
  """
  numbers = f"margin {MARGIN:g}, upper bound {FARTHEST:g}"
  return _draw(
    losses,
    forces=True,
    ylabel="force on a pair",
    title="Forces of the pair potentials: " + numbers,
  )


def potentials_of(study: Study) -> Figure | None:
  """The pair potentials of the losses of a study; None if it has none."""
  found = {loss_of(study, cell.name) for cell in study.cells}
  losses = [loss for loss in PAIR_POTENTIALS if loss in found]
  return pair_potentials(losses) if losses else None


@styled
def _draw(
  losses: Sequence[str], *, forces: bool, ylabel: str, title: str
) -> Figure:
  figure, axes = panels(
    losses,
    height=1.6,
    columns=3,
    sharex=True,
    sharey=True,
    xlabel="distance",
  )
  # The first distance is slightly above 0, where a repulsion may jump.
  d = np.linspace(1e-6, FARTHEST, 401)
  for axis, loss in zip(axes, losses, strict=True):
    potential = PAIR_POTENTIALS[loss]
    given = _numbers(potential)
    law: Callable[..., Any] = functools.partial(potential, **given)
    if forces:
      law = jax.vmap(jax.jacfwd(law))
    attract, repel = map(jnp.abs, law(jnp.asarray(d)))
    (same,) = axis.plot(d, attract, color=BLUE)
    (different,) = axis.plot(d, repel, color=VERMILION, linestyle="--")
    handles = {"same class: attract": same, "different: repel": different}
    if any(number.endswith("margin") for number in given):
      axis.axvline(MARGIN, **_MARK)
    axis.set(xlim=(0, FARTHEST), ylim=(0, _HIGHEST))
  figure.supylabel(ylabel)
  legend_below(figure, {**handles, "margin": Line2D([], [], **_MARK)})
  heading(figure, title)
  return figure


def _numbers(potential: Callable[..., Any]) -> dict[str, Any]:
  """The margin and the upper bound, for a potential that takes them."""
  values = {
    "margin": MARGIN,
    "negative_margin": MARGIN,
    "upper_bound": FARTHEST,
  }
  parameters = inspect.signature(potential).parameters
  return {name: value for name, value in values.items() if name in parameters}
