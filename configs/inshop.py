"""In-shop clothes: 3,997 items train; 3,985 are queries and gallery; open-set.

python -m experiments.prepare --dataset=inshop --data_dir=FOLDER \
  --manual_dir=ARCHIVES
python -m experiments.train --config=configs/inshop.py \
  --config.data.data_dir=FOLDER --workdir=runs/inshop

ARCHIVES holds img.zip and list_eval_partition.txt, which are given to those who
accept the terms of DeepFashion.
"""

from configs import sop
from metric_learning.training import override

SWEEPS = sop.SWEEPS


def get_config(loss: str = "supcon"):
  """As sop, two images an item."""
  return override(sop.get_config(loss), {"data.name": "inshop"})
