"""Omniglot by pairs: are two drawings of one character? Open-set.

python -m experiments.prepare --dataset=omniglot --data_dir=FOLDER
python -m experiments.train --config=configs/omniglot_koch.py \
  --config.data.data_dir=FOLDER --workdir=runs/omniglot_koch --test

Koch, Zemel and Salakhutdinov 2015: 30,000 training pairs under random affine
maps, 10,000 pairs each for validation and test. Departures: the alphabets and
pairs are drawn, since the original ones are not published, each step distorts
anew instead of eight times in all, and conv4 at 28×28 takes the place of their
network at 105×105. Their numbers share no column with those of omniglot.py.
"""

import math

from metric_learning.training import base_config, with_loss, with_model


def get_config(loss: str = "pair_bce"):
  """32 same and 32 different pairs a batch."""
  config = base_config()
  config.data.name = "omniglot"
  config.data.split = "koch"
  config.data.protocol = "open-set"
  config.data.image_size = (28, 28)
  config.batch.sampler = "pairs"
  config.batch.num_pairs = 30_000
  # Theirs: each of the seven numbers is left out with probability ½.
  config.augment.rotate = math.radians(10)
  config.augment.shear = 0.3
  config.augment.stretch = 0.2
  config.augment.shift = 2 / 105
  config.augment.skip = 0.5
  with_model(config, "conv4")
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  config.eval.select = "own/eer"
  config.eval.columns = ("own/accuracy", "own/eer", "own/auc", "cosine/eer")
  config.study.columns = ("own/accuracy",)
  return with_loss(config, loss).lock()


def losses():
  """Losses of a pair: distance, classification, regression; three seeds."""
  names = "contrastive", "contrastive_inverse", "pair_bce", "pair_regression"
  for loss in names:
    for seed in range(3):
      yield {"loss.name": loss, "seed": seed}


SWEEPS = {"losses": losses}
