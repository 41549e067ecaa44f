"""Classes within super-classes: letters, and the scripts they are of; open-set.

python -m experiments.train --config=configs/hierarchical.py \
  --workdir=runs/hierarchical

Two images of one letter are similar by 1, two letters of one script by the
first of `relation.weights`, and letters of two scripts are not similar. The
table has retrieval by letter and by script. The sweep `relations` compares
weights with letters alone. Any data set with super-classes will do: omniglot
(alphabets), cifar100 (coarse classes).
"""

from metric_learning.training import base_config, override, with_loss


def get_config(loss: str = "contrastive"):
  """As glyphs.py, with a relation of two levels."""
  config = base_config()
  config.data.name = "glyphs"
  config.data.split = "random"
  config.data.split_seed = 1
  config.data.protocol = "open-set"
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.eval.columns = (
    "own/recall_at_1",
    "own/map_at_r",
    "own/superclass_recall_at_1",
    "own/superclass_map_at_r",
  )
  levels = {"relation.name": "levels", "relation.weights": (0.1, 1.0)}
  return override(with_loss(config, loss), levels)


def relations():
  """Letters alone, and scripts at two weights; three seeds."""
  for weight in (None, 0.1, 0.3):
    relation = {"relation.name": "same_label"}
    if weight is not None:
      relation = {"relation.name": "levels", "relation.weights": (weight, 1.0)}
    for seed in (0, 1, 2):
      yield {**relation, "seed": seed}


SWEEPS = {"relations": relations}
