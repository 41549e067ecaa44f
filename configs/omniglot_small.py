"""Omniglot at 24×24 with a small network: studies that two cores can do.

python -m experiments.tune --config=configs/omniglot_small.py --sweep=losses \
  --config.data.data_dir=FOLDER

The classes are those of configs/omniglot.py: background alphabets train and
validate, evaluation alphabets are tested.
"""

from configs import omniglot
from metric_learning.training import base_config, with_model

SWEEPS = omniglot.SWEEPS


def get_config(loss: str = "supcon"):
  """200 steps without augmentation."""
  config = omniglot.get_config(loss)
  with config.unlocked():
    config.data.image_size = (24, 24)
    config.data.shift = config.data.rotate = config.data.scale = 0.0
    with_model(config, "conv3")
    config.train.steps = 200
    config.train.eval_every = 200
    config.train.save_every = 200
    config.eval.columns = base_config().eval.columns
    config.tune.folds = 2
  return config
