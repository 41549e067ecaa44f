"""CIFAR-100: a hundred kinds of things; first half to second half, or all.

python -m experiments.train --config=configs/cifar100.py \
  --config.data.data_dir=FOLDER --workdir=runs/cifar100

FOLDER holds cifar-100-binary.tar.gz, the binary version, from
https://www.cs.toronto.edu/~kriz/cifar.html, or what it unpacks to. Open-set:
fine labels; 50 classes train and validate, on official training images, and
the other 50 are tested, on official test images. All classes, with the
official parts: --config.data.split=closed --config.data.protocol=closed-set.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((16, 8), (32, 4), (8, 16))


def get_config(loss: str = "supcon"):
  """Trains on 40 of the first fifty classes, validates on the other ten."""
  config = base_config()
  config.data.name = "cifar100"
  config.data.split = "half"
  config.data.protocol = "open-set"
  config.data.classes_per_batch = 16
  config.data.images_per_class = 8
  config.data.flip = True
  config.data.shift = 0.1
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
