"""Labeled Faces in the Wild: ten folds of people; open-set, names are used.

python -m experiments.prepare --dataset=lfw --data_dir=FOLDER
python -m experiments.train --config=configs/lfw.py \
  --config.data.data_dir=FOLDER --workdir=runs/lfw --test
python -m experiments.sweep --config=configs/lfw.py --sweep=view2 \
  --config.data.data_dir=FOLDER

The first run is on View 1, to choose; the sweep is for one final report on View
2: a model for each fold, and the mean accuracy ± standard error over the ten.
With --config.data.split=view2_all one model is scored on all ten. These are
real people's faces.
"""

from metric_learning.training import base_config, with_loss, with_model


def get_config(loss: str = "supcon"):
  """64×64; two images a person, since most people have few."""
  config = base_config()
  config.data.name = "lfw"
  config.data.split = "view1"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.batch.classes_per_batch = 32
  config.batch.images_per_class = 2
  config.augment.flip = True
  config.augment.shift = 0.05
  with_model(config, "conv4")
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  config.eval.select = "own/eer"
  config.eval.columns = ("own/accuracy", "own/eer", "own/auc", "cosine/eer")
  config.study.columns = ("own/accuracy",)
  return with_loss(config, loss).lock()


def view2():
  """Each of the ten folds tested by a model that has not seen its people."""
  for fold in range(10):
    yield {"data.split": "view2", "data.fold": fold}


SWEEPS = {"view2": view2}
