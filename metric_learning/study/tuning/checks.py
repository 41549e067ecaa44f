"""What is checked before the first trial."""

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
from metric_learning.training.config import override
from metric_learning.training.plan import check_parts, draws_of

SAMPLERS = ("tpe", "random", "grid")
FINAL_ON = ("train", "train+validation")


def check(config: ConfigDict, cells: Sequence[RunSpec]) -> None:
  """Checks all that can be checked before the first trial.

  Raises:
    InputError: that lists everything which is wrong.
  """
  tune = config.tune
  check_choice("config.tune.sampler", tune.sampler, SAMPLERS)
  check_choice("config.tune.final_on", tune.final_on, FINAL_ON)
  for name in ("trials", "folds", "final_seeds"):
    if tune[name] < 1:
      raise InputError(f"config.tune.{name} must be at least 1: {tune[name]}.")
  if tune.searched < 0:
    raise InputError(f"config.tune.searched={tune.searched} is below 0.")
  if tune.prune and tune.folds < 2:
    raise InputError(
      "config.tune.prune stops a trial between folds: set config.tune.folds=2"
      " or more."
    )
  check_comparisons(config, cells_of(cells))
  check_used(config, [cell.config for cell in cells])
  wrong: dict[str, list[str]] = {}
  for cell in cells:
    for problem in _errors(cell):
      wrong.setdefault(problem, []).append(cell.name)
  refuse_specs(wrong)


def _errors(cell: RunSpec) -> Iterator[str]:
  """What is wrong with a cell."""
  tuned, chosen = tuned_of(cell), searched(cell.config)
  for field, value in cell.overrides.items():
    if field in chosen:
      yield f"{field} is for tuning to choose; leave it out."
    elif field in tuned:
      yield (
        f"{field} is a number, and makes no cell: leave it out, set"
        f" config.{field} for all, or compare its values by"
        f" --config.study.reference.{field}={value}."
      )
    elif field in REPLICATES or field.startswith("tune."):
      yield (
        f"{field} is the same for all cells; leave it out, and set"
        f" config.{field}."
      )
  for check in (check_ranges, _check_folds):
    try:
      check(cell.config)
    except InputError as error:
      yield from str(error).splitlines()


def _check_folds(config: ConfigDict) -> None:
  """Checks that trials and final runs fill a batch, and can be scored."""
  final = override(config, {"data.train_on": config.tune.final_on})
  folds = [with_fold(config, fold) for fold in range(config.tune.folds)]
  for run in (*folds, final):
    splits = load_once(run.data)
    draws_of(run, splits.train)
    check_parts(run, splits)


def with_fold(config: ConfigDict, fold: int) -> ConfigDict:
  """The config of a trial on one fold; it never trains on its validation."""
  folds = {"data.validation_folds": config.tune.folds}
  return override(
    config, {**folds, "data.validation_fold": fold, "data.train_on": "train"}
  )
