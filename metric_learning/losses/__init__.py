"""The losses, by name. Each entry is one function of one row."""

from metric_learning.losses.angular import ANGULAR_LOSSES
from metric_learning.losses.base import Context, Loss
from metric_learning.losses.listwise import LISTWISE_LOSSES, nce_from_logits
from metric_learning.losses.pairs import PAIR_LAWS, PAIR_LOSSES, pair_loss
from metric_learning.losses.proxies import PROXY_LOSSES
from metric_learning.losses.quadruplets import QUADRUPLET_LOSSES
from metric_learning.losses.triplets import TRIPLET_LOSSES

LOSSES: dict[str, Loss] = {
  **PAIR_LOSSES,
  **TRIPLET_LOSSES,
  **QUADRUPLET_LOSSES,
  **ANGULAR_LOSSES,
  **LISTWISE_LOSSES,
  **PROXY_LOSSES,
}

__all__ = [
  "LOSSES",
  "PAIR_LAWS",
  "Context",
  "Loss",
  "nce_from_logits",
  "pair_loss",
]
