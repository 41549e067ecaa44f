"""The checks before the first trial."""

import itertools
import json
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError, check_choice
from metric_learning.study.compared_with import cells_of, check_comparisons
from metric_learning.study.ranges import check_ranges, check_used, searched
from metric_learning.study.sweeps import (
  REPLICATES,
  RunSpec,
  refuse_specs,
  tuned_of,
)
from metric_learning.study.tuning.folds import with_fold
from metric_learning.study.tuning.searches import STRIDE, seeds_of
from metric_learning.training.config import as_dict, override
from metric_learning.training.plan import check_parts, draws_of

SAMPLERS = ("tpe", "random", "grid")
FINAL_ON = ("train", "train+validation")


def check(config: ConfigDict, cells: Sequence[RunSpec]) -> None:
  """Checks everything that is known before the first trial.

  Raises:
    InputError: listing all problems.
  """
  tune = config.tune
  check_choice("config.tune.sampler", tune.sampler, SAMPLERS)
  check_choice("config.tune.final_on", tune.final_on, FINAL_ON)
  for name in ("searches", "trials", "folds", "final_seeds"):
    if tune[name] < 1:
      raise InputError(f"config.tune.{name} must be at least 1: {tune[name]}.")
  _check_stages(config)
  if tune.searched < 0:
    raise InputError(f"config.tune.searched={tune.searched} is below 0.")
  if tune.prune and tune.folds < 2:
    raise InputError(
      "config.tune.prune stops a trial between folds: set config.tune.folds=2"
      " or more."
    )
  if not config.study.choose:
    raise InputError(
      "config.study.choose=False compares cells at equal numbers, and tuning"
      " chooses them: use experiments.sweep."
    )
  check_comparisons(config, cells_of(cells))
  check_used(config, [cell.config for cell in cells])
  wrong: dict[str, list[str]] = {}
  for cell in cells:
    for problem in _errors(cell):
      wrong.setdefault(problem, []).append(cell.name)
  for problem, name in _data_errors(cells):
    wrong.setdefault(problem, []).append(name)
  refuse_specs(wrong)


def _errors(cell: RunSpec) -> Iterator[str]:
  """The problems of a cell."""
  tuned, chosen = tuned_of(cell), searched(cell.config)
  for field, value in cell.overrides.items():
    if field in chosen:
      yield f"{field} is chosen by tuning; leave it out."
    elif field in tuned:
      yield (
        f"{field} is a number, which does not make a cell: leave it out, set "
        f"config.{field} for all, or compare its values with "
        f"--config.study.reference.{field}={value}."
      )
    elif field in REPLICATES or field.startswith("tune."):
      yield (
        f"{field} is the same for all cells; leave it out, and set"
        f" config.{field}."
      )
  try:
    check_ranges(cell.config)
  except InputError as error:
    yield from str(error).splitlines()


def _data_errors(cells: Sequence[RunSpec]) -> Iterator[tuple[str, str]]:
  """The problems of the folds of a cell, with its name.

  Cells with the same data and batches are checked once.
  """
  seen = set()
  for cell in cells:
    fields = as_dict(cell.config)
    names = ("data", "batch", "model", "eval", "reduction", "also")
    key = json.dumps([fields[name] for name in names], sort_keys=True)
    if key in seen:
      continue
    seen.add(key)
    try:
      _check_folds(cell.config)
    except InputError as error:
      yield from ((line, cell.name) for line in str(error).splitlines())


def _check_stages(config: ConfigDict) -> None:
  """Checks the second stage, and that searches have enough seeds."""
  tune = config.tune
  if tune.finalists < 0 or tune.finalists == 1:
    raise InputError(
      f"config.tune.finalists={tune.finalists}: give at least 2, to choose from"
      " again, or 0 for a single stage."
    )
  if tune.finalists and tune.repeats < 1:
    raise InputError(
      f"config.tune.repeats={tune.repeats} must be at least 1; for a single"
      " stage, set config.tune.finalists=0."
    )
  seeds = seeds_of(config, 0)
  count = 1 + len(seeds.again) + len(seeds.final)
  if count > STRIDE:
    raise InputError(
      f"a search has {STRIDE} seeds, but needs {count}: lower"
      " config.tune.repeats or config.tune.final_seeds."
    )


def _check_folds(config: ConfigDict) -> None:
  """Checks that trials and final runs can fill a batch and be scored."""
  final = override(config, {"data.train_on": config.tune.final_on})
  seeds = [
    seed
    for number in range(config.tune.searches)
    for seed in (
      seeds_of(config, number).trials,
      *seeds_of(config, number).again,
    )
  ]
  # Without folds they all have the same validation part.
  seeds = seeds if config.tune.folds > 1 else seeds[:1]
  folds = (
    with_fold(config, fold, seed)
    for seed in seeds
    for fold in range(config.tune.folds)
  )
  for run in itertools.chain(folds, [final]):
    splits = load_once(run.data)
    draws_of(run, splits.train)
    check_parts(run, splits)
