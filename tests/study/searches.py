"""Searches whose trials take no time, with known scores."""

import optuna
import pytest

from metric_learning.study import (
  make_specs,
  tuning,
)
from tests.tiny import tiny_config

CONFIG = tiny_config(
  loss__name="contrastive",
  tune__searches=1,
  tune__trials=6,
  tune__folds=2,
  tune__finalists=0,
  tune__final_seeds=2,
  train__steps=2,
  train__eval_every=1,
  train__save_every=1,
)
ONE = ({"metric.name": "l2"},)


def near(config):
  """A score that is best at margin 0.7, and differs between folds."""
  distance = abs(config.loss.margin - 0.7)
  return 1 - distance / 2 - 0.1 * config.data.validation_fold


def result_of(score, name="own/map_at_r"):
  """The part of a run's result that tuning reads."""
  return {"seconds": 1.0, "validation_selected": {name: score}}


def fake_train(score, said=lambda workdir: None):
  """Replaces training: returns a known score."""

  def train(config, workdir, **_):
    workdir.mkdir(exist_ok=True)
    said(workdir)
    return result_of(score(config))

  return train


def search(folder, sweep=ONE, storage="", config=CONFIG, train=None):
  """A search in a journal file, the fastest storage, or in another storage."""
  storage = f"{folder}.journal" if storage == "" else storage
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tuning.folds, "train", train or fake_train(near))
    return tuning.search(config, make_specs(config, sweep), folder, storage)


def trials_of(folder, storage="", cell="metric.name=l2", number=0):
  storage = f"{folder}.journal" if storage == "" else storage
  storage = storage or f"sqlite:///{folder}/trials.db"
  with tuning.storage.open_storage(storage) as opened:
    name = f"{folder.name}: {cell}, search {number}"
    return optuna.load_study(study_name=name, storage=opened).get_trials()
