"""Pair potentials: what a pair costs at each distance, and how it is pulled."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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

FARTHEST = 2.0  # Q, the upper bound of the distance where one wants one
MARGIN = 1.0
_HIGHEST = 3.0
_MARK: dict[str, Any] = {"color": PURPLE, "linestyle": ":"}


def pair_potentials() -> Figure:
  """Attraction and repulsion of every one: margin 1, other numbers default.

  The vertical axis ends at 3: some repulsions do not.
  """
  numbers = f"margin {MARGIN:g}, upper bound {FARTHEST:g}"
  return _drawn(
    forces=False, what="cost of a pair", title="Pair potentials: " + numbers
  )


def pair_forces() -> Figure:
  """How hard each potential pulls same pairs together, and pushes others apart.

  The slope of the potential at each distance, without its sign: a pair on which
  no force acts does not move, whatever it costs.
  """
  numbers = f"margin {MARGIN:g}, upper bound {FARTHEST:g}"
  return _drawn(
    forces=True,
    what="force on a pair",
    title="Forces of the pair potentials: " + numbers,
  )


@styled
def _drawn(*, forces: bool, what: str, title: str) -> Figure:
  figure, axes = panels(
    list(PAIR_POTENTIALS), height=1.6, columns=3, sharex=True, sharey=True
  )
  # The first is not quite 0, where a repulsion may jump.
  d = np.linspace(1e-6, FARTHEST, 401)
  for axis, potential in zip(axes, PAIR_POTENTIALS.values(), strict=True):
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
  for axis in axes[-3:]:
    axis.set_xlabel("distance")
  figure.supylabel(what)
  legend_below(figure, {**handles, "margin": Line2D([], [], **_MARK)})
  heading(figure, title)
  return figure


def _numbers(potential) -> dict[str, Any]:
  """The margin and the bound, for a potential that has them."""
  ours = {
    "margin": MARGIN,
    "negative_margin": MARGIN,
    "upper_bound": FARTHEST,
  }
  named = inspect.signature(potential).parameters
  return {name: value for name, value in ours.items() if name in named}
