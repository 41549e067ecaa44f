"""Reads a study from disk: its cells, chosen on validation, scored on test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metric_learning import evaluation
from metric_learning.errors import InputError
from metric_learning.study.baselines import BASELINES
from metric_learning.study.runner import RUNS, STUDY
from metric_learning.study.statistics import Interval, t_interval
from metric_learning.study.sweeps import StudyRow, cell_of, tuned_of
from metric_learning.study.thresholds import accuracy_scores
from metric_learning.training import records
from metric_learning.training.config import digest, from_dict
from metric_learning.training.loop import lower_is_better

TEST = "test.json"


class Run(NamedTuple):
  """A finished run and the row that made it."""

  row: StudyRow
  folder: Path
  result: dict[str, Any]


class Setting(NamedTuple):
  """The runs of a cell that share their tuned numbers."""

  tuned: dict[str, Any]
  runs: list[Run]
  validation: Interval


class Cell(NamedTuple):
  """A line of the table: every setting that was tried, and the chosen one.

  on_edge: tuned fields whose chosen value is the first or last that was tried.
  diverged: runs whose loss did not stay finite, over all settings.
  """

  name: dict[str, Any]
  settings: list[Setting]
  chosen: Setting
  on_edge: list[str]
  diverged: int


class Study(NamedTuple):
  """What the tables and figures are made of."""

  folder: Path
  config: dict[str, Any]
  cells: list[Cell]
  baselines: list[dict[str, Any]]
  missing: int


def read_study(folder: str | Path) -> Study:
  """The cells of a study, as far as its runs are finished.

  Raises:
    InputError: if the folder holds no study, or none of its runs is finished.
  """
  folder = Path(folder)
  if not (folder / STUDY).exists():
    raise InputError(
      f"{folder} holds no study ({STUDY} is missing): run"
      " python -m experiments.sweep first."
    )
  study = records.read_json(folder / STUDY)
  runs, missing = [], 0
  for entry in study["rows"]:
    config = from_dict(entry["config"])
    row = StudyRow(entry["name"], entry["overrides"], config)
    where = folder / RUNS / row.name
    if not (where / records.RESULT).exists():
      missing += 1
      continue
    result = records.read_json(where / records.RESULT)
    if "diverged" not in result and result["digest"] != digest(config):
      raise InputError(f"{where} holds a run of another config.")
    runs.append(Run(row, where, result))
  if not runs:
    raise InputError(f"no run of {folder} is finished.")
  baselines = records.read_json(folder / BASELINES)
  return Study(folder, study["config"], _cells(runs), baselines, missing)


def _cells(runs: Sequence[Run]) -> list[Cell]:
  grouped: dict[str, list[Run]] = {}
  for run in runs:
    name = json.dumps(cell_of(run.row), sort_keys=True)
    grouped.setdefault(name, []).append(run)
  return [_cell(cell_of(some[0].row), some) for some in grouped.values()]


def _cell(name: dict[str, Any], runs: list[Run]) -> Cell:
  """Chooses among the settings of a cell by their mean validation score."""
  select = runs[0].row.config.eval.select
  better = -1 if lower_is_better(select) else 1
  grouped: dict[str, list[Run]] = {}
  for run in runs:
    tuned = json.dumps(tuned_of(run.row), sort_keys=True)
    grouped.setdefault(tuned, []).append(run)
  settings = []
  for some in grouped.values():
    finite = [run for run in some if "diverged" not in run.result]
    # A setting that diverged for one seed is not one to choose.
    whole = len(finite) == len(some)
    worst = -better * float("inf")
    interval = over_replicates(
      finite, lambda run: run.result["validation_selected"][select]
    )
    if not whole or not np.isfinite(interval.mean):
      interval = interval._replace(mean=worst)
    settings.append(Setting(tuned_of(some[0].row), finite, interval))
  chosen = max(settings, key=lambda s: better * s.validation.mean)
  on_edge = []
  for field, value in chosen.tuned.items():
    tried = sorted({s.tuned[field] for s in settings})
    if len(tried) > 2 and value in (tried[0], tried[-1]):
      on_edge.append(field)
  diverged = sum("diverged" in run.result for run in runs)
  return Cell(name, settings, chosen, on_edge, diverged)


def over_replicates(runs: Sequence[Run], value) -> Interval:
  """Mean and t-interval of a value over folds, or over seeds in one fold.

  Runs on one fold share test classes, so where there are several folds each
  counts once, with the mean of its seeds.
  """
  by_fold: dict[int, list[float]] = {}
  for run in runs:
    by_fold.setdefault(run.row.config.data.fold, []).append(value(run))
  if len(by_fold) > 1:
    return t_interval([float(np.mean(v)) for v in by_fold.values()])
  return t_interval([x for values in by_fold.values() for x in values])


def scores_on_test(run: Run) -> dict[str, dict[str, float]]:
  """Test scores of a chosen run, under "selected" and "last" checkpoint.

  Scored when a report asks for them, from the embeddings on disk, and kept in
  test.json. Verification adds `accuracy_scores`.
  """
  path = run.folder / TEST
  if path.exists():
    return records.read_json(path)
  scores = {"last": _score_file(run, records.EMBEDDINGS)}
  selected = run.folder / records.SELECTED_EMBEDDINGS
  scores["selected"] = (
    _score_file(run, records.SELECTED_EMBEDDINGS)
    if selected.exists()
    else scores["last"]
  )
  records.write_json(path, scores)
  return scores


def _score_file(run: Run, name: str) -> dict[str, float]:
  arrays = records.read_arrays(run.folder / name)
  metric = run.result["metric"]
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  if "test_same" in arrays:
    first, second = arrays["test_first"], arrays["test_second"]
    same = arrays["test_same"]
    scores = evaluation.evaluate_pairs(points, first, second, same, metric)
  else:
    scores = evaluation.evaluate(
      points,
      labels,
      metric,
      asked=["own/eer", *run.row.config.eval.columns],
      normalize=run.result["normalize"],
      references=arrays.get("gallery_embeddings"),
      reference_labels=arrays.get("gallery_labels"),
    )
  if "own/eer" in scores:
    scores |= accuracy_scores(arrays, metric)
  return scores
