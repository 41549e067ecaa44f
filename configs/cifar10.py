"""CIFAR-10: ten kinds of things; first half to second half, or all ten.

python -m experiments.train --config=configs/cifar10.py \
  --config.data.data_dir=FOLDER --workdir=runs/cifar10

FOLDER holds cifar-10-binary.tar.gz, the binary version, from
https://www.cs.toronto.edu/~kriz/cifar.html, or what it unpacks to. Open-set:
five classes train and validate, on official training images, and the other
five are tested, on official test images. All ten classes, with the official
parts: --config.data.split=closed --config.data.protocol=closed-set.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K; three classes train.
BATCHES = ((3, 32), (2, 48), (3, 16), (3, 64))


def get_config(loss: str = "supcon"):
  """Trains on three of the first five classes, validates on the other two."""
  config = base_config()
  config.data.name = "cifar10"
  config.data.split = "half"
  config.data.protocol = "open-set"
  config.data.classes_per_batch = 3
  config.data.images_per_class = 32
  config.data.flip = True
  config.data.shift = 0.1
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  # Five classes are not for testing.
  config.tune.folds = 2
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
