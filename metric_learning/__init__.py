"""Metric-learning losses in JAX: one row, every loss.

Importing this package needs jax, numpy and jaxtyping only.
"""

from metric_learning.distances import METRICS, NORMALIZATIONS, pairwise
from metric_learning.errors import InputError
from metric_learning.losses import LOSSES, PAIR_LAWS, pair_loss
from metric_learning.mining import MINERS
from metric_learning.objective import Objective, make_objective
from metric_learning.rows import REDUCTIONS, Row, Terms

__all__ = [
  "LOSSES",
  "METRICS",
  "MINERS",
  "NORMALIZATIONS",
  "PAIR_LAWS",
  "REDUCTIONS",
  "InputError",
  "Objective",
  "Row",
  "Terms",
  "make_objective",
  "pair_loss",
  "pairwise",
]
