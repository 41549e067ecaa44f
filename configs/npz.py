"""Your own arrays: one npz file with `images` and `labels`.

python -m experiments.train --config=configs/npz.py \
  --config.data.data_dir=FILE.npz --workdir=runs/mine

`images` is uint8, [n, h, w] or [n, h, w, c], `labels` integers or strings; an
array `class_names` may name them. Half of the classes train, a fifth
validates, the rest test. Other splits, by --config.data.split: `half`, the
first half of the classes to the second; `folds`, five of them
(--config.data.fold); `images`, all classes in all parts, with
--config.data.protocol=closed-set; `official`, what an array `split` says:
"train", "validation" or "test" for each image, or "query" and "gallery" in
place of "test". An array `groups` names the sequence or camera of each image:
of one class, images of one group do not answer each other. Where an image has
several labels, `labels` is [n, k]: see multi_label.py.
"""

from metric_learning.study import standard_sweeps
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((8, 4), (16, 2), (4, 8))


def get_config(loss: str = "supcon"):
  """Images keep their size."""
  config = base_config()
  config.data.name = "npz"
  config.data.split = "classes"
  config.data.protocol = "open-set"
  config.batch.classes_per_batch = 8
  config.batch.images_per_class = 4
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


SWEEPS = standard_sweeps.sweeps(BATCHES)
