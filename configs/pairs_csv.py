"""Your own pairs: images that are the same or not, or how similar they are.

python -m experiments.train --config=configs/pairs_csv.py \
  --config.data.data_dir=FOLDER --workdir=runs/pairs

FOLDER holds train.csv, validation.csv and test.csv with the columns first and
second (image files, relative to FOLDER) and same (1 or 0) or similarity (0 to
1); for the latter --config=configs/pairs_csv.py:pair_regression. Pairs with a
similarity of ½ or more count as the same in batches and scores.
"""

from metric_learning.training import base_config, with_loss, with_model


def get_config(loss: str = "pair_bce"):
  """32 same and 32 different pairs a batch; images are resized to 64×64."""
  config = base_config()
  config.data.name = "pairs_csv"
  config.data.split = "files"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.batch.sampler = "pairs"
  config.augment.flip = True
  with_model(config, "conv4")
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  config.eval.select = "own/eer"
  config.eval.columns = ("own/eer", "own/auc", "cosine/eer", "cosine/auc")
  config.study.columns = ("own/eer",)
  return with_loss(config, loss).lock()


def losses():
  """Three losses of pairs with their defaults, three seeds."""
  for loss in ("pair_bce", "pair_regression", "contrastive"):
    for seed in range(3):
      yield {"loss.name": loss, "seed": seed}


SWEEPS = {"losses": losses}
