"""Vectors in an npz file: `features` [n, d] and `labels`; a linear head.

python -m experiments.train --config=configs/features.py \
  --config.data.data_dir=features.npz --workdir=runs/features

Half of the classes train, a fifth validates, the rest are tested. With
--config.data.split=images --config.data.protocol=closed-set all classes are in
all parts. --config.model.name=mlp has hidden layers. Where an item has several
labels, `labels` is [n, k]: see multi_label.py.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((32, 4), (64, 2), (16, 8))


def get_config(loss: str = "infonce_per_pair"):
  """A linear head on features as they are."""
  config = base_config()
  config.data.name = "features"
  config.data.split = "classes"
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  with_model(config, "linear", embedding_dim=128)
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
