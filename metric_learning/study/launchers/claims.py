"""Which runs train together, and which of them this process does."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from metric_learning import data
from metric_learning.study.sweeps import RunSpec
from metric_learning.training import (
  NotFiniteError,
  holding,
  run_files,
  train,
  train_population,
)
from metric_learning.training.checkpoints import CHECKPOINTS, reached_in
from metric_learning.training.population import common_of

RUNS = "runs"

Group = list[RunSpec]
Report = Callable[[Group, list[dict[str, Any]]], None]


def groups_of(specs: Sequence[RunSpec], members: int) -> list[Group]:
  """Groups of at most `members` rows that can train as one population."""
  together: dict[str, Group] = {}
  for spec in specs:
    # What streams has images of its own in each batch.
    own = spec.name if spec.config.data.stream else ""
    together.setdefault(own + common_of(spec.config), []).append(spec)
  return [
    group[start : start + members]
    for group in together.values()
    for start in range(0, len(group), members)
  ]


def is_finished(workdir: Path) -> bool:
  """Whether a run has its result."""
  return (workdir / run_files.RESULT).exists()


def claim(
  specs: Sequence[RunSpec], folder: Path, held: contextlib.ExitStack
) -> Group:
  """Those of the runs that are not finished, and that no other process has.

  They are this process's until `held` is closed. The kernel releases the lock
  of a process that is killed.
  """
  ours = []
  for spec in specs:
    workdir = folder / RUNS / spec.name
    if is_finished(workdir):
      continue
    run_files.make_folder(workdir)
    try:
      held.enter_context(holding.held(workdir))
    except holding.HeldError:
      continue
    # Another process may have finished it just before.
    if not is_finished(workdir):
      ours.append(spec)
  return ours


def as_far(specs: Group, folder: Path) -> list[Group]:
  """The runs of a population that go on from the same checkpoint.

  Together, those that are ahead would begin where the last is.
  """
  groups: dict[int, Group] = {}
  for spec in specs:
    saved = reached_in(folder / RUNS / spec.name / CHECKPOINTS)
    groups.setdefault(max(saved, default=0), []).append(spec)
  return list(groups.values())


def train_group(
  configs: Sequence[ConfigDict], workdirs: Sequence[Path], splits: data.Splits
) -> list[dict[str, Any]]:
  """Trains one run, or several as a population; a diverged one says why.

  They keep checkpoints and no embeddings: who is chosen is embedded later.
  """
  if len(configs) > 1:
    return train_population(configs, workdirs, splits, embeddings=False)
  (config,), (workdir,) = configs, workdirs
  try:
    trained = train(
      config, workdir, splits=splits, progress=False, embeddings=False
    )
    return [trained]
  except NotFiniteError as error:
    result = {"diverged": str(error)}
    run_files.write_json(workdir / run_files.RESULT, result)
    return [result]
