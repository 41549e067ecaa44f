"""100 bird species of CUB: 50 train and validate, 50 others are tested.

python -m experiments.train --config=configs/cub100.py \
  --config.data.data_dir=FOLDER --workdir=runs/cub100

FOLDER holds cub100.zip, or what it unpacks to: docs/real_sets.md. A pretrained
network at full size: --config.model.name=efficientnet_lite0
--config.model.weights=FILE --config.data.image_size="(224, 224)"; heads on its
features: experiments/features.py.
"""

from configs import cub200
from metric_learning.training import override

SWEEPS = cub200.SWEEPS


def get_config(loss: str = "supcon"):
  """As cub200: 64×64, a small network that starts from nothing."""
  return override(cub200.get_config(loss), {"data.name": "cub100"})
