"""What tuning searches of a loss: ranges, declared beside each entry.

Those of Musgrave, Belongie, Lim 2020 (arXiv 2003.08505), as far as they have
the loss: where their ranges differ between data sets, the part that all share;
margins end at 0, where theirs went to -0.2. Others have the range of the value
that is most like theirs.
"""

import math
from typing import NamedTuple


class Range(NamedTuple):
  """All numbers from `low` to `high`; with `log`, even in their logarithm."""

  low: float
  high: float
  log: bool = False


class Grid(NamedTuple):
  """A few values, of a number that selects code: each is compiled apart."""

  values: tuple[int | float, ...]


# Margins that are distances: with margin_unit="initial_mean" in units of the
# mean distance at initialization, and so one range for all metrics.
MARGIN = Range(0.0, 2.0)
# Divides the distance, and is in the same unit.
TEMPERATURE = Range(1e-2, 1e2, log=True)
# Multiplies a cosine or a distance; of a distance, in the inverse unit. The
# inverse of a temperature, and so even in its logarithm too: drawn evenly, nine
# of ten scales would be above 10, and hardly a temperature above 0.1 be tried.
SCALE = Range(0.01, 100.0, log=True)
CLASSIFIER_SCALE = Range(0.01, 200.0, log=True)
# Margins that are cosines, and shares.
COSINE = Range(0.0, 1.0)
# Angles in radians, from 0 to 90 degrees.
ANGLE = Range(0.0, math.pi / 2)
# Weights of an addition.
WEIGHT = Range(1e-4, 1.0, log=True)
BINS = Grid((2, 5, 10, 25, 50, 100, 250))
