"""Metric-learning losses in JAX: one row, every loss.

Importing this package needs jax, numpy and jaxtyping only.
"""

from metric_learning.combination import combine, regularize
from metric_learning.distances import METRICS, NORMALIZATIONS, pairwise
from metric_learning.errors import InputError
from metric_learning.losses import LOSSES, PAIR_LAWS, REGULARIZERS, pair_loss
from metric_learning.memory import with_memory
from metric_learning.mining import MINERS
from metric_learning.objective import Objective, make_objective
from metric_learning.relations import RELATIONS
from metric_learning.rows import REDUCTIONS, Row, Terms

__all__ = [
  "LOSSES",
  "METRICS",
  "MINERS",
  "NORMALIZATIONS",
  "PAIR_LAWS",
  "REDUCTIONS",
  "REGULARIZERS",
  "RELATIONS",
  "InputError",
  "Objective",
  "Row",
  "Terms",
  "combine",
  "make_objective",
  "pair_loss",
  "pairwise",
  "regularize",
  "with_memory",
]
