"""Fixtures of the tests of data sets."""

import ml_collections
import pytest


@pytest.fixture
def data_config():
  """A function that makes the section `data` of a config."""

  def make(name, split, protocol, **changes):
    fields = {"data_dir": "", "split_seed": 0, "fold": 0, "image_size": ()}
    fields |= {"stream": False, "train_on": "train", "background": 255}
    fields |= {"small_classes": "refuse"}
    fields |= {"validation_folds": 1, "validation_fold": 0}
    fields |= {"name": name, "split": split, "protocol": protocol} | changes
    return ml_collections.ConfigDict(fields)

  return make
