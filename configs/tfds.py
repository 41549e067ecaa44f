"""Any set of tensorflow-datasets with an `image` and a `label`.

pip install -e '.[tfds]'
python -m experiments.train --config=configs/tfds.py \
  --config.data.name=tfds:svhn_cropped --config.data.data_dir=FOLDER \
  --workdir=runs/svhn

FOLDER is where `tfds build svhn_cropped --file_format=array_record
--data_dir=FOLDER` prepared it: that takes TensorFlow, training does not. Half
of the classes train, a fifth validates, the rest test. Other splits, by
--config.data.split: `half`, the first half of the classes to the second;
`folds`, five of them (--config.data.fold); `images`, all classes in all parts,
with --config.data.protocol=closed-set; `official`, its own parts.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((4, 16), (4, 8), (4, 32))


def get_config(loss: str = "supcon"):
  """Images are resized to 32×32."""
  config = base_config()
  config.data.name = "tfds:svhn_cropped"
  config.data.split = "classes"
  config.data.protocol = "open-set"
  config.data.image_size = (32, 32)
  config.data.classes_per_batch = 4
  config.data.images_per_class = 16
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
