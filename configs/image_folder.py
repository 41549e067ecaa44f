"""Your own images: a folder with a folder of images for each class.

python -m experiments.train --config=configs/image_folder.py \
  --config.data.data_dir=FOLDER --workdir=runs/mine

PNG, JPEG, WebP, GIF, BMP, TIFF and PPM; half of the classes train, a fifth
validates, the rest test. Other splits, by --config.data.split: `half`, the
first half of the classes to the second; `folds`, five of them
(--config.data.fold); `images`, all classes in all parts, with
--config.data.protocol=closed-set; `official`, where the class folders lie in
train/, validation/ (if there is one) and test/, or query/ and gallery/.

Images are turned as their EXIF orientation says, transparency shows
--config.data.background, and of an animation the first frame is taken.
--config.data.small_classes=repeat or drop takes classes with few images too.
"""

from metric_learning.study import standard_sweeps, sweep
from metric_learning.training import base_config, with_loss, with_model

# P × K.
BATCHES = ((8, 4), (16, 2), (4, 8))


def get_config(loss: str = "supcon"):
  """Images are resized to 64×64."""
  config = base_config()
  config.data.name = "image_folder"
  config.data.split = "classes"
  config.data.protocol = "open-set"
  config.data.image_size = (64, 64)
  config.batch.classes_per_batch = 8
  config.batch.images_per_class = 4
  config.augment.flip = True
  with_model(config, "conv4")
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 250
  config.train.save_every = 250
  return with_loss(config, loss).lock()


@sweep(reference={"loss.name": "contrastive", "metric.name": "l2"})
def compare():
  """Four losses under L1 and L2, with defaults in units of d̄, three seeds.

  The sweep of this name in configs/glyphs.py tries three margins or
  temperatures too.
  """
  for loss in ("contrastive", "triplet", "supcon", "infonce_per_pair"):
    for metric in ("l1", "l2"):
      for seed in range(3):
        yield {"loss.name": loss, "metric.name": metric, "seed": seed}


SWEEPS = {"compare": compare, **standard_sweeps.sweeps(BATCHES)}
