"""Half of Stanford Cars: 98 models train and validate, 98 others are tested.

python -m experiments.train --config=configs/cars_train.py \
  --config.data.data_dir=FOLDER --workdir=runs/cars_train

FOLDER holds cars_train.zip, or what it unpacks to: docs/real_sets.md. A
pretrained network at full size: --config.model.name=efficientnet_lite0
--config.model.weights=FILE --config.data.image_size="(224, 224)"; heads on its
features: experiments/features.py.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((16, 4), (32, 2), (8, 8))


def get_config(loss: str = "supcon"):
  """64×64, a small network that starts from nothing."""
  config = base_config()
  config.data.name = "cars_train"
  config.data.split = "official"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.batch.classes_per_batch = 16
  config.batch.images_per_class = 4
  config.augment.flip = True
  config.augment.shift = 0.05
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
