"""Data sets that are read once in a process."""

import json

from ml_collections import ConfigDict

from metric_learning.data import Splits, load
from metric_learning.data.validation_folds import hold_out

# No part is held out otherwise than the split does.
_UNCUT = {"validation_folds": 1, "validation_fold": 0, "train_on": "train"}
_SPLITS: dict[str, Splits] = {}


def load_once(config: ConfigDict) -> Splits:
  """What `data.load` gives for a section `data`; items are read once."""
  key = json.dumps(config.to_dict(), sort_keys=True)
  if key not in _SPLITS:
    uncut = ConfigDict(config.to_dict() | _UNCUT).lock()
    _SPLITS[key] = (
      load(config)
      if uncut.to_dict() == config.to_dict()
      else hold_out(load_once(uncut), config)
    )
  return _SPLITS[key]
