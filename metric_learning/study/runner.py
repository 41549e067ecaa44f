"""Trains the missing runs of a study with a launcher."""

import contextlib
import functools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax
from ml_collections import ConfigDict

from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError, check_choice
from metric_learning.study.baselines import write_baselines
from metric_learning.study.compared_with import (
  Name,
  cells_of,
  check_comparisons,
)
from metric_learning.study.launchers import LAUNCHERS, start_launcher
from metric_learning.study.launchers.claims import RUNS, groups_of, is_finished
from metric_learning.study.sweeps import (
  RunSpec,
  refuse,
  setting_errors,
  specs_named,
)
from metric_learning.study.tally import Counts, Tally
from metric_learning.training import run_files
from metric_learning.training.config import as_dict, of_study
from metric_learning.training.plan import check_parts, draws_of, identity_of

STUDY = "study.json"
POPULATION = ("auto", "on", "off")

# Networks that train faster as a population than in turn, as measured by
# `experiments.benchmarks.speed --suite=population`. On a CPU, convolutions are
# slower as a population: one run fills the cores, and several exceed the caches
# (eight of `mlp` are 1.2 times as fast). Accelerators are not measured yet.
_FASTER_TOGETHER: tuple[str, ...] = ()
# Seconds between checks of runs that another process has.
_PATIENCE = 1.0

log = logging.getLogger(__name__)


def check_population(population: str, members: int) -> None:
  """Checks the choice of population and its size.

  Raises:
    InputError: for an unknown choice, or less than one member.
  """
  check_choice("population", population, POPULATION)
  if members < 1:
    raise InputError(f"a population has at least 1 member, not {members}.")


def run_study(
  config: ConfigDict,
  specs: Sequence[RunSpec],
  folder: str | Path,
  *,
  cells: Sequence[Name] | None = None,
  launcher: str = "local",
  population: str = "auto",
  members: int = 32,
  **resources: Any,
) -> None:
  """Trains the missing runs of a study; a finished study is not changed.

  Everything is checked before the first run: the specs, the choice among them,
  their data and batches, and the comparisons. A run whose loss stops being
  finite is recorded as diverged and does not end the study. Several processes
  may work on one study; each waits for the runs of the others.

  Args:
    config: the config that the runs override.
    specs: from `make_specs`.
    folder: the folder of the study.
    cells: the names of all compared cells, if some have no runs.
    launcher: a name in `LAUNCHERS`: "local", or "ray".
    population: "on" trains runs that differ only in traced numbers and seeds as
      one program; "off" does not; "auto" does where it was measured to be
      faster.
    members: the most members of one population; fewer need less memory.
    resources: keyword arguments of the launcher.

  Raises:
    InputError: for data that cannot be used, or the folder of another study.
  """
  folder = Path(folder)
  check_population(population, members)
  cells = cells_of(specs) if cells is None else cells
  check_comparisons(config, cells)
  start_launcher(launcher)
  refuse([*setting_errors(specs), *_data_errors(specs)])
  run_files.make_folder(folder)
  with only_here(folder):
    claim_study(folder, config, specs, cells, data_of(specs))
    write_baselines(
      folder, [(spec.config, load_once(spec.config.data)) for spec in specs]
    )
  launch = functools.partial(LAUNCHERS[launcher].launch, **resources)
  together = population == "on" or (
    population == "auto" and jax.default_backend() in _FASTER_TOGETHER
  )
  _do_missing(specs, folder, launch, members if together else 1)


def _do_missing(
  specs: Sequence[RunSpec],
  folder: Path,
  launch: Callable[..., None],
  members: int,
) -> None:
  """Launches unfinished runs, and waits for those of other processes."""
  unfinished = lambda: [
    spec for spec in specs if not is_finished(folder / RUNS / spec.name)
  ]
  total, since = len(unfinished()), time.time()
  log.info("%d of %d runs to do", total, len(specs))

  def begun(spec: RunSpec) -> bool:
    try:
      path = folder / RUNS / spec.name / run_files.ENVIRONMENT
      return path.stat().st_mtime > since
    except OSError:
      return False

  failed = 0

  def look() -> Counts:
    left = unfinished()
    return Counts(total - len(left), sum(map(begun, left)), failed)

  tally = Tally(total, look, lambda: look().running)

  def report(done: Sequence[RunSpec], results: Sequence[Any]) -> None:
    nonlocal failed
    failed += sum("diverged" in result for result in results)
    said = tally.looked()
    for spec, result in zip(done, results, strict=True):
      log.info("[%s] %s: %s", said, spec.name, _summary(spec, result))

  with tally.shown():
    while missing := unfinished():
      groups = groups_of(missing, members)
      launch(groups, folder, report)
      if others := unfinished():
        if len(others) == len(missing):
          time.sleep(_PATIENCE)
        else:
          log.info("waiting for %d runs of other processes", len(others))


def data_of(specs: Sequence[RunSpec]) -> dict[str, Any]:
  """One run for each data set (with weights) that the runs load."""
  loaded: dict[str, Any] = {}
  for spec in sorted(specs, key=lambda spec: spec.name):
    identity = identity_of(spec.config, load_once(spec.config.data))
    if identity not in loaded.values():
      loaded[spec.name] = identity
  return loaded


def _data_errors(specs: Sequence[RunSpec]) -> list[str]:
  """Errors in the data of runs, in their batches, or in their scores."""
  errors = []
  together: dict[str, list[RunSpec]] = {}
  for spec in specs:
    sections = as_dict(spec.config)
    names = ("data", "batch", "model", "eval", "reduction", "also")
    read = [sections[name] for name in names]
    key = json.dumps(read, sort_keys=True)
    together.setdefault(key, []).append(spec)
  for group in together.values():
    fields = group[0].config
    try:
      splits = load_once(fields.data)
      draws_of(fields, splits.train)
      check_parts(fields, splits)
    except InputError as error:
      errors.append(f"{specs_named([spec.name for spec in group])}: {error}")
  return errors


def _summary(spec: RunSpec, result: dict[str, Any]) -> str:
  """The outcome of a run, as text."""
  if "diverged" in result:
    return "diverged"
  select = spec.config.eval.select
  chosen = result["validation_selected"][select]
  return f"validation {select} {chosen:.3f}, {result['seconds']:.1f} s"


@contextlib.contextmanager
def only_here(folder: Path) -> Iterator[None]:
  """Holds the lock for files of the whole study.

  Partly written ones of killed processes are deleted.
  """
  with filelock.FileLock(folder / ".lock"):
    run_files.drop_leftovers(folder)
    yield


def claim_study(
  folder: Path,
  config: ConfigDict,
  specs: Sequence[RunSpec],
  cells: Sequence[Name],
  data: Mapping[str, Any],
) -> None:
  """Writes study.json, or checks that the folder belongs to this study.

  `data` is the output of `data_of`.

  Raises:
    InputError: with the difference, if it belongs to another study.
  """
  study = run_files.identity(
    config=as_dict(config),
    study=of_study(config),
    cells=list(cells),
    data=data,
    rows=[
      {
        "name": spec.name,
        "overrides": spec.overrides,
        "config": as_dict(spec.config),
      }
      for spec in specs
    ],
  )
  path = folder / STUDY
  if path.exists():
    run_files.refuse_another(path, study)
  else:
    run_files.write_json(path, study)
