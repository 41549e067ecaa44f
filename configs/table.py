"""Rows of numbers with a label, as CSV or Parquet; a small MLP on them.

python -m experiments.train --config=configs/table.py \
  --config.data.data_dir=table.csv --config.data.label_column=species \
  --workdir=runs/table

All columns but the labels are features, without those that
--config.data.drop_columns names. Each is brought to mean 0 and deviation 1 by
the training part. All classes are in all parts; half of them train with
--config.data.split=classes --config.data.protocol=open-set.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((8, 8), (16, 4), (4, 16))


def get_config(loss: str = "infonce_per_pair"):
  """Two hidden layers of 64 on standardized features."""
  config = base_config()
  config.data.name = "table"
  config.data.split = "images"
  config.data.protocol = "closed-set"
  config.data.standardize = True
  config.batch.classes_per_batch = 8
  config.batch.images_per_class = 8
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  with_model(config, "mlp", embedding_dim=32)
  config.model.hidden = (64, 64)
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
