"""Half of Stanford Cars: 98 models train and validate, 98 others are tested.

python -m experiments.train --config=configs/cars_train.py \
  --config.data.data_dir=FOLDER --workdir=runs/cars_train

FOLDER holds cars_train.zip, or what it unpacks to: docs/real_sets.md. A
pretrained network at full size: --config.model.name=efficientnet_lite0
--config.model.weights=FILE --config.data.image_size="(224, 224)"; heads on its
features: experiments/features.py.
"""

from configs import cub100
from metric_learning.training import override

SWEEPS = cub100.SWEEPS


def get_config(loss: str = "supcon"):
  """As cub100: 64×64, a small network that starts from nothing."""
  return override(cub100.get_config(loss), {"data.name": "cars_train"})
