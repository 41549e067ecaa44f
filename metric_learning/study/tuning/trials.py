"""Trials of searches: started, resumed and pruned."""

import contextlib
import hashlib
import json
import logging
import math
import platform
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import optuna
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial, Trial, TrialState

from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.losses.search import Grid, Range
from metric_learning.study.ranges import (
  Ranges,
  grid_points,
  ranges_of,
  rounded,
  start_of,
)
from metric_learning.study.runner import STUDY, data_of, only_here
from metric_learning.study.sweeps import RunSpec
from metric_learning.study.tally import Counts, Tally
from metric_learning.study.tuning.checks import check
from metric_learning.study.tuning.choice import TRIALS, TUNING, summary
from metric_learning.study.tuning.finalists import run_finalists
from metric_learning.study.tuning.folds import train_fold, with_fold
from metric_learning.study.tuning.searches import Search, seeds_of, trials_in
from metric_learning.study.tuning.storage import (
  expanded,
  explained,
  open_storage,
  shown,
)
from metric_learning.training import run_files, stopping
from metric_learning.training.config import (
  as_dict,
  hyper_parameters,
  of_study,
  override,
)

SEARCH = "search.json"
DATABASE = "trials.db"

_FREE_NAME = (
  "Choose another --study or --storage; if that folder is gone, `optuna"
  " delete-study` frees the name."
)

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


def search(
  config: ConfigDict,
  cells: Sequence[RunSpec],
  folder: str | Path,
  storage: str | None = None,
) -> list[dict[str, Any]]:
  """Runs the missing trials of all searches, and returns the choice of each.

  Every cell has `config.tune.searches` searches; see `searches` for their
  seeds. The first trial of each is the default setting, if it is inside the
  ranges; it counts as a trial. Any number of processes may work at once;
  machines must share the folder and the storage.

  Writes search.json, the identity of the search; trials/<cell>/<search>/, with
  a run folder for each trial and fold; and, last, tuning.json.

  Args:
    config: the common config of the cells.
    cells: runs of a sweep, without the searched numbers.
    folder: the folder of the study.
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
    # Of several processes that start together, one creates the common files.
    with only_here(folder):
      _refuse_another(folder, identity)
      opened = held.enter_context(open_storage(where))
      run_files.make_folder(folder / TRIALS)
      run_files.drop_leftovers(folder / TRIALS)
      # All cells of one search number come before those of the next.
      searches = [
        _start(cell, number, folder, opened)
        for number in range(config.tune.searches)
        for cell in cells
      ]
      if not (folder / SEARCH).exists():
        run_files.write_json(folder / SEARCH, identity)
    tally = _tally(searches, opened)
    # A signal waits for the storage, which would report the interruption.
    with tally.shown(), stopping.heeded():
      while not all([_work(s, opened, tally) for s in searches]):
        stopping.stop_if_asked()
        time.sleep(1)  # Other processes have the remaining trials.
    chosen = [summary(s, opened) for s in searches]
  with only_here(folder):
    run_files.write_json(folder / TUNING, chosen)
  return chosen


def _whole(config: ConfigDict) -> dict[str, Any]:
  """The config that a trial depends on: the run and its tuning."""
  return {**as_dict(config), "tune": json.loads(config.tune.to_json())}


def _refuse_another(folder: Path, identity: dict[str, Any]) -> None:
  if (folder / SEARCH).exists():
    run_files.refuse_another(folder / SEARCH, identity)
  elif (folder / STUDY).exists():
    raise InputError(
      f"{folder} holds a study that was not tuned: choose another --study, or"
      " delete it."
    )


def _start(
  cell: RunSpec, number: int, folder: Path, storage: optuna.storages.BaseStorage
) -> Search:
  """Creates the Optuna study of a search with all trials, or loads it."""
  ranges = ranges_of(cell.config)
  name = f"{folder.resolve().name}: {cell.name}, search {number}"
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
      f"the storage holds the study {name!r} of another folder, "
      f"{there.get('place')}: all processes of a study must share its folder. "
      f"{_FREE_NAME}"
    )
  identity = {
    "config": config,
    "place": f"{platform.node()}:{folder.resolve()}",
    "folder": here,
  }
  for key, value in identity.items():
    if there.get(key) != value:  # Writing is slow for many searches.
      study.set_user_attr(key, value)
  points = _first_points(cell.config, ranges)
  for point in points[len(study.get_trials(deepcopy=False)) :]:
    study.enqueue_trial(point)
  place = folder / TRIALS / cell.name / f"{number:02}"
  run_files.make_folder(place)
  return Search(cell, ranges, name, place, number)


def _folder_id(folder: Path) -> str:
  """Identifies a folder on all machines that see it."""
  path = folder / TRIALS / "folder.json"
  if not path.exists():
    run_files.write_json(path, uuid.uuid4().hex)
  return run_files.read_json(path)


def _first_points(config: ConfigDict, ranges: Ranges) -> list[dict[str, Any]]:
  """The attributes of each trial before it starts."""
  trials = config.tune.trials
  if config.tune.sampler == "grid":
    return grid_points(ranges, trials)
  numbers = run_files.flatten(as_dict(config))
  numbers |= {f"loss.{k}": v for k, v in hyper_parameters(config).items()}
  start = start_of(ranges, numbers)
  first = start if start.keys() == ranges.keys() else {}
  return [first, *({} for _ in range(trials - 1))]


def _tally(
  searches: Sequence[Search], storage: optuna.storages.BaseStorage
) -> Tally:
  """The counts of the trials of all searches.

  After a trial, only its search is read: to read all would take longer than the
  trial.
  """
  states = {s.name: _states(s, storage) for s in searches}

  def look(*changed: Search) -> Counts:
    states.update({s.name: _states(s, storage) for s in changed})
    return _counted(states.values())

  return Tally(sum(map(len, states.values())), look)


def _states(
  search: Search, storage: optuna.storages.BaseStorage
) -> list[TrialState]:
  return [trial.state for trial in trials_in(search, storage)]


def _counted(searches: Iterable[Sequence[TrialState]]) -> Counts:
  """How many trials of all searches there are of each kind."""
  states = [state for search in searches for state in search]
  done = sum(state.is_finished() for state in states)
  running = states.count(TrialState.RUNNING)
  return Counts(done, running, states.count(TrialState.FAIL))


def _work(
  search: Search, storage: optuna.storages.BaseStorage, tally: Tally
) -> bool:
  """Runs the free trials of a search; returns whether all are finished."""
  for frozen in trials_in(search, storage):
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
      # Running with a free lock: its process was killed.
      if not now.state.is_finished():
        _run(search, now, storage, tally)
  if not all(t.state.is_finished() for t in trials_in(search, storage)):
    return False
  return run_finalists(search, storage)


def _run(
  search: Search,
  frozen: FrozenTrial,
  storage: optuna.storages.BaseStorage,
  tally: Tally,
) -> None:
  """Trains a trial on every fold, and records the outcome."""
  config = search.cell.config
  study = optuna.load_study(study_name=search.name, storage=storage)
  trial = Trial(study, frozen._trial_id)
  numbers = {}
  for place, (field, domain) in enumerate(search.ranges.items()):
    study.sampler = _sampler(search, frozen.number, place)
    numbers[field] = rounded(domain, _suggest(trial, field, domain))
  scores: list[float] = []
  seconds, state, outcome = 0.0, TrialState.COMPLETE, ""
  seed = seeds_of(config, search.number).trials
  for fold in range(config.tune.folds):
    run = override(with_fold(config, fold, seed), numbers)
    score, spent, outcome = train_fold(
      run, search.folder / f"{frozen.number:03}-fold{fold}"
    )
    seconds += spent
    if outcome:
      state = TrialState.FAIL
      trial.set_user_attr("failed", outcome)
      break
    scores.append(score)
    mean = float(np.mean(scores))
    if fold not in frozen.intermediate_values:
      trial.report(mean, fold)
    next_fold = search.folder / f"{frozen.number:03}-fold{fold + 1}"
    # A trial that has started the next fold was not pruned at this one.
    passed = fold == config.tune.folds - 1 or next_fold.exists()
    if (
      config.tune.prune
      and not passed
      and _is_worse(search, storage, fold, mean)
    ):
      state, outcome = TrialState.PRUNED, f"pruned after fold {fold}"
      break
  trial.set_user_attr("seconds", seconds)
  trial.set_user_attr("scores", scores)
  value = mean if state == TrialState.COMPLETE else None
  study.tell(trial, value, state, skip_if_finished=True)
  shown = ", ".join(f"{k.split('.')[-1]} {v:g}" for k, v in numbers.items())
  log.info(
    "[%s] %s, search %d, trial %d of %d (%s): %s",
    tally.looked(search),
    search.cell.name,
    search.number,
    frozen.number + 1,
    config.tune.trials,
    shown,
    outcome or f"validation {config.eval.select} {mean:.3f}, {seconds:.1f} s",
  )


def _is_worse(
  search: Search, storage: optuna.storages.BaseStorage, fold: int, mean: float
) -> bool:
  """Whether a mean is worse than the median of other trials at that fold.

  (The pruner of Optuna uses the best mean of a trial after any fold so far,
  which spares trials that start with an easy fold.)
  """
  config = search.cell.config
  others = [
    trial.intermediate_values[fold]
    for trial in trials_in(search, storage)
    if trial.state.is_finished() and fold in trial.intermediate_values
  ]
  if len(others) < _at_random(config):
    return False
  median = float(np.median(others))
  return mean > median if lower_is_better(config.eval.select) else mean < median


def _at_random(config: ConfigDict) -> int:
  """How many trials of a search are drawn independently: a third."""
  return math.ceil(config.tune.trials / 3)


def _sampler(
  search: Search, number: int, place: int
) -> optuna.samplers.BaseSampler:
  """A sampler for one value of a trial, determined by the history.

  It gives the same value after a kill between two values, and is different for
  every cell and search.
  """
  config = search.cell.config
  cell = hashlib.sha256(search.cell.name.encode()).digest()[:8]
  seed = seeds_of(config, search.number).trials
  entropy = [seed, number, place, int.from_bytes(cell)]
  drawn = int(np.random.SeedSequence(entropy).generate_state(1)[0])
  if config.tune.sampler == "tpe":
    return optuna.samplers.TPESampler(
      n_startup_trials=_at_random(config), constant_liar=True, seed=drawn
    )
  return optuna.samplers.RandomSampler(seed=drawn)


def _suggest(trial: Trial, field: str, domain: Range | Grid) -> Any:
  if isinstance(domain, Grid):
    return trial.suggest_categorical(field, domain.values)
  return trial.suggest_float(field, domain.low, domain.high, log=domain.log)
