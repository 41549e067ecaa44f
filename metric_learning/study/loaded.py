"""The data of runs, read once in a process."""

import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from metric_learning import data
from metric_learning.data.held_out import hold_out
from metric_learning.study.sweeps import RunSpec
from metric_learning.training.config import AUGMENTATIONS, as_dict, override

# Fields of the data that say what a step makes of them.
OF_BATCHES = (
  *("sampler", "classes_per_batch", "images_per_class"),
  *("superclasses_per_batch", "num_triplets", "num_pairs", "views"),
  *AUGMENTATIONS,
)
# Without a part that is held out otherwise than the split does.
_UNCUT = {
  "data.validation_folds": 1,
  "data.validation_fold": 0,
  "data.train_on": "train",
}
_SPLITS: dict[str, data.Splits] = {}


def load_once(config: ConfigDict) -> data.Splits:
  """The data of a config; images are read once in a process."""
  fields = as_dict(config)["data"].items()
  key = json.dumps({k: v for k, v in fields if k not in OF_BATCHES})
  if key not in _SPLITS:
    uncut = override(config, _UNCUT)
    _SPLITS[key] = (
      data.load(config.data)
      if uncut.data == config.data
      else hold_out(load_once(uncut), config.data)
    )
  return _SPLITS[key]


def data_of(specs: Sequence[RunSpec]) -> dict[str, Any]:
  """What runs load: the `identity` of each data set, by one of its runs."""
  found: dict[str, Any] = {}
  for spec in sorted(specs, key=lambda spec: spec.name):
    identity = load_once(spec.config).identity
    if identity not in found.values():
      found[spec.name] = identity
  return found
