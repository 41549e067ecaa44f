"""The losses by name. Each is a function of one row."""

from metric_learning.losses.angular import ANGULAR_LOSSES
from metric_learning.losses.base import Context, Loss
from metric_learning.losses.classifiers import CLASSIFIER_LOSSES
from metric_learning.losses.integer_margins import INTEGER_MARGIN_LOSSES
from metric_learning.losses.listwise import LISTWISE_LOSSES, nce_from_logits
from metric_learning.losses.pairs import PAIR_LOSSES, PAIR_POTENTIALS, pair_loss
from metric_learning.losses.proxies import PROXY_LOSSES
from metric_learning.losses.quadruplets import QUADRUPLET_LOSSES
from metric_learning.losses.ranking import RANKING_LOSSES
from metric_learning.losses.regularizers import REGULARIZERS
from metric_learning.losses.triplets import TRIPLET_LOSSES
from metric_learning.losses.views import VIEW_LOSSES

LOSSES: dict[str, Loss] = {
  **PAIR_LOSSES,
  **TRIPLET_LOSSES,
  **QUADRUPLET_LOSSES,
  **ANGULAR_LOSSES,
  **LISTWISE_LOSSES,
  **CLASSIFIER_LOSSES,
  **INTEGER_MARGIN_LOSSES,
  **RANKING_LOSSES,
  **PROXY_LOSSES,
  **VIEW_LOSSES,
}

__all__ = [
  "LOSSES",
  "PAIR_POTENTIALS",
  "REGULARIZERS",
  "Context",
  "Loss",
  "nce_from_logits",
  "pair_loss",
]
