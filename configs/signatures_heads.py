"""Heads on frozen features of signatures: the split of signatures.

python -m experiments.features --config=configs/signatures.py \
  --config.data.data_dir=FOLDER --config.data.image_size="(160, 160)" \
  --config.model.name=efficientnet_lite0 --config.model.weights=FILE \
  --out=signatures.npz
python -m experiments.sweep --config=configs/signatures_heads.py \
  --sweep=media --config.data.data_dir=signatures.npz \
  --study=runs/signatures_heads
"""

from configs import signatures
from metric_learning.training import override


def get_config(loss: str = "supcon"):
  """A linear head; batches, columns and choice are those of signatures."""
  still = dict.fromkeys(("augment.shift", "augment.rotate", "augment.scale"), 0)
  return override(
    signatures.get_config(loss),
    {
      "data.name": "features",
      "data.split": "official",
      "data.image_size": (),
      **still,
      "model.name": "linear",
      "model.embedding_dim": 128,
      "train.steps": 300,
      "train.eval_every": 300,
      "train.save_every": 300,
    },
  )


SWEEPS = {"media": signatures.media}
