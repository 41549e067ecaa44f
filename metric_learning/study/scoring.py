"""The step that looks at test classes: chosen runs are scored, each once."""

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from metric_learning import evaluation
from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError
from metric_learning.study.runs import Run, TestScores
from metric_learning.study.verification_accuracy import accuracy_scores
from metric_learning.training import run_files
from metric_learning.training.config import open_set_of
from metric_learning.training.embedding import embed_run, is_embedded

TEST = "test.json"
QUERIES = "test_queries.npz"

# A `results.Study`, which only says what is in these files.
AnyStudy = TypeVar("AnyStudy", bound=Any)


def score_chosen(study: AnyStudy) -> AnyStudy:
  """The study, its chosen runs with their test scores.

  Tables, comparisons and figures take what it returns, and evaluate nothing.
  A chosen run embeds its test images here, from its checkpoints. What it embeds
  and scores is kept in its folder: embeddings.npz, test.json, and
  test_queries.npz of the columns that are compared. Nothing is done twice.

  Raises:
    InputError: if the files of a run or its data cannot be read.
  """
  columns = study.compared["columns"]
  return study._replace(cells=[_scored(cell, columns) for cell in study.cells])


def _scored(cell: Any, columns: Collection[str]) -> Any:
  """A cell with scores in its chosen setting, which is one of its settings."""
  runs = [score_run(run, columns) for run in cell.chosen.runs]
  chosen = cell.chosen._replace(runs=runs)
  settings = [chosen if s is cell.chosen else s for s in cell.settings]
  return cell._replace(chosen=chosen, settings=settings)


def score_run(run: Run, columns: Collection[str] = ()) -> Run:
  """A run with its test scores, and those of queries in some columns.

  Scored from the embeddings in its folder, and kept there. Verification adds
  `accuracy_scores`. Where no checkpoint was selected, its scores are NaN.
  """
  if not is_embedded(run.folder):
    embed_run(run.spec.config, run.folder, _data_of(run))
  path = run.folder / TEST
  if not path.exists():
    last = _scores_in(run, run_files.EMBEDDINGS)
    selected = last
    if run.result["selected_step"] is None:
      selected = dict.fromkeys(last, math.nan)
    elif (run.folder / run_files.SELECTED_EMBEDDINGS).exists():
      selected = _scores_in(run, run_files.SELECTED_EMBEDDINGS)
    run_files.write_json(path, {"last": last, "selected": selected})
  found = run_files.read_json(path)
  queries, classes = _queries(run, columns)
  return run._replace(
    test=TestScores(found["selected"], found["last"], queries, classes)
  )


def _data_of(run: Run) -> Any:
  """The data that a run was trained on, which its test images are part of."""
  config = run.spec.config
  try:
    return load_once(config.data)
  except (InputError, OSError) as error:
    raise InputError(
      f"{run.folder.name} is chosen, and its test images cannot be embedded:"
      f" config.data.data_dir={config.data.data_dir!r} of {config.data.name} is"
      f" not what it was when it was trained. {error} Put the data, or a link"
      " to it, where it was."
    ) from error


def _scores_in(run: Run, name: str) -> dict[str, float]:
  """The scores of the embeddings in a file."""
  arrays = run_files.read_arrays(run.folder / name)
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
      asked=["own/eer", *run.spec.config.eval.columns],
      normalized=run.result["normalize"],
      superclasses=_superclasses(arrays),
      open_set=open_set_of(run.spec.config),
      **_gallery(arrays),
    )
  if "own/eer" in scores:
    scores |= accuracy_scores(arrays, metric)
  return scores


def _queries(
  run: Run, columns: Collection[str]
) -> tuple[Mapping[str, np.ndarray], np.ndarray | None]:
  """What each test query adds to columns that are means over them; its class.

  At the selected checkpoint; kept in a file.
  """
  wanted = {column for column in columns if evaluation.is_by_query(column)}
  if not wanted:
    return {}, None
  path = run.folder / QUERIES
  kept = run_files.read_arrays(path) if path.exists() else {}
  if not wanted <= kept.keys():
    selected = run.folder / run_files.SELECTED_EMBEDDINGS
    last = run.folder / run_files.EMBEDDINGS
    arrays = run_files.read_arrays(selected if selected.exists() else last)
    labels = arrays["test_labels"]
    # Intervals draw classes, and a query with several labels has no one class.
    if "test_class_names" not in arrays or labels.ndim > 1:
      return {}, None
    kept["classes"] = arrays["test_class_names"][labels]
    points = evaluation.Points(
      arrays["test_embeddings"],
      labels,
      run.result["metric"],
      gallery=_gallery(arrays),
    )
    kept |= evaluation.per_query(sorted(wanted - kept.keys()), points)
    run_files.write_arrays(path, kept)
  return {column: kept[column] for column in wanted}, kept["classes"]


def _superclasses(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
  """The super-class of each test class, where there are some."""
  names = arrays.get("test_superclasses")
  return None if names is None else tuple(names.tolist())


def _gallery(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Where test queries look, and what they may not see: of `retrieval`."""
  return {
    "references": arrays.get("gallery_embeddings"),
    "reference_labels": arrays.get("gallery_labels"),
    "groups": arrays.get("test_groups"),
    "reference_groups": arrays.get("gallery_groups"),
  }
