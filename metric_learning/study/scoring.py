"""Test scores: the only step that uses test classes, once per chosen run."""

import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import numpy as np

from metric_learning import evaluation
from metric_learning.study.runs import HALVED_SEARCHES, Run, TestScores
from metric_learning.study.verification_accuracy import accuracy_scores
from metric_learning.training import run_files
from metric_learning.training.config import open_set_of
from metric_learning.training.embedding import data_of, embed_run, is_embedded

TEST = "test.json"
QUERIES = "test_queries.npz"
HALVES = "test_halves.npz"
# The number of random halves of the test classes.
NUM_HALVES = 16

# A `results.Study`.
AnyStudy = TypeVar("AnyStudy", bound=Any)


def score_chosen(study: AnyStudy) -> AnyStudy:
  """The study, with the test scores of its chosen runs.

  Tables, comparisons and figures use its result and evaluate nothing. The test
  images of a chosen run are embedded here, from its checkpoints. The results
  are kept in the folder of the run: embeddings.npz, test.json, test_queries.npz
  for the compared columns, and test_halves.npz for one run of each of the first
  searches. Nothing is computed twice.

  Raises:
    InputError: if the files of a run or its data cannot be read.
  """
  columns = study.compared["columns"]
  return study._replace(cells=[_scored(cell, columns) for cell in study.cells])


def _scored(cell: Any, columns: Collection[str]) -> Any:
  """A cell with test scores in its chosen setting."""
  runs = [score_run(run, columns) for run in cell.chosen.runs]
  seen: set[int] = set()
  for place, run in enumerate(runs):
    if len(seen) == HALVED_SEARCHES:
      break
    if run.search is not None and run.search not in seen:
      seen.add(run.search)
      test = run.tested._replace(halves=in_halves(run, columns))
      runs[place] = run._replace(test=test)
  chosen = cell.chosen._replace(runs=runs)
  settings = [chosen if s is cell.chosen else s for s in cell.settings]
  return cell._replace(chosen=chosen, settings=settings)


def score_run(run: Run, columns: Collection[str] = ()) -> Run:
  """A run with its test scores, and scores by query for some columns.

  It is scored from the embeddings in its folder, where the scores are kept.
  Verification adds `accuracy_scores`. If no checkpoint was selected, the scores
  are NaN. Only one process at a time may score a run: see `only_here`.
  """
  run_files.drop_leftovers(run.folder)
  if not is_embedded(run.folder):
    config = run.spec.config
    embed_run(config, run.folder, data_of(run.folder, config))
  path = run.folder / TEST
  if not path.exists():
    last = _scores_in(run, run_files.EMBEDDINGS)
    selected = last
    if run.result["selected_step"] is None:
      selected = dict.fromkeys(last, math.nan)
    elif (run.folder / run_files.SELECTED_EMBEDDINGS).exists():
      selected = _scores_in(run, run_files.SELECTED_EMBEDDINGS)
    run_files.write_own(path, {"last": last, "selected": selected})
  record = run_files.read_own(path)
  queries, classes = _queries(run, columns)
  return run._replace(
    test=TestScores(record["selected"], record["last"], queries, classes)
  )


def _scores_in(run: Run, name: str) -> dict[str, float]:
  """The scores of the embeddings in a file."""
  arrays = run_files.read_own(run.folder / name)
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
  """The value of each test query in columns that are means, and its class.

  Computed at the selected checkpoint and kept in a file.
  """
  wanted = {column for column in columns if evaluation.is_by_query(column)}
  if not wanted:
    return {}, None
  path = run.folder / QUERIES
  stored = run_files.read_own(path) if path.exists() else {}
  if not wanted <= stored.keys():
    arrays = selected_arrays(run)
    labels = arrays["test_labels"]
    # Intervals resample classes, and a query with several labels has no single
    # class.
    if "test_class_names" not in arrays or labels.ndim > 1:
      return {}, None
    stored["classes"] = arrays["test_class_names"][labels]
    points = evaluation.Points(
      arrays["test_embeddings"],
      labels,
      run.result["metric"],
      gallery=_gallery(arrays),
    )
    stored |= evaluation.per_query(sorted(wanted - stored.keys()), points)
    run_files.write_own(path, stored)
  return {column: stored[column] for column in wanted}, stored["classes"]


def selected_arrays(run: Run) -> dict[str, np.ndarray]:
  """The embeddings at the selected checkpoint."""
  selected = run.folder / run_files.SELECTED_EMBEDDINGS
  last = run.folder / run_files.EMBEDDINGS
  return run_files.read_own(selected if selected.exists() else last)


def in_halves(run: Run, columns: Collection[str]) -> dict[str, np.ndarray]:
  """Scores of a run in random halves of its test classes, and of the gallery.

  The variance of the scores of random halves about their mean estimates the
  variance of a score over draws of n classes: for a mean of independent classes
  both are σ² / n. All runs have the same halves. The scores are kept in a file;
  they are empty for pairs and for queries with several labels.
  """
  wanted = {column for column in columns if evaluation.is_by_query(column)}
  path = run.folder / HALVES
  stored = run_files.read_own(path) if path.exists() else {}
  if wanted and not wanted <= stored.keys():
    arrays = selected_arrays(run)
    labels = arrays.get("test_labels")
    if labels is None or labels.ndim > 1:
      return {}
    halves: dict[str, list[float]] = {column: [] for column in wanted}
    for half in _halves(np.unique(labels)):
      scores = evaluation.per_query(
        sorted(wanted), _among(arrays, half, run.result["metric"])
      )
      for column, values in scores.items():
        halves[column].append(float(np.nanmean(values)))
    stored |= {column: np.array(values) for column, values in halves.items()}
    run_files.write_own(path, stored)
  return {column: stored[column] for column in wanted}


def _halves(classes: np.ndarray) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  return [
    rng.permutation(classes)[: len(classes) // 2] for _ in range(NUM_HALVES)
  ]


def _among(
  arrays: Mapping[str, np.ndarray], classes: np.ndarray, metric: str
) -> evaluation.Points:
  """The test and gallery items of the given classes."""
  own = np.isin(arrays["test_labels"], classes)
  gallery = _gallery(arrays)
  if gallery["reference_labels"] is not None:
    theirs = np.isin(gallery["reference_labels"], classes)
    for name in ("references", "reference_labels", "reference_groups"):
      if gallery[name] is not None:
        gallery[name] = gallery[name][theirs]
  if gallery["groups"] is not None:
    gallery["groups"] = gallery["groups"][own]
  return evaluation.Points(
    arrays["test_embeddings"][own],
    arrays["test_labels"][own],
    metric,
    gallery=gallery,
  )


def _superclasses(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...] | None:
  """The super-class of each test class, if there are any."""
  names = arrays.get("test_superclasses")
  return None if names is None else tuple(names.tolist())


def _gallery(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The gallery of test queries and their exclusions, for `retrieval`."""
  return {
    "references": arrays.get("gallery_embeddings"),
    "reference_labels": arrays.get("gallery_labels"),
    "groups": arrays.get("test_groups"),
    "reference_groups": arrays.get("gallery_groups"),
  }
