"""Cars: 98 models train, 98 others are tested; open-set.

python -m experiments.prepare --dataset=cars196 --data_dir=FOLDER
python -m experiments.train --config=configs/cars196.py \
  --config.data.data_dir=FOLDER --workdir=runs/cars196

Published numbers start from networks trained on ImageNet at 227 pixels or more;
this small network starts from nothing.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((16, 4), (32, 2), (8, 8))


def get_config(loss: str = "supcon"):
  """64×64."""
  config = base_config()
  config.data.name = "cars196"
  config.data.split = "official"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.data.classes_per_batch = 16
  config.data.images_per_class = 4
  config.data.flip = True
  config.data.shift = 0.05
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
