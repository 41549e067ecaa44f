"""Trials of cells: begun, gone on with, pruned, and what they chose."""

import contextlib
import json
import logging
import math
import platform
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import optuna
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial, Trial, TrialState

from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.losses.search import Grid
from metric_learning.study.ranges import (
  Ranges,
  as_list,
  grid_points,
  on_edge,
  ranges_of,
  rounded,
  start_of,
)
from metric_learning.study.runner import STUDY, data_of, only_here
from metric_learning.study.sweeps import RunSpec, make_specs
from metric_learning.study.tuning.checks import check, with_fold
from metric_learning.study.tuning.storage import (
  expanded,
  explained,
  open_storage,
  shown,
)
from metric_learning.training import NotFiniteError, run_files, train
from metric_learning.training.config import (
  as_dict,
  hyper_parameters,
  of_study,
  override,
)

SEARCH = "search.json"
TUNING = "tuning.json"
TRIALS = "trials"
DATABASE = "trials.db"

_FREE_NAME = (
  "Choose another --study or --storage; if that folder is gone, `optuna"
  " delete-study` frees the name."
)

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Search(NamedTuple):
  """One cell: its spec, what is searched, its Optuna study and its folder."""

  cell: RunSpec
  ranges: Ranges
  name: str
  folder: Path


def search(
  config: ConfigDict,
  cells: Sequence[RunSpec],
  folder: str | Path,
  storage: str | None = None,
) -> list[dict[str, Any]]:
  """Does what is missing of all trials, and returns what each cell chose.

  Any number of processes may do so at once; machines that do share the folder
  and the storage. Every trial trains with the seed of the config; its first is
  the default of each value, where that is in the range.

  Writes search.json, the identity of the search; trials/<cell>/, with a run
  folder for each trial and fold; and, last, tuning.json.

  Args:
    config: what the cells have in common.
    cells: runs of a sweep, without numbers that are searched.
    folder: of the study.
    storage: a database's URL, or a journal file; None for a SQLite file in the
      folder.

  Raises:
    InputError: for a config, a run, a storage or a folder that cannot be used.
  """
  folder = Path(folder)
  check(config, cells)
  run_files.make_folder(folder)
  identity = run_files.identity(
    storage=storage and shown(storage),
    config=_whole(config),
    study=of_study(config),
    data=data_of(cells),
    rows={cell.name: as_dict(cell.config) for cell in cells},
  )
  where = expanded(storage or f"sqlite:///{folder / DATABASE}")
  with explained(where), contextlib.ExitStack() as held:
    # Of several processes that start at once, one makes what all need.
    with only_here(folder):
      _refuse_another(folder, identity)
      opened = held.enter_context(open_storage(where))
      run_files.make_folder(folder / TRIALS)
      searches = [_start(cell, folder, opened) for cell in cells]
      if not (folder / SEARCH).exists():
        run_files.write_json(folder / SEARCH, identity)
    while not all([_work(s, opened) for s in searches]):
      time.sleep(1)  # Others have the trials that are left.
    chosen = [_summary(s, opened) for s in searches]
  run_files.write_json(folder / TUNING, chosen)
  return chosen


def _whole(config) -> dict[str, Any]:
  """What a trial depends on: the run, and how it is tuned."""
  return {**as_dict(config), "tune": json.loads(config.tune.to_json())}


def _refuse_another(folder: Path, identity: dict[str, Any]) -> None:
  if (folder / SEARCH).exists():
    run_files.refuse_another(folder / SEARCH, identity)
  elif (folder / STUDY).exists():
    raise InputError(
      f"{folder} holds a study that was not tuned: choose another --study, or"
      " delete it."
    )


def _start(cell: RunSpec, folder: Path, storage) -> Search:
  """Makes the Optuna study of a cell with all its trials, or finds it."""
  ranges = ranges_of(cell.config)
  name = f"{folder.resolve().name}: {cell.name}"
  lower = lower_is_better(cell.config.eval.select)
  study = optuna.create_study(
    storage=storage,
    study_name=name,
    direction="minimize" if lower else "maximize",
    load_if_exists=True,
  )
  config = _whole(cell.config)
  here = _folder_id(folder)
  there = study.user_attrs
  if there.get("config", config) != config:
    raise InputError(
      f"the storage holds another study of the name {name!r}:"
      f" {run_files.difference(there['config'], config)}. {_FREE_NAME}"
    )
  if there.get("folder", here) != here:
    raise InputError(
      f"the storage holds the study {name!r} of another folder,"
      f" {there.get('place')}: whoever works on a study shares its folder."
      f" {_FREE_NAME}"
    )
  study.set_user_attr("config", config)
  study.set_user_attr("place", f"{platform.node()}:{folder.resolve()}")
  study.set_user_attr("folder", here)
  points = _first_points(cell.config, ranges)
  for point in points[len(study.get_trials(deepcopy=False)) :]:
    study.enqueue_trial(point)
  run_files.make_folder(folder / TRIALS / cell.name)
  return Search(cell, ranges, name, folder / TRIALS / cell.name)


def _folder_id(folder: Path) -> str:
  """Tells a folder from others of its name, on whatever machine it is seen."""
  path = folder / TRIALS / "folder.json"
  if not path.exists():
    run_files.write_json(path, uuid.uuid4().hex)
  return run_files.read_json(path)


def _first_points(config, ranges: Ranges) -> list[dict[str, Any]]:
  """What is known of each trial before it starts."""
  trials = config.tune.trials
  if config.tune.sampler == "grid":
    return grid_points(ranges, trials)
  numbers = run_files.flatten(as_dict(config))
  numbers |= {f"loss.{k}": v for k, v in hyper_parameters(config).items()}
  return [start_of(ranges, numbers), *({} for _ in range(trials - 1))]


def _work(search: Search, storage) -> bool:
  """Runs all trials that are free; whether all of the cell are finished."""
  for frozen in _trials(search, storage):
    if frozen.state.is_finished():
      continue
    lock = filelock.FileLock(search.folder / f"{frozen.number:03}.lock")
    try:
      held = lock.acquire(blocking=False)
    except filelock.Timeout:
      continue  # Another process works on it.
    with held:
      now = storage.get_trial(frozen._trial_id)
      if now.state == TrialState.WAITING:
        storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
      # Running, and nobody has the lock: who had it was killed.
      if not now.state.is_finished():
        _run(search, now, storage)
  return all(t.state.is_finished() for t in _trials(search, storage))


def _trials(search: Search, storage) -> list[FrozenTrial]:
  """The trials of a cell, as they are now."""
  study = optuna.load_study(study_name=search.name, storage=storage)
  return study.get_trials(deepcopy=False)


def _run(search: Search, frozen: FrozenTrial, storage) -> None:
  """Trains a trial on every fold, and tells how it went."""
  config = search.cell.config
  study = optuna.load_study(study_name=search.name, storage=storage)
  trial = Trial(study, frozen._trial_id)
  numbers = {}
  for place, (field, found) in enumerate(search.ranges.items()):
    study.sampler = _sampler(config, frozen.number, place)
    numbers[field] = rounded(found, _suggest(trial, field, found))
  scores: list[float] = []
  seconds, state, said = 0.0, TrialState.COMPLETE, ""
  for fold in range(config.tune.folds):
    run = override(with_fold(config, fold), numbers)
    score, spent, said = _train_fold(
      run, search.folder / f"{frozen.number:03}-fold{fold}"
    )
    seconds += spent
    if said:
      state = TrialState.FAIL
      trial.set_user_attr("failed", said)
      break
    scores.append(score)
    mean = float(np.mean(scores))
    if fold not in frozen.intermediate_values:
      trial.report(mean, fold)
    next_fold = search.folder / f"{frozen.number:03}-fold{fold + 1}"
    # It was not pruned here if it has begun the next one.
    passed = fold == config.tune.folds - 1 or next_fold.exists()
    if (
      config.tune.prune
      and not passed
      and _is_worse(search, storage, fold, mean)
    ):
      state, said = TrialState.PRUNED, f"pruned after fold {fold}"
      break
  trial.set_user_attr("seconds", seconds)
  value = mean if state == TrialState.COMPLETE else None
  study.tell(trial, value, state, skip_if_finished=True)
  shown = ", ".join(f"{k.split('.')[-1]} {v:g}" for k, v in numbers.items())
  log.info(
    "%s, trial %d of %d (%s): %s",
    search.cell.name,
    frozen.number + 1,
    config.tune.trials,
    shown,
    said or f"validation {config.eval.select} {mean:.3f}, {seconds:.1f} s",
  )


# Seconds of a trial that a kill may lose.
_SAVE_AFTER = 60.0


def _train_fold(run: ConfigDict, workdir: Path) -> tuple[float, float, str]:
  """Trains a trial on one fold: its score, seconds, and why it failed."""
  started, seconds, said = time.perf_counter(), 0.0, ""
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
    said = str(error)
  # Large, and nobody goes on from it again.
  shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
  return score, seconds, said


def _is_worse(search: Search, storage, fold: int, mean: float) -> bool:
  """Whether a mean is worse than the median of other trials after that fold.

  (Optuna's pruner takes the best mean of a trial after any fold so far, which
  spares all that began with an easy one.)
  """
  config = search.cell.config
  others = [
    trial.intermediate_values[fold]
    for trial in _trials(search, storage)
    if trial.state.is_finished() and fold in trial.intermediate_values
  ]
  if len(others) < _at_random(config):
    return False
  median = float(np.median(others))
  return mean > median if lower_is_better(config.eval.select) else mean < median


def _at_random(config) -> int:
  """How many trials of a search know nothing of others: a third."""
  return math.ceil(config.tune.trials / 3)


def _sampler(config, number: int, place: int) -> optuna.samplers.BaseSampler:
  """A sampler for one value of a trial: its draw follows from the history.

  The same draws for every cell, and again after a kill between two values.
  """
  entropy = [config.seed, number, place]
  drawn = np.random.SeedSequence(entropy).generate_state(1)
  seed = int(drawn[0])
  if config.tune.sampler == "tpe":
    return optuna.samplers.TPESampler(
      n_startup_trials=_at_random(config), constant_liar=True, seed=seed
    )
  return optuna.samplers.RandomSampler(seed=seed)


def _suggest(trial: Trial, field: str, found) -> Any:
  if isinstance(found, Grid):
    return trial.suggest_categorical(field, found.values)
  return trial.suggest_float(field, found.low, found.high, log=found.log)


# --- What was chosen --------------------------------------------------------


def _summary(search: Search, storage) -> dict[str, Any]:
  """What a cell tried and chose; nothing where every trial failed."""
  trials = _trials(search, storage)
  of = lambda state: [t for t in trials if t.state == state]
  failed = of(TrialState.FAIL)
  chosen: dict[str, Any] = {}
  score = number = None
  if whole := of(TrialState.COMPLETE):
    lower = lower_is_better(search.cell.config.eval.select)
    values = np.array([t.value for t in whole], float)
    best = whole[int((np.argmin if lower else np.argmax)(values))]
    score, number = best.value, best.number
    chosen = {
      field: rounded(found, best.params[field])
      for field, found in search.ranges.items()
    }
  else:
    log.warning(
      "%s: no trial was finished; the first failed with: %s",
      search.cell.name,
      failed[0].user_attrs["failed"] if failed else "none, all were pruned",
    )
  return {
    "cell": search.cell.overrides,
    "chosen": chosen,
    "trial": number,
    "folder": f"{TRIALS}/{search.cell.name}",
    "trials": len(trials),
    "failed": len(failed),
    "pruned": len(of(TrialState.PRUNED)),
    "reasons": {str(t.number): t.user_attrs["failed"] for t in failed},
    "on_edge": [f for f, v in chosen.items() if on_edge(search.ranges[f], v)],
    "ranges": {f: as_list(found) for f, found in search.ranges.items()},
    "validation": score,
    "seconds": sum(t.user_attrs["seconds"] for t in trials),
  }


def final_specs(
  config: ConfigDict, chosen: Sequence[dict[str, Any]]
) -> tuple[ConfigDict, list[RunSpec]]:
  """The config and the specs of the final runs, for `run_study`.

  The chosen setting of each cell with `config.tune.final_seeds` seeds, the same
  for all cells, and none of them that of the trials. A cell that chose nothing
  has none.

  Raises:
    InputError: if no cell chose anything.
  """
  whole = override(config, {"data.train_on": config.tune.final_on})
  first = config.seed + 1
  seeds = range(first, first + config.tune.final_seeds)
  specs = [
    {**cell["cell"], **cell["chosen"], "seed": seed}
    for cell in chosen
    if cell["chosen"]
    for seed in seeds
  ]
  if not specs:
    raise InputError(
      f"no trial of any cell was finished: {TUNING} of the study has the"
      " reasons. Narrow the ranges: config.tune.ranges."
    )
  return whole, make_specs(whole, specs)
