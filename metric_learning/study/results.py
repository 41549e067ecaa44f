"""Reads a study from disk: its cells, with settings chosen on validation."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metric_learning.data.base import PROVENANCE
from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.study.baselines import BASELINES
from metric_learning.study.runner import RUNS, STUDY
from metric_learning.study.runs import Run
from metric_learning.study.statistics import Interval, t_interval, units_of
from metric_learning.study.sweeps import RunSpec, cell_of, tuned_of
from metric_learning.training import run_files
from metric_learning.training.config import (
  digest,
  digest_of,
  from_dict,
  reference_of,
)
from metric_learning.training.records import problem_in

SEARCH = "search.json"
TUNING = "tuning.json"
# The keys of a study of this version. Earlier, the reference was a string.
_BY_THIS_CODE = {
  "cells": [{str: object}],
  "study": {"reference": {str: object}, "columns": [str], "delta": float},
  "data?": {str: {str: str}},
}


class Setting(NamedTuple):
  """The runs of a cell that share their tuned numbers.

  validation: their mean score; NaN if a run was lost, so that it is not chosen.
  diverged: the number of other runs, whose loss did not stay finite.
  unscored: the number of other runs, whose selecting score is NaN.
  unchosen: the number of searches of the cell that chose nothing and have no
    runs.
  """

  tuned: dict[str, Any]
  runs: list[Run]
  validation: Interval
  diverged: int = 0
  unscored: int = 0
  unchosen: int = 0


class Cell(NamedTuple):
  """A line of the table: all settings that were tried, and the chosen one.

  Settings hold usable runs only. If there are several settings and none has a
  score, none is chosen, and `chosen` has no runs.

  on_edge: tuned fields whose chosen value is the first or last one tried.
  diverged: runs whose loss did not stay finite, over all settings.
  trials: the number of settings tried.
  stale: the runs that no longer match their configs, by name.
  unscored: the number of runs whose selecting score is NaN.
  searched: the fields that tuning searched; None without tuning.
  folder: the folder of its trials within that of the study; None without
    tuning.
  searches: the entries of tuning.json. If there are any, the only setting holds
    the final runs of all searches, and its `tuned` is empty.
  """

  name: dict[str, Any]
  settings: list[Setting]
  chosen: Setting
  on_edge: list[str]
  diverged: int
  trials: int
  stale: list[str]
  unscored: int = 0
  searched: list[str] | None = None
  folder: str | None = None
  searches: Sequence[Mapping[str, Any]] = ()


class Study(NamedTuple):
  """A study, the input of tables and figures.

  names: the names of all cells in order, finished or not.
  compared: the section `study` of the config, which says how cells are
    compared; its reference has flat names.
  given_up: the entries of tuning.json for cells of which every trial failed.
  provenance: the origin of features, a sentence for each file.
  parts: the numbers of classes and items of each part that all runs share.
  tune: the section `tune` of the config; empty without tuning.
  """

  folder: Path
  config: dict[str, Any]
  cells: list[Cell]
  baselines: list[dict[str, Any]]
  missing: int
  names: list[dict[str, Any]]
  compared: dict[str, Any]
  given_up: list[dict[str, Any]]
  provenance: list[str]
  parts: list[str]
  tune: Mapping[str, Any] = {}

  @property
  def stale(self) -> list[str]:
    """The runs that no longer match their configs, by name."""
    return [name for cell in self.cells for name in cell.stale]


def read_study(folder: str | Path) -> Study:
  """Reads the finished runs of a study.

  Raises:
    InputError: if the folder holds no study, or none of its runs is finished.
  """
  folder = Path(folder)
  if not (folder / STUDY).exists():
    raise InputError(
      f"{folder} holds no study ({STUDY} is missing): run"
      " python -m experiments.sweep first."
    )
  study = run_files.read_json(folder / STUDY)
  if problem_in(study, _BY_THIS_CODE):
    raise InputError(
      f"{folder} was written by another version of the code: report it with "
      "the version of its runs, whose commit is in their result.json."
    )
  # Earlier versions always chose numbers on validation.
  named = {"study": {"choose": True, **study["study"]}}
  specs = [
    RunSpec(
      entry["name"], entry["overrides"], from_dict(entry["config"] | named)
    )
    for entry in study["rows"]
  ]
  runs = [
    _read_run(spec, folder / RUNS / spec.name)
    for spec in specs
    if (folder / RUNS / spec.name / run_files.RESULT).exists()
  ]
  if not runs:
    raise InputError(f"no run of {folder} is finished.")
  tuning = []
  if (folder / TUNING).exists():
    tuning = run_files.read_json(folder / TUNING)
  of_parts = study.get("data", {}).values()  # missing in earlier versions
  return Study(
    folder,
    study["config"],
    _cells(runs, tuning),
    run_files.read_json(folder / BASELINES),
    len(specs) - len(runs),
    study["cells"],
    {**named["study"], "reference": reference_of(specs[0].config)},
    _given_up(tuning),
    sorted({x[PROVENANCE] for x in of_parts if PROVENANCE in x}),
    _parts(of_parts),
    _tune_of(folder),
  )


def _parts(identities: Iterable[Mapping[str, str]]) -> list[str]:
  """Such as "test: 98 classes, 4092 images of 96×96×3", if all runs agree."""
  sizes: dict[str, set[str]] = {}
  for identity in identities:
    for part in identity.keys() - {PROVENANCE}:
      sizes.setdefault(part, set()).add(identity[part].partition(": ")[0])
  shared = {part: size for part, (size, *more) in sizes.items() if not more}
  order = ("train", "validation", "test", "gallery")
  return [f"{part}: {shared[part]}" for part in order if part in shared]


def _given_up(tuning: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """The first tuning entry of each cell that chose nothing in any search."""
  chose = [entry["cell"] for entry in tuning if entry["chosen"]]
  lost: dict[str, dict[str, Any]] = {}
  for entry in tuning:
    if entry["cell"] not in chose:
      lost.setdefault(_key(entry["cell"]), entry)
  return list(lost.values())


def _tune_of(folder: Path) -> dict[str, Any]:
  if not (folder / SEARCH).exists():
    return {}
  return run_files.read_json(folder / SEARCH)["config"].get("tune", {})


def _read_run(spec: RunSpec, folder: Path) -> Run:
  result = run_files.read_json(folder / run_files.RESULT)
  expected = digest(spec.config)
  # The result of a diverged run has no digest.
  found = {result.get("digest", expected)}
  if (folder / run_files.CONFIG).exists():
    config = run_files.read_json(folder / run_files.CONFIG)
    found.add(digest_of(config))
  else:
    found.add("none")
  return Run(spec, folder, result, is_stale=found != {expected})


def _key(name: Mapping[str, Any]) -> str:
  return json.dumps(name, sort_keys=True)


def _cells(
  runs: Sequence[Run], tuning: Sequence[Mapping[str, Any]]
) -> list[Cell]:
  grouped: dict[str, list[Run]] = {}
  for run in runs:
    grouped.setdefault(_key(cell_of(run.spec)), []).append(run)
  cells = []
  for group in grouped.values():
    name = cell_of(group[0].spec)
    searches = [e for e in tuning if e["cell"] == name and "search" in e]
    if searches:
      cells.append(_searched_cell(name, group, searches))
    else:
      cells.append(_as_tuned(_cell(name, group), tuning))
  return cells


def _searched_cell(
  name: dict[str, Any], runs: list[Run], searches: list[Mapping[str, Any]]
) -> Cell:
  """A cell with several searches: the final runs of all, by number."""
  number_of = {seed: e["search"] for e in searches for seed in e["seeds"]}
  runs = [
    run._replace(search=number_of[run.spec.config.seed])
    for run in sorted(runs, key=lambda run: run.spec.config.seed)
  ]
  setting = _setting(runs, runs[0].spec.config.eval.select)._replace(
    tuned={}, unchosen=sum(not entry["chosen"] for entry in searches)
  )
  edges = dict.fromkeys(f for entry in searches for f in entry["on_edge"])
  return Cell(
    name,
    [setting],
    setting,
    on_edge=list(edges),
    diverged=setting.diverged,
    trials=searches[0]["trials"],
    stale=[run.spec.name for run in runs if run.is_stale],
    unscored=setting.unscored,
    searched=searched_in(searches[0]),
    folder=str(Path(searches[0]["folder"]).parent),
    searches=searches,
  )


def _as_tuned(cell: Cell, tuning: Sequence[Mapping[str, Any]]) -> Cell:
  """The cell with the facts in tuning.json about its search."""
  for entry in tuning:
    if entry["cell"] == cell.name:
      return cell._replace(
        trials=entry["trials"],
        folder=entry["folder"],
        on_edge=entry["on_edge"],
        searched=searched_in(entry),
      )
  return cell


def searched_in(entry: Mapping[str, Any]) -> list[str]:
  """The fields that an entry of tuning.json searched, over two or more values.

  >>> searched_in({"ranges": {"loss.alpha": [0, 2, 0], "loss.beta": [1, 1, 0]}})
  ['loss.alpha']
  """
  ranges = entry["ranges"].items()
  return [field for field, (low, high, _) in ranges if low != high]


def _cell(name: dict[str, Any], runs: list[Run]) -> Cell:
  """A cell, with the setting of the best mean validation score chosen."""
  select = runs[0].spec.config.eval.select
  better = -1 if lower_is_better(select) else 1
  grouped: dict[str, list[Run]] = {}
  for run in runs:
    grouped.setdefault(_key(tuned_of(run.spec)), []).append(run)
  settings = [_setting(runs_of, select) for runs_of in grouped.values()]
  chosen = _choose(settings, better)
  on_edge = []
  for field, value in chosen.tuned.items():
    tried = sorted({s.tuned[field] for s in settings})
    if len(tried) > 2 and value in (tried[0], tried[-1]):
      on_edge.append(field)
  diverged = sum("diverged" in run.result for run in runs)
  stale = [run.spec.name for run in runs if run.is_stale]
  unscored = sum(_is_unscored(run) for run in runs)
  return Cell(
    *(name, settings, chosen, on_edge),
    *(diverged, len(settings), stale, unscored),
  )


def _is_unscored(run: Run) -> bool:
  """Whether a run selected no checkpoint because the selecting score is NaN."""
  return "diverged" not in run.result and run.result["selected_step"] is None


def _setting(runs: Sequence[Run], select: str) -> Setting:
  """The runs of one setting, and their mean validation score."""
  fresh = [run for run in runs if not run.is_stale]
  usable = [
    run for run in fresh if not ("diverged" in run.result or _is_unscored(run))
  ]
  interval = over_replicates(
    usable, lambda run: run.result["validation_selected"][select]
  )
  diverged = sum("diverged" in run.result for run in fresh)
  unscored = sum(map(_is_unscored, fresh))
  # A setting that lost a seed has no score and cannot be chosen.
  if diverged or unscored or not np.isfinite(interval.mean):
    interval = t_interval([])
  return Setting(tuned_of(runs[0].spec), usable, interval, diverged, unscored)


def _choose(settings: Sequence[Setting], better: int) -> Setting:
  """The setting with the best score; a single setting needs no score.

  If no setting has a score, the result has no runs.
  """
  if len(settings) == 1:
    return settings[0]
  scored = [s for s in settings if np.isfinite(s.validation.mean)]
  if not scored:
    lost = [(s.diverged, s.unscored) for s in settings]
    return Setting({}, [], t_interval([]), *map(sum, zip(*lost, strict=True)))
  return max(scored, key=lambda s: better * s.validation.mean)


def by_unit(
  runs: Sequence[Run], value: Callable[[Run], float]
) -> dict[Any, float]:
  """Maps each unit to a value of its runs.

  The units are searches, if there are several, or else those of `units_of`.

  The value of a search is the mean over its final runs.
  """
  if any(run.search is not None for run in runs):
    searches: dict[Any, list[float]] = {}
    for run in runs:
      searches.setdefault(run.search, []).append(value(run))
    return {number: float(np.mean(x)) for number, x in searches.items()}
  return units_of({run.replicate: value(run) for run in runs})


def over_replicates(
  runs: Sequence[Run], value: Callable[[Run], float]
) -> Interval:
  """The mean and t-interval of a value over the units of `by_unit`."""
  return t_interval(list(by_unit(runs, value).values()))


def check_scored(study: Study) -> None:
  """Checks that the chosen runs of a study have their test scores.

  Raises:
    InputError: if the study was not passed through `score_chosen`.
  """
  for cell in study.cells:
    for run in cell.chosen.runs:
      _ = run.tested
