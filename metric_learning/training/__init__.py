"""One training loop, its config, and what it leaves on disk."""

from metric_learning.training.checks import validate
from metric_learning.training.config import (
  base_config,
  override,
  with_loss,
  with_model,
)
from metric_learning.training.loop import train
from metric_learning.training.population import train_population
from metric_learning.training.recorder import NotFiniteError

__all__ = [
  "NotFiniteError",
  "base_config",
  "override",
  "train",
  "train_population",
  "validate",
  "with_loss",
  "with_model",
]
