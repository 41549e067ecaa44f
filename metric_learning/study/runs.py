"""A finished run of a study, and its test scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metric_learning.errors import InputError
from metric_learning.study.sweeps import RunSpec

# The searches of a cell whose runs are scored in halves. More take long and
# change little: with ten, the deviations over classes differ by a few percent.
HALVED_SEARCHES = 3


class TestScores(NamedTuple):
  """The scores of a chosen run on the test classes.

  selected, last: scores at the selected and last checkpoint; NaN if none was
    selected.
  queries: by score name, the value of each test query at the selected
    checkpoint, for scores that are means over queries.
  classes: the class of each test query; None if classes have no names.
  halves: by score name, the scores in random halves of the test classes, for
    one run of each of several searches.
  """

  selected: dict[str, float]
  last: dict[str, float]
  queries: Mapping[str, np.ndarray] = {}
  classes: np.ndarray | None = None
  halves: Mapping[str, np.ndarray] = {}


class Run(NamedTuple):
  """A finished run and the spec that made it.

  is_stale: its config or result does not match the spec.
  search: the number of the search that chose its numbers; None without several.
  test: None until `scoring` has scored the run; only chosen runs are scored.
  """

  spec: RunSpec
  folder: Path
  result: dict[str, Any]
  is_stale: bool = False
  test: TestScores | None = None
  search: int | None = None

  @property
  def tested(self) -> TestScores:
    """The test scores.

    Raises:
      InputError: if the run is not scored.
    """
    if self.test is None:
      raise InputError(
        f"{self.folder.name} is not scored on test classes: pass the study "
        "through metric_learning.study.score_chosen before it is printed or "
        "drawn."
      )
    return self.test

  @property
  def replicate(self) -> tuple[int, int]:
    """The seed and the fold, which pair it with a run of another cell."""
    return self.spec.config.seed, self.spec.config.data.fold
