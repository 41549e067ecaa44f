"""The four retrieval sets with the preprocessing of "Reality Check" (2020).

python -m experiments.train --config=configs/reality_check.py:cub200 \
  --config.data.data_dir=FOLDER --config.model.weights=FILE.pth \
  --workdir=runs/cub200_resnet50

SET after the colon is cub200, cars196, sop or inshop, prepared by
experiments.prepare; FILE.pth is ResNet-50 of torchvision (docs/pretrained.md);
the extra `stream`. The short side becomes 256; a random part of 16 to 100 % of
the area, 3/4 to 4/3 its shape, becomes 227×227, and is mirrored or not; tests
see the middle. Batches of 8 classes × 4; one linear layer to 128 dimensions;
batch normalization frozen; RMSprop of rate 1e-6.

Departures: their network is BN-Inception. Their weight decay is part of the
gradient, ours is decoupled. They stop after 18 evaluations without a gain; here
the best checkpoint is kept. Four folds of validation classes:
--config.data.validation_folds=4 and --config.data.validation_fold=0 to 3.
"""

from configs import cub200
from metric_learning.errors import check_choice
from metric_learning.study import standard_sweeps
from metric_learning.training import override

# P × K; small classes fill their places more than once.
BATCHES = ((8, 4), (16, 2), (4, 8))
SWEEPS = standard_sweeps.sweeps(BATCHES)
SETS = ("cub200", "cars196", "sop", "inshop")


def get_config(name: str = "cub200"):
  """227×227, ResNet-50; it begins from nothing until weights are given."""
  check_choice("set of configs/reality_check.py", name, SETS)
  decay = {
    f"optimizer.{group}.weight_decay": 1e-4 for group in ("trunk", "head")
  }
  changes = {
    "data.name": name,
    "data.image_size": (227, 227),
    "data.short_side": 256,
    "data.random_crop": 0.84,
    "data.small_classes": "repeat",
    "data.stream": True,
    "batch.classes_per_batch": 8,
    "augment.shift": 0.0,
    "model.name": "resnet50",
    "model.embedding_dim": 128,
    "model.frozen_norm": True,
    "optimizer.name": "rmsprop",
    "optimizer.b2": 0.99,
    "optimizer.momentum": 0.9,
    "optimizer.learning_rate": 1e-6,
    "optimizer.schedule.warmup": 0.0,
    "optimizer.decay": "all",
    "train.steps": 20_000,
    "train.eval_every": 200,
    "train.save_every": 200,
  }
  return override(cub200.get_config(), {**changes, **decay})
