"""Handwritten digits (8×8, with scikit-learn): closed-set, for 2-D maps.

python -m experiments.train --config=configs/digits.py --workdir=runs/digits

All ten classes are seen in training; test images are not. The embedding is
2-D and L2-normalization is off, so that the space can be drawn as it is.
"""

from metric_learning.training import base_config, with_loss, with_model


def get_config(loss: str = "contrastive"):
  """A small dense network to the plane."""
  config = base_config()
  config.data.name = "digits"
  config.data.split = "images"
  config.data.protocol = "closed-set"
  config.batch.classes_per_batch = 10
  config.batch.images_per_class = 12
  with_model(config, "mlp", embedding_dim=2)
  config.optimizer.learning_rate = 1e-3
  config.train.steps = 1000
  config.train.eval_every = 500
  config.train.save_every = 500
  config.metric.name = "l2"
  config.normalize = "none"
  return with_loss(config, loss).lock()


def losses():
  """Pair and triplet losses in the plane, one seed each, to look at.

  `lifted` pushes the logarithm of a sum over all negatives below its margin of
  1, which takes a plane ten times as wide as margins of 1 do elsewhere. Theirs
  are such that one scale shows all four.
  """
  for loss, margin in (
    ("contrastive", 8.0),
    ("contrastive_sq_margin", 8.0),
    ("triplet", 1.5),
    ("lifted", 1.0),
  ):
    yield {"loss.name": loss, "loss.margin": margin, "seed": 0}


SWEEPS = {"losses": losses}
