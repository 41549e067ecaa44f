"""A search has a cell, a number, and seeds of its own.

The seeds of a search depend on its number. They fix the folds, the
initialization and the batches of its runs. Searches of different cells with the
same number share them, so that they are paired. The settings of a search are
drawn for its cell only.
"""

from pathlib import Path
from typing import NamedTuple

import optuna
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial

from metric_learning.study.ranges import Ranges
from metric_learning.study.sweeps import RunSpec

# The seeds of search k start at config.seed + 100 k.
STRIDE = 100


class Search(NamedTuple):
  """A search: its cell, searched fields, Optuna study and folder.

  number: from 0 to config.tune.searches - 1.
  """

  cell: RunSpec
  ranges: Ranges
  name: str
  folder: Path
  number: int = 0


class Seeds(NamedTuple):
  """The seeds of a search.

  trials: the seed of all trials, which also draws their folds.
  again: the seed of each repetition of finalists, which also draws its folds.
  final: the seeds of the final runs.
  """

  trials: int
  again: tuple[int, ...]
  final: tuple[int, ...]


def seeds_of(config: ConfigDict, number: int) -> Seeds:
  """The seeds of a search, all different.

  >>> from metric_learning.training import base_config
  >>> seeds_of(base_config(), 3)
  Seeds(trials=300, again=(301, 302), final=(303, 304))
  """
  tune = config.tune
  first = config.seed + STRIDE * number
  again = first + 1 + (tune.repeats if tune.finalists else 0)
  return Seeds(
    first,
    tuple(range(first + 1, again)),
    tuple(range(again, again + tune.final_seeds)),
  )


def trials_in(
  search: Search, storage: optuna.storages.BaseStorage
) -> list[FrozenTrial]:
  """The present trials of a search."""
  study = optuna.load_study(study_name=search.name, storage=storage)
  return study.get_trials(deepcopy=False)
