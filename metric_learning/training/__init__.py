"""One training loop, its config, and what it leaves on disk."""

from metric_learning.training.config import (
  base_config,
  override,
  validate,
  with_loss,
  with_model,
)
from metric_learning.training.loop import NotFiniteError, train

__all__ = [
  "NotFiniteError",
  "base_config",
  "override",
  "train",
  "validate",
  "with_loss",
  "with_model",
]
