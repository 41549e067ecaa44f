"""Glyphs: 382 letters of many scripts, drawn here; open-set.

make compare

runs the sweep `compare` below. More: `metric_learning.study.standard_sweeps`.
"""

from collections.abc import Iterator
from typing import Any

from metric_learning.study import standard_sweeps, sweep
from metric_learning.training import base_config, with_loss

SEEDS = (0, 1, 2)
# P × K; the smallest class has 12 images.
BATCHES = ((32, 4), (64, 2), (16, 8))


def get_config(loss: str = "infonce_per_pair"):
  """The recipe that every run of this file shares."""
  config = base_config()
  config.data.name = "glyphs"
  config.data.split = "random"
  config.data.split_seed = 1
  config.data.protocol = "open-set"
  config.normalize = "l2"
  config.margin_unit = "initial_mean"
  config.train.eval_every = 400
  config.train.save_every = 400
  return with_loss(config, loss).lock()


@sweep(reference={"loss.name": "contrastive", "metric.name": "l2"})
def compare() -> Iterator[dict[str, Any]]:
  """Four losses under L1 and L2, three margins or temperatures, three seeds.

  Margins and temperatures are in units of the mean distance at initialization,
  one grid for both metrics.
  """
  grids = {
    "contrastive": ("loss.margin", (0.5, 1.0, 1.5)),
    "triplet": ("loss.margin", (0.125, 0.25, 0.5)),
    "supcon": ("loss.temperature", (0.1, 0.2, 0.4)),
    "infonce_per_pair": ("loss.temperature", (0.05, 0.1, 0.2)),
  }
  for loss, (field, values) in grids.items():
    for metric in ("l1", "l2"):
      for value in values:
        for seed in SEEDS:
          yield {
            "loss.name": loss,
            "metric.name": metric,
            field: value,
            "seed": seed,
          }


SWEEPS = {"compare": compare, **standard_sweeps.sweeps(BATCHES)}
