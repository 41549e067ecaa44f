"""How much of a pretrained network to train: EfficientNet-Lite0, two real sets.

python -m experiments.sweep --config=configs/finetune.py:cars_train \
  --sweep=depths --study=runs/finetune_cars_train \
  --config.data.data_dir=FOLDER --config.model.weights=FILE

SET after the colon is cars_train or cub100 (docs/real_sets.md), FILE as
docs/pretrained.md says. 112×112 pixels and 300 steps, which a CPU does in
minutes a run; --config.data.image_size="(224, 224)" is the size of the file.
"""

from collections.abc import Iterator
from typing import Any

from configs import cub100
from metric_learning.errors import check_choice
from metric_learning.study import standard_sweeps, sweep
from metric_learning.training import override

# P × K.
BATCHES = ((8, 4), (16, 2), (4, 8))
SETS = ("cars_train", "cub100")
SEEDS = (0, 1, 2)
# Each under its own metric.
LOSSES = {"contrastive": "l2", "supcon": "cosine", "multi_similarity": "cosine"}
# What is trained: the head; the last third of the blocks too; everything.
DEPTHS: dict[str, dict[str, Any]] = {
  "head": {"optimizer.trunk.freeze": True},
  "last": {"optimizer.trunk.last_layers": 6},
  "all": {"optimizer.trunk.freeze": False},
}


def get_config(name: str = "cars_train"):
  """112×112, a trunk that learns at a tenth of the head's rate."""
  check_choice("set of configs/finetune.py", name, SETS)
  return override(
    cub100.get_config(),
    {
      "data.name": name,
      "data.image_size": (112, 112),
      "batch.classes_per_batch": 8,
      "model.name": "efficientnet_lite0",
      "model.embedding_dim": 128,
      "model.frozen_norm": True,
      "optimizer.learning_rate": 3e-3,
      "optimizer.trunk.factor": 0.1,
      "train.steps": 300,
      "train.eval_every": 300,
      "train.save_every": 300,
    },
  )


@sweep(reference={"optimizer.trunk.freeze": True})
def depths() -> Iterator[dict[str, Any]]:
  """The head, the last blocks or all of the network; three losses and seeds."""
  for loss, metric in LOSSES.items():
    for fields in DEPTHS.values():
      for seed in SEEDS:
        yield {"loss.name": loss, "metric.name": metric, **fields, "seed": seed}


@sweep(reference={"train.steps": 150})
def steps() -> Iterator[dict[str, Any]]:
  """All of the network under the contrastive loss, for longer."""
  for number in (150, 600):
    for seed in SEEDS:
      yield {
        "loss.name": "contrastive",
        "metric.name": "l2",
        "optimizer.trunk.freeze": False,
        "train.steps": number,
        "seed": seed,
      }


SWEEPS = {"depths": depths, "steps": steps, **standard_sweeps.sweeps(BATCHES)}
