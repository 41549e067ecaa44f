"""Omniglot: 30 background alphabets, then 20 evaluation alphabets; open-set.

python -m experiments.prepare --dataset=omniglot --data_dir=FOLDER
python -m experiments.train --config=configs/omniglot.py \
  --config.data.data_dir=FOLDER --workdir=runs/omniglot

Episodes of tests are of evaluation alphabets. For other divisions
--config.data.split=matching, or configs/omniglot_koch.py; their numbers share
no column with these. The sweeps: `metric_learning.study.standard_sweeps`.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K of 20 images a class.
BATCHES = ((32, 4), (64, 2), (16, 8), (8, 16))


def get_config(loss: str = "supcon"):
  """28×28, resized by area; alphabets held out of the background validate."""
  config = base_config()
  config.data.name = "omniglot"
  config.data.split = "standard"
  config.data.protocol = "open-set"
  config.data.image_size = (28, 28)
  config.data.classes_per_batch = 32
  config.data.images_per_class = 4
  config.data.shift = 0.05
  config.data.rotate = 0.1
  config.data.scale = 0.1
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  config.eval.columns = (
    "own/recall_at_1",
    "own/map_at_r",
    "own/few_shot_5_way_1_shot",
    "own/few_shot_5_way_5_shot",
    "own/few_shot_20_way_1_shot",
    "own/few_shot_20_way_5_shot",
  )
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
