"""What a search is: one cell, a number, and all that was drawn for it alone.

The search of a number has seeds of its own. They fix the folds, the
initialization and the batches of its runs, and cells share them by number, so
that their searches are paired. What a search tries is drawn for its cell alone.
"""

from pathlib import Path
from typing import NamedTuple

import optuna
from ml_collections import ConfigDict
from optuna.trial import FrozenTrial

from metric_learning.study.ranges import Ranges
from metric_learning.study.sweeps import RunSpec

# The seeds of search k begin at config.seed + 100 k.
STRIDE = 100


class Search(NamedTuple):
  """One search: its cell, what is searched, its Optuna study and its folder.

  number: from 0 to config.tune.searches - 1.
  """

  cell: RunSpec
  ranges: Ranges
  name: str
  folder: Path
  number: int = 0


class Seeds(NamedTuple):
  """The seeds of a search.

  trials: of all its trials, and what draws their folds.
  again: of each repetition of its finalists, and what draws their folds.
  final: of its final runs.
  """

  trials: int
  again: tuple[int, ...]
  final: tuple[int, ...]


def seeds_of(config: ConfigDict, number: int) -> Seeds:
  """The seeds of the search of this number; no two are equal.

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


def trials_in(search: Search, storage) -> list[FrozenTrial]:
  """The trials of a search, as they are now."""
  study = optuna.load_study(study_name=search.name, storage=storage)
  return study.get_trials(deepcopy=False)
