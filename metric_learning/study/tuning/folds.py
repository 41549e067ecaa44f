"""One run of a trial, on one validation fold with one seed."""

import math
import shutil
import time
from pathlib import Path

from ml_collections import ConfigDict

from metric_learning.data.loaded import load_once
from metric_learning.training import NotFiniteError, train
from metric_learning.training.config import override


def with_fold(config: ConfigDict, fold: int, seed: int) -> ConfigDict:
  """The config of a run on one fold, without training on the validation part.

  The seed also draws the folds. With one fold, it is the validation part of the
  split.
  """
  fields = {
    "seed": seed,
    "data.validation_folds": config.tune.folds,
    "data.validation_fold": fold,
    "data.validation_draw": seed if config.tune.folds > 1 else 0,
    "data.train_on": "train",
  }
  return override(config, fields)


# The seconds of training that a kill may cost a trial.
_SAVE_AFTER = 60.0


def train_fold(run: ConfigDict, workdir: Path) -> tuple[float, float, str]:
  """Trains a trial on one fold; returns score, seconds and any failure."""
  started, seconds, failure = time.perf_counter(), 0.0, ""
  score = math.nan
  try:
    result = train(
      run,
      workdir,
      splits=load_once(run.data),
      progress=False,
      embeddings=False,
      save_after=_SAVE_AFTER,
    )
    seconds = result["seconds"]
    score = result["validation_selected"][run.eval.select]
    if not math.isfinite(score):
      raise NotFiniteError(f"{workdir}: the score is not finite")
  except NotFiniteError as error:
    seconds += time.perf_counter() - started
    failure = str(error)
  # Checkpoints are large, and not needed again.
  shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
  return score, seconds, failure
