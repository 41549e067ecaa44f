"""Makes objectives, sums them, and gives them a memory."""

from metric_learning.objectives.blocks import block_rows
from metric_learning.objectives.combination import combine, regularize
from metric_learning.objectives.make import REDUCTION_OPTIONS, make_objective
from metric_learning.objectives.memory import with_memory
from metric_learning.objectives.objective import Aux, Objective

__all__ = [
  "REDUCTION_OPTIONS",
  "Aux",
  "Objective",
  "block_rows",
  "combine",
  "make_objective",
  "regularize",
  "with_memory",
]
