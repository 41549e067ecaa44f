"""Fashion-MNIST: halves of the ten classes (open-set), or all ten.

python -m experiments.train --config=configs/fashion_mnist.py \
  --config.data.data_dir=FOLDER --workdir=runs/fashion

FOLDER holds the four idx files, gzipped or not; without data_dir they are
those of Debian's package dataset-fashion-mnist. The ten folds
(--config.data.fold) are five halves of the classes, each in both directions:
trained on official training images, tested on official test images of the
other half. All ten classes, with the official parts:
--config.data.split=closed --config.data.protocol=closed-set. The sweeps are
those of `metric_learning.study.standard_sweeps`.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K; three classes train.
BATCHES = ((3, 32), (2, 48), (3, 16), (3, 64))


def get_config(loss: str = "supcon"):
  """Trains on three of the seen classes, validates on the other two."""
  config = base_config()
  config.data.name = "fashion_mnist"
  config.data.split = "halves"
  config.data.protocol = "open-set"
  config.data.classes_per_batch = 3
  config.data.images_per_class = 32
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 500
  config.train.eval_every = 250
  config.train.save_every = 250
  # Five classes are not for testing.
  config.tune.folds = 2
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
