"""The second stage of a search: its best trials run again on other folds.

A score on few folds is noisy, and the best of many is probably lucky. So the
best trials run again on other folds with other seeds, and the one with the best
mean over both stages is chosen.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from metric_learning.evaluation import lower_is_better
from metric_learning.study.ranges import rounded
from metric_learning.study.tuning.folds import train_fold, with_fold
from metric_learning.study.tuning.searches import Search, seeds_of, trials_in
from metric_learning.training import run_files
from metric_learning.training.config import override

log = logging.getLogger(__name__)


class Finalist(NamedTuple):
  """A trial of the second stage.

  scores: by repetition and fold; fewer if it failed.
  """

  number: int
  scores: list[list[float]]
  seconds: float
  failed: str


def ranked(trials: list[FrozenTrial], lower: bool) -> list[FrozenTrial]:
  """The completed trials, best first; of equal trials, the older first."""
  whole = [t for t in trials if t.state == TrialState.COMPLETE]
  values = np.array([t.value for t in whole], float)
  order = np.argsort(values if lower else -values, kind="stable")
  return [whole[place] for place in order]


def numbers_of(search: Search, trial: FrozenTrial) -> dict[str, Any]:
  """The searched fields of a trial, with their values."""
  return {
    field: rounded(domain, trial.params[field])
    for field, domain in search.ranges.items()
  }


def finalists_of(search: Search, storage: BaseStorage) -> list[FrozenTrial]:
  """The trials of the second stage; none if it could not change the choice."""
  config = search.cell.config
  if not config.tune.finalists:
    return []
  lower = lower_is_better(config.eval.select)
  best = ranked(trials_in(search, storage), lower)
  return best[: config.tune.finalists]


def run_finalists(search: Search, storage: BaseStorage) -> bool:
  """Runs the free finalists; returns whether all are finished.

  Call it when every trial of the search is finished.
  """
  finalists = finalists_of(search, storage)
  for trial in finalists:
    path = _record(search, trial.number)
    if path.exists():
      continue
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
      held = lock.acquire(blocking=False)
    except filelock.Timeout:
      continue  # Another process has it.
    with held:
      if not path.exists():
        run_files.drop_leftovers(path.parent, path.name)
        run_files.write_json(path, _run(search, trial)._asdict())
  return all(_record(search, t.number).exists() for t in finalists)


def read_finalists(search: Search, storage: BaseStorage) -> dict[int, Finalist]:
  """The finished finalists of a search, by trial number."""
  return {
    trial.number: Finalist(**run_files.read_json(_record(search, trial.number)))
    for trial in finalists_of(search, storage)
  }


def _record(search: Search, number: int) -> Path:
  return search.folder / f"{number:03}-again.json"


def _run(search: Search, trial: FrozenTrial) -> Finalist:
  """Trains a finalist on every fold of every repetition."""
  config, numbers = search.cell.config, numbers_of(search, trial)
  scores: list[list[float]] = []
  seconds, failed = 0.0, ""
  seeds = seeds_of(config, search.number).again
  for turn, seed in enumerate(seeds, start=1):
    scores.append([])
    for fold in range(config.tune.folds):
      name = f"{trial.number:03}-again{turn}-fold{fold}"
      run = override(with_fold(config, fold, seed), numbers)
      score, spent, failed = train_fold(run, search.folder / name)
      seconds += spent
      if failed:
        return Finalist(trial.number, scores[:-1], seconds, failed)
      scores[-1].append(score)
  log.info(
    "%s, search %d, trial %d again: validation %s %.3f after %.3f, %.1f s",
    search.cell.name,
    search.number,
    trial.number + 1,
    config.eval.select,
    np.mean(scores),
    trial.value,
    seconds,
  )
  return Finalist(trial.number, scores, seconds, failed)
