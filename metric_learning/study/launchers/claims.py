"""Which runs train together, and which of them this process trains."""

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
    # Streamed runs have different images in each batch.
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
  """The unfinished runs that no other process has.

  They belong to this process until `held` is closed. The kernel releases the
  locks of a killed process.
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
    # Another process may just have finished it.
    if not is_finished(workdir):
      ours.append(spec)
  return ours


def as_far(specs: Group, folder: Path) -> list[Group]:
  """The runs of a population that resume from the same checkpoint.

  A population restarts from the last checkpoint that all its runs have, so runs
  that are ahead are trained apart.
  """
  groups: dict[int, Group] = {}
  for spec in specs:
    saved = reached_in(folder / RUNS / spec.name / CHECKPOINTS)
    groups.setdefault(max(saved, default=0), []).append(spec)
  return list(groups.values())


def train_group(
  configs: Sequence[ConfigDict], workdirs: Sequence[Path], splits: data.Splits
) -> list[dict[str, Any]]:
  """Trains one run, or several as a population; records why a run diverged.

  They keep checkpoints but no embeddings; chosen runs are embedded later.
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
