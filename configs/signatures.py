"""Signatures: 53 writers train, 15 validate, 25 others are tested.

python -m experiments.train --config=configs/signatures.py \
  --config.data.data_dir=FOLDER --workdir=runs/signatures

FOLDER holds signatures.zip, or what it unpacks to: docs/real_sets.md, which has
the other splits too: enrolment on paper, and verification on a phone.
"""

from collections.abc import Iterator
from typing import Any

from metric_learning.study import standard_sweeps, sweep
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((16, 4), (32, 2), (8, 8))


def get_config(loss: str = "supcon"):
  """96×96, a small network that starts from nothing."""
  config = base_config()
  config.data.name = "signatures"
  config.data.split = "writers"
  config.data.protocol = "open-set"
  config.data.image_size = (96, 96)
  config.batch.classes_per_batch = 16
  config.batch.images_per_class = 4
  config.augment.shift = 0.05
  config.augment.rotate = 0.1
  config.augment.scale = 0.1
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  config.eval.select = "own/eer"
  config.eval.columns = (
    "own/eer",
    "own/frr_at_far_0.05",
    "own/recall_at_1",
    "own/map_at_r",
  )
  config.study.columns = ("own/eer",)
  return with_loss(config, loss).lock()


@sweep(reference={"metric.name": "l1"})
def media() -> Iterator[dict[str, Any]]:
  """Three cells with six seeds each, for experiments.benchmarks.media."""
  cells = (("contrastive", "l1"), ("contrastive", "l2"), ("supcon", "cosine"))
  for loss, metric in cells:
    for seed in range(6):
      yield {"loss.name": loss, "metric.name": metric, "seed": seed}


SWEEPS = {"media": media, **standard_sweeps.sweeps(BATCHES)}
