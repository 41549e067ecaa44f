"""Stanford Online Products: 11,318 products train, 11,316 are tested; open-set.

python -m experiments.prepare --dataset=sop --data_dir=FOLDER
python -m experiments.train --config=configs/sop.py \
  --config.data.data_dir=FOLDER --workdir=runs/sop

Most products have few images, the smallest have two.
"""

from configs import cub200
from metric_learning.study import standard_sweeps
from metric_learning.training import override

# P × K; the smallest classes have two images.
BATCHES = ((64, 2), (32, 2), (128, 2))
SWEEPS = standard_sweeps.sweeps(BATCHES)


def get_config(loss: str = "supcon"):
  """As cub200, two images a product."""
  changes = {
    "data.name": "sop",
    "batch.classes_per_batch": 64,
    "batch.images_per_class": 2,
  }
  return override(cub200.get_config(loss), changes)
