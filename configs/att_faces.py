"""AT&T faces: 40 people, 10 images each; subject-disjoint, open-set.

python -m experiments.sweep --config=configs/att_faces.py --sweep=l1_vs_l2 \
  --config.data.data_dir=FOLDER

FOLDER holds att_faces.zip, or s1 … s40. About 25 minutes on two cores; EER over
folds 16.5 % (chopra2005, 2005), 12.9 % (chopra2005, 2006), 9.9 % (conv4, 2005)
and 8.8 % (conv4, 2006): results/att_faces.md.
"""

from metric_learning.training import base_config, with_loss, with_model


def get_config(loss: str = "contrastive_2005"):
  """56×46 images, folds of five people, as in Chopra et al. 2005."""
  config = base_config()
  config.data.name = "att_faces"
  config.data.split = "folds"
  config.data.protocol = "open-set"
  config.data.image_size = (56, 46)
  config.batch.classes_per_batch = 10
  config.batch.images_per_class = 5
  config.augment.flip = True
  config.augment.shift = 0.05
  config.augment.rotate = 0.1
  config.augment.scale = 0.1
  with_model(config, "chopra2005", embedding_dim=50)
  # Without it the outputs of the network saturate before they separate.
  config.normalize = "l2"
  config.optimizer.learning_rate = 1e-3
  # 300 images are soon learned by heart: half of the runs are best by step 50.
  config.train.steps = 150
  config.train.eval_every = 25
  config.train.save_every = 25
  config.eval.select = "own/eer"
  config.eval.columns = (
    "own/eer",
    "own/frr_at_far_0.1",
    "own/frr_at_far_0.075",
    "own/frr_at_far_0.05",
    "own/recall_at_1",
  )
  config.study.columns = ("own/eer",)
  return with_loss(config, loss).lock()


def l1_vs_l2():
  """The loss of 2005 under L1 and that of 2006 under L2, on two networks.

  Q and margin are in units of the mean distance at initialization; trials on
  validation subjects of some folds chose them, whom other folds test.
  """
  settings = (
    ("contrastive_2005", "l1", {"loss.upper_bound": 2.0}),
    ("contrastive", "l2", {"loss.margin": 1.0}),
  )
  # conv4 at half the size: its first layer keeps every pixel of 64 maps.
  for model, size in (("chopra2005", (56, 46)), ("conv4", (28, 23))):
    for loss, metric, number in settings:
      for fold in range(8):
        yield {
          "model.name": model,
          "data.image_size": size,
          "loss.name": loss,
          "metric.name": metric,
          "margin_unit": "initial_mean",
          **number,
          "data.fold": fold,
        }


SWEEPS = {"l1_vs_l2": l1_vs_l2}
