"""Metric-learning losses in JAX, all written for the row of one anchor.

Importing this package needs only jax, numpy and jaxtyping. The subpackages
that need more (`ml.data`, `ml.evaluation`, …) are imported at their first use.
"""

import importlib
import importlib.metadata
from types import ModuleType

from metric_learning.distances import METRICS, NORMALIZATIONS, pairwise
from metric_learning.errors import InputError
from metric_learning.losses import (
  LOSSES,
  PAIR_POTENTIALS,
  REGULARIZERS,
  pair_loss,
)
from metric_learning.miners import MINERS
from metric_learning.objectives import Objective, make_objective
from metric_learning.objectives.combination import combine, regularize
from metric_learning.objectives.memory import with_memory
from metric_learning.relations import RELATIONS
from metric_learning.rows import REDUCTIONS, Row, Terms

__all__ = [
  "LOSSES",
  "METRICS",
  "MINERS",
  "NORMALIZATIONS",
  "PAIR_POTENTIALS",
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

# Imported at first use, since they need Flax, SciPy, Pillow and others.
_LAZY = (
  *("data", "evaluation", "figures", "inference", "models", "study"),
  "training",
)


def __getattr__(name: str) -> ModuleType | str:
  if name in _LAZY:
    return importlib.import_module(f"{__name__}.{name}")
  if name == "__version__":
    return importlib.metadata.version("metric-learning")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *_LAZY})
