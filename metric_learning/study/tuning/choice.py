"""The choice of a search, and its final runs."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.study.ranges import as_list, on_edge
from metric_learning.study.sweeps import RunSpec, make_specs
from metric_learning.study.tuning.finalists import (
  Finalist,
  numbers_of,
  ranked,
  read_finalists,
)
from metric_learning.study.tuning.searches import Search, seeds_of, trials_in
from metric_learning.training.config import override

TUNING = "tuning.json"
TRIALS = "trials"

log = logging.getLogger(__name__)


class _Candidate(NamedTuple):
  """A trial that may be chosen, with its scores on the folds of each stage."""

  trial: FrozenTrial
  scores: list[list[float]]

  @property
  def mean(self) -> float:
    return float(np.mean([np.mean(some) for some in self.scores]))


def summary(search: Search, storage: BaseStorage) -> dict[str, Any]:
  """The trials and the choice of a search; no choice if every trial failed.

  The choice is the finalist with the best mean over both stages, or without
  finalists the best trial. With finalists, other trials and failed finalists
  cannot be chosen.
  """
  config = search.cell.config
  trials = trials_in(search, storage)
  again = read_finalists(search, storage)
  of = lambda state: [t for t in trials if t.state == state]
  reasons = {
    **{str(t.number): t.user_attrs["failed"] for t in of(TrialState.FAIL)},
    **{f"{n} again": x.failed for n, x in again.items() if x.failed},
  }
  best = _best(search, trials, again)
  if best is None:
    log.warning(
      "%s, search %d: no trial was finished; the first failed with: %s",
      search.cell.name,
      search.number,
      next(iter(reasons.values()), "none, all were pruned"),
    )
  chosen = {} if best is None else numbers_of(search, best.trial)
  seconds = [t.user_attrs["seconds"] for t in trials]
  return {
    "cell": search.cell.overrides,
    "search": search.number,
    "seeds": list(seeds_of(config, search.number).final),
    "chosen": chosen,
    "trial": None if best is None else best.trial.number,
    "folder": f"{TRIALS}/{search.cell.name}/{search.folder.name}",
    "trials": len(trials),
    "failed": len(reasons),
    "pruned": len(of(TrialState.PRUNED)),
    "reasons": reasons,
    "on_edge": [f for f, v in chosen.items() if on_edge(search.ranges[f], v)],
    "ranges": {f: as_list(domain) for f, domain in search.ranges.items()},
    "validation": None if best is None else best.mean,
    "scores": [] if best is None else best.scores,
    "history": [t.value for t in trials],
    "seconds": sum(seconds) + sum(x.seconds for x in again.values()),
  }


def _best(
  search: Search, trials: list[FrozenTrial], again: dict[int, Finalist]
) -> _Candidate | None:
  lower = lower_is_better(search.cell.config.eval.select)
  order = ranked(trials, lower)
  candidates = [
    _Candidate(t, [t.user_attrs["scores"], *again[t.number].scores])
    for t in order
    if t.number in again and not again[t.number].failed
  ]
  if not again:
    candidates = [_Candidate(t, [t.user_attrs["scores"]]) for t in order[:1]]
  sign = 1 if lower else -1
  return min(candidates, key=lambda one: sign * one.mean, default=None)


def final_specs(
  config: ConfigDict, chosen: Sequence[dict[str, Any]]
) -> tuple[ConfigDict, list[RunSpec]]:
  """The config and the specs of the final runs, for `run_study`.

  The choice of each search runs with the `config.tune.final_seeds` final seeds
  of the search number, which all cells share. A search without a choice has no
  final runs.

  Raises:
    InputError: if no search chose anything.
  """
  whole = override(config, {"data.train_on": config.tune.final_on})
  specs = [
    {**found["cell"], **found["chosen"], "seed": seed}
    for found in chosen
    if found["chosen"]
    for seed in found["seeds"]
  ]
  if not specs:
    raise InputError(
      f"no trial of any cell was finished: {TUNING} of the study has the"
      " reasons. Narrow the ranges: config.tune.ranges."
    )
  return whole, make_specs(whole, specs)
