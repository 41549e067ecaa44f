"""Data sets that each process reads only once."""

import json

from ml_collections import ConfigDict

from metric_learning.data import Splits, load
from metric_learning.data.validation_folds import hold_out

# The values of these fields that leave the parts as the split makes them.
_UNCUT = {
  "validation_folds": 1,
  "validation_fold": 0,
  "validation_draw": 0,
  "train_on": "train",
}
# Data sets with other validation parts are copies: all the draws of a large
# study would fill the memory.
_MOST_CUT = 8
_WHOLE: dict[str, Splits] = {}
_CUT: dict[str, Splits] = {}


def load_once(config: ConfigDict) -> Splits:
  """The result of `data.load` for a section `data`; items are read once."""
  fields = config.to_dict()
  key = json.dumps(fields, sort_keys=True)
  uncut = {**fields, **{k: v for k, v in _UNCUT.items() if k in fields}}
  if uncut == fields:
    if key not in _WHOLE:
      _WHOLE[key] = load(config)
    return _WHOLE[key]
  if key not in _CUT:
    found = hold_out(load_once(ConfigDict(uncut).lock()), config)
    while len(_CUT) >= _MOST_CUT:
      _CUT.pop(next(iter(_CUT)), None)
    _CUT[key] = found
  return _CUT[key]
