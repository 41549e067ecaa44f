"""A run that takes a second: digits, a small dense network, few steps."""

from metric_learning.training import base_config, override, with_model


def tiny_config(**overrides):
  config = base_config()
  config.data.update(
    name="digits",
    split="images",
    protocol="closed-set",
  )
  config.batch.update(classes_per_batch=5, images_per_class=4)
  with_model(config, "mlp", embedding_dim=4)
  config.model.hidden = (16,)
  config.train.update(steps=6, log_every=2, eval_every=3, save_every=3)
  config.lock()
  dotted = {k.replace("__", "."): v for k, v in overrides.items()}
  return override(config, dotted)
