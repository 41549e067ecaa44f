"""Cars: 98 models train, 98 others are tested; open-set.

python -m experiments.prepare --dataset=cars196 --data_dir=FOLDER
python -m experiments.train --config=configs/cars196.py \
  --config.data.data_dir=FOLDER --workdir=runs/cars196

Published numbers start from networks trained on ImageNet at 227 pixels or more;
this small network starts from nothing.
"""

from configs import cub200
from metric_learning.training import override

SWEEPS = cub200.SWEEPS


def get_config(loss: str = "supcon"):
  """As cub200: 64×64, a small network that starts from nothing."""
  return override(cub200.get_config(loss), {"data.name": "cars196"})
