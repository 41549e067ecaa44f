"""A finished run of a study, and what its test classes scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metric_learning.errors import InputError
from metric_learning.study.sweeps import RunSpec


class TestScores(NamedTuple):
  """What a chosen run scored on the test classes.

  selected, last: under either checkpoint; NaN where none was selected.
  queries: what each test query adds to a score that is a mean over queries, at
    the selected checkpoint, by the name of the score.
  classes: of each test query; None if classes have no names.
  halves: scores in random halves of the test classes, by the name of the score;
    of one run of each of several searches.
  """

  selected: dict[str, float]
  last: dict[str, float]
  queries: Mapping[str, np.ndarray] = {}
  classes: np.ndarray | None = None
  halves: Mapping[str, np.ndarray] = {}


class Run(NamedTuple):
  """A finished run and the spec that made it.

  is_stale: its config or its result is not that of the spec.
  search: the number of the search that chose its numbers; None without several.
  test: None until `scoring` has scored it, which it does to chosen runs alone.
  """

  spec: RunSpec
  folder: Path
  result: dict[str, Any]
  is_stale: bool = False
  test: TestScores | None = None
  search: int | None = None

  @property
  def tested(self) -> TestScores:
    """Its test scores.

    Raises:
      InputError: if it is not scored.
    """
    if self.test is None:
      raise InputError(
        f"{self.folder.name} is not scored on test classes: give the study to"
        " metric_learning.study.score_chosen before it is printed or drawn."
      )
    return self.test

  @property
  def replicate(self) -> tuple[int, int]:
    """Its seed and its fold: what pairs it with a run of another cell."""
    return self.spec.config.seed, self.spec.config.data.fold
