"""Loads a finished run, from its own folder or from the folder of a study."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from metric_learning import evaluation
from metric_learning.errors import InputError
from metric_learning.inference.runs import FinishedRun
from metric_learning.specs import InputSpec
from metric_learning.study.results import Study, read_study
from metric_learning.study.runner import STUDY
from metric_learning.training import run_files
from metric_learning.training.config import from_dict
from metric_learning.training.embedding import (
  data_of,
  saved_state,
  trained_program,
)
from metric_learning.training.plan import num_classes


def load(folder: str | Path) -> FinishedRun:
  """Loads a finished run at its selected checkpoint.

  From the folder of a study, this loads the run with the best validation score
  in the cell that is best on validation. Test items are not used.

  Raises:
    InputError: if the folder holds neither a run nor a study, if the run is not
      finished, selected no checkpoint or was written by another version, or if
      its checkpoint is missing or damaged.
  """
  folder = Path(folder).expanduser()
  if (folder / STUDY).exists():
    folder = _best_of(read_study(folder))
  result = _result_of(folder)
  config = _config_of(folder / run_files.CONFIG)
  spec, classes, scale = _inputs_of(folder, config)
  program = trained_program(config, spec)
  like = program.init(config.seed, classes, result["numbers"])
  state = saved_state(config, folder, result["selected_step"], like)
  return FinishedRun(folder, config, result, spec, scale, program, state)


def _config_of(path: Path) -> ConfigDict:
  """Reads the config of a run; errors name its file."""
  try:
    return from_dict(run_files.read_json(path))
  except InputError as error:
    if str(path) in str(error):
      raise
    raise InputError(f"{path}: {error}") from error


def _best_of(study: Study) -> Path:
  """The folder of the best run of the best cell, by validation scores."""
  cells = [c for c in study.cells if np.isfinite(c.chosen.validation.mean)]
  if not cells:
    raise InputError(
      f"{study.folder}: no cell has validation scores of all its runs, so there"
      " is no best cell: give the folder of one of its runs."
    )
  selects = {
    run.spec.config.eval.select for c in cells for run in c.chosen.runs
  }
  if len(selects) > 1:
    raise InputError(
      f"{study.folder}: cells are chosen by different scores,"
      f" {' and '.join(sorted(selects))}: give the folder of one of its runs."
    )
  (select,) = selects
  better = min if evaluation.lower_is_better(select) else max
  best = better(cells, key=lambda cell: cell.chosen.validation.mean)
  return better(
    best.chosen.runs, key=lambda run: run.result["validation_selected"][select]
  ).folder


def _result_of(folder: Path) -> dict[str, Any]:
  """The result of a run, checked for use."""
  if not (folder / run_files.RESULT).exists():
    if (folder / run_files.CONFIG).exists():
      raise InputError(
        f"{folder} is a run that is not finished: repeat the command that"
        " trains it, and it continues."
      )
    raise InputError(
      f"{folder} holds neither a run nor a study ({run_files.RESULT} and"
      f" {STUDY} are missing): give the --workdir of experiments.train, or the"
      " --study of experiments.sweep."
    )
  result = run_files.read_json(folder / run_files.RESULT)
  if "diverged" in result:
    raise InputError(f"{folder}: the loss diverged, {result['diverged']}.")
  needed = {"selected_step", "numbers", "metric"}
  if not needed <= result.keys():
    raise InputError(
      f"{folder} was written by another version of the code: use its commit,"
      f" {result.get('commit', 'given in its environment.json')}."
    )
  if result["selected_step"] is None:
    raise InputError(
      f"{folder} selected no checkpoint: its validation score is not a number."
    )
  return result


def _inputs_of(folder: Path, config: ConfigDict) -> tuple[InputSpec, int, Any]:
  """The input spec, the number of classes in training, and the scale."""
  path = folder / run_files.INPUTS
  if path.exists():
    inputs = run_files.read_json(path)
    scale = inputs["scale"]
    return (
      InputSpec(tuple(inputs["shape"]), inputs["kind"]),
      inputs["num_classes"],
      None if scale is None else tuple(map(np.array, scale)),
    )
  # A run of an earlier version has no such file.
  splits = data_of(folder, config)
  train = splits.train
  return train.input_spec, num_classes(config, train), splits.scale
