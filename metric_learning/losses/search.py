"""Search ranges of hyperparameters, declared in each entry of LOSSES.

They are those of Musgrave, Belongie, Lim 2020 (arXiv 2003.08505) for the losses
in that paper. If the ranges there differ between data sets, the common part is
used; margins start at 0 instead of -0.2. Other losses have the range of the
most similar value.
"""

import math
from typing import NamedTuple


class Range(NamedTuple):
  """Uniform from `low` to `high`; with `log`, uniform in the logarithm."""

  low: float
  high: float
  log: bool = False


class Grid(NamedTuple):
  """A few values of a number that selects code; each is compiled separately."""

  values: tuple[int | float, ...]


# Margins that are distances. With margin_unit="initial_mean" the unit is the
# mean distance at initialization, so one range serves all metrics.
MARGIN = Range(0.0, 2.0)
# Temperatures, which divide a distance and have its unit.
TEMPERATURE = Range(1e-2, 1e2, log=True)
# Scales, which multiply a cosine or a distance (then in the inverse unit). A
# scale is an inverse temperature and so is also uniform in the logarithm: drawn
# uniformly, nine of ten scales would exceed 10, and temperatures above 0.1
# would rarely be tried.
SCALE = Range(0.01, 100.0, log=True)
CLASSIFIER_SCALE = Range(0.01, 200.0, log=True)
# Margins that are cosines, and shares.
COSINE = Range(0.0, 1.0)
# Angles in radians, from 0 to 90 degrees.
ANGLE = Range(0.0, math.pi / 2)
# Weights of an addition.
WEIGHT = Range(1e-4, 1.0, log=True)
BINS = Grid((2, 5, 10, 25, 50, 100, 250))
