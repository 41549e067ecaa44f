"""Runs as they lie on disk, made without training."""

import numpy as np

from metric_learning.training import records
from metric_learning.training.config import as_dict, digest


def clusters(seed, classes=3, images=8, dim=2, spread=0.3):
  """Gaussian clusters around well-separated centres."""
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(classes), images).astype(np.int32)
  centres = 4 * rng.normal(size=(classes, dim))
  points = centres[labels] + spread * rng.normal(size=(len(labels), dim))
  return points.astype(np.float32), labels


def write_run(folder, config, score=0.5, seed=0, diverged=False, dim=2):
  """A finished run of a config; `score` is what validation gave it."""
  folder.mkdir(parents=True)
  records.write_json(folder / records.CONFIG, as_dict(config))
  if diverged:
    records.write_json(folder / records.RESULT, {"diverged": "at step 3"})
    return folder
  arrays = {}
  for number, part in enumerate(("validation", "test")):
    points, labels = clusters(100 * number + seed, dim=dim, spread=2.0)
    arrays |= {f"{part}_embeddings": points, f"{part}_labels": labels}
  records.write_arrays(folder / records.EMBEDDINGS, arrays)
  loss = {k: v for k, v in config.loss.items() if isinstance(v, float)}
  result = {
    "digest": digest(config),
    "metric": config.metric or "l2",
    "numbers": {f"loss.{name}": 2 * value for name, value in loss.items()},
    "validation_selected": {config.eval.select: score},
  }
  records.write_json(folder / records.RESULT, result)
  return folder
