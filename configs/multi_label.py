"""Items with several labels: two letters in each image; closed-set.

python -m experiments.train --config=configs/multi_label.py \
  --workdir=runs/multi_label

Two images are similar if they have a letter in common (`any_label`), or by the
share of their letters that is common (`jaccard`); the sweep `relations`
compares the two. A retrieved image is right if it has a letter of the query.
Your own data: an npz file whose `labels` are [n, k], 1 in the column of each
class of an item and else 0, with --config.data.name=npz (or features),
--config.data.data_dir=FILE.npz and --config.data.split=images.
"""

from metric_learning.training import base_config, with_loss


def get_config(loss: str = "supcon"):
  """Batches of 128 images, drawn whatever their labels."""
  config = base_config()
  config.data.name = "glyph_pairs"
  config.data.split = "fonts"
  config.data.protocol = "closed-set"
  config.batch.sampler = "uniform"
  config.batch.classes_per_batch = 128
  config.batch.images_per_class = 1
  config.relation.name = "any_label"
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  return with_loss(config, loss).lock()


def relations():
  """A letter in common, or the share of common letters; three seeds."""
  for relation in ("any_label", "jaccard"):
    for seed in (0, 1, 2):
      yield {"relation.name": relation, "seed": seed}


SWEEPS = {"relations": relations}
