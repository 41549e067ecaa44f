"""The four retrieval sets at 224×224 with a pretrained ViT-S/16.

python -m experiments.train --config=configs/vit_s16.py:cub200 \
  --config.data.data_dir=FOLDER --config.model.weights=FILE \
  --workdir=runs/cub200_vit_s16

SET after the colon is cub200, cars196, sop or inshop, prepared by
experiments.prepare; FILE is of DINO, timm, Hugging Face or big_vision
(docs/pretrained.md); the extra `stream`. Images as in configs/reality_check.py,
at 224×224; AdamW, whose rate falls by 0.75 from each block to the one before.
"""

from configs import reality_check
from metric_learning.training import override

SWEEPS = reality_check.SWEEPS


def get_config(name: str = "cub200"):
  """224×224, the class token; it begins from nothing without weights."""
  changes = {
    "data.image_size": (224, 224),
    "model.name": "vit_s16",
    "model.embedding_dim": 128,
    "model.stochastic_depth": 0.1,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 1e-4,
    "optimizer.decay": "kernels",
    "optimizer.schedule.warmup": 0.05,
    "optimizer.trunk.layer_decay": 0.75,
    "train.steps": 4000,
  }
  return override(reality_check.get_config(name), changes)
