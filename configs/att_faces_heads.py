"""Heads on frozen features of the AT&T faces: the eight folds of att_faces.

python -m experiments.align --input=FOLDER --output=FACES --whole
python -m experiments.features --config=configs/att_faces.py \
  --config.data.data_dir=FACES --config.data.image_size="(150, 150)" \
  --config.model.name=dlib_face --config.model.weights=FILE \
  --folds=8 --out=att_faces.npz
python -m experiments.sweep --config=configs/att_faces_heads.py \
  --sweep=l1_vs_l2 --config.data.data_dir=att_faces.npz \
  --study=runs/att_faces_heads

FOLDER is what att_faces.zip unpacks to; FILE is docs/pretrained.md's for
dlib_face, which knows aligned faces alone.
"""

from configs import att_faces
from metric_learning.training import override


def get_config(loss: str = "contrastive"):
  """A linear head; batches, columns and choice are those of att_faces."""
  still = dict.fromkeys(("augment.shift", "augment.rotate", "augment.scale"), 0)
  return override(
    att_faces.get_config(loss),
    {
      "data.name": "features",
      "data.split": "official",
      "data.image_size": (),
      "augment.flip": False,
      **still,
      "model.name": "linear",
      "model.embedding_dim": 64,
      "margin_unit": "initial_mean",
    },
  )


def l1_vs_l2():
  """The hinge at d̄ under L1 and L2, three seeds in each fold."""
  for metric in ("l1", "l2"):
    for fold in range(8):
      for seed in range(3):
        yield {"metric.name": metric, "data.fold": fold, "seed": seed}


SWEEPS = {"l1_vs_l2": l1_vs_l2}
