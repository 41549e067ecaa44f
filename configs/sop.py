"""Stanford Online Products: 11,318 products train, 11,316 are tested; open-set.

python -m experiments.prepare --dataset=sop --data_dir=FOLDER
python -m experiments.train --config=configs/sop.py \
  --config.data.data_dir=FOLDER --workdir=runs/sop

Most products have few images, the smallest have two.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K; the smallest classes have two images.
BATCHES = ((64, 2), (32, 2), (128, 2))


def get_config(loss: str = "supcon"):
  """64×64, two images a product."""
  config = base_config()
  config.data.name = "sop"
  config.data.split = "official"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.data.classes_per_batch = 64
  config.data.images_per_class = 2
  config.data.flip = True
  config.data.shift = 0.05
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
