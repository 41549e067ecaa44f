"""Test classes are resampled for all runs at once."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from metric_learning import evaluation
from metric_learning.study import read_study, tables
from metric_learning.study.comparisons import class_interval, compare_cells
from metric_learning.study.scoring import QUERIES, score_run
from metric_learning.training import run_files
from tests.studies import change, scored_study
from tests.study.written_tables import cells

ABC = ("a", "b", "c")


def hits(run):
  """For each query, whether the nearest other point is of its class."""
  arrays = np.load(run / "embeddings.npz")
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  near = NearestNeighbors(n_neighbors=2, metric="cityblock").fit(points)
  return labels[near.kneighbors(points)[1][:, 1]] == labels, labels


def test_classes_are_resampled_for_all_runs_at_once(write_study):
  rows = [
    ({"loss.name": loss, "metric.name": "l1", "seed": seed}, 0.5)
    for loss in ("contrastive", "triplet")
    for seed in (0, 1)
  ]
  folder = write_study(rows, class_names=ABC)
  change(
    folder / "study.json",
    study={"reference": {}, "columns": ["own/recall_at_1"], "delta": 0.01},
  )
  study = scored_study(folder)
  found = [
    [hits(run.folder) for run in cell.chosen.runs] for cell in study.cells
  ]
  means = [np.mean([values for values, _ in runs], axis=0) for runs in found]
  labels = found[0][0][1]
  (one,) = compare_cells(study)
  wanted = evaluation.class_bootstrap(means[1] - means[0], labels)
  assert one.over_classes == pytest.approx(wanted)
  assert wanted[0] < wanted[1]
  own = class_interval(study.cells[0].chosen.runs, "own/recall_at_1")
  assert own == pytest.approx(evaluation.class_bootstrap(means[0], labels))
  assert len(list(folder.glob(f"runs/*/{QUERIES}"))) == 4
  low, high = own
  assert f"[{low:.3f}, {high:.3f}]" in tables.to_markdown(study)


def test_classes_of_all_folds_are_resampled(write_study):
  rows = [
    (
      {"metric.name": "l1", "loss.name": loss, "data.fold": fold, "seed": seed},
      0.5,
    )
    for loss in ("contrastive", "triplet")
    for fold in (0, 1)
    for seed in (0, 1)
  ]
  folder = write_study(rows, class_names=ABC)
  for path in folder.glob("runs/*fold=1*/embeddings.npz"):
    arrays = dict(np.load(path))
    arrays["test_class_names"] = np.array(["a", "longer", "e"])
    np.savez(path, **arrays)
  change(
    folder / "study.json",
    study={"reference": {}, "columns": ["own/recall_at_1"], "delta": 0.01},
  )
  study = scored_study(folder)
  means = []
  for cell in study.cells:
    found = {0: [], 1: []}
    for run in cell.chosen.runs:
      found[run.spec.config.data.fold].append(hits(run.folder)[0])
    means.append(np.concatenate([np.mean(x, axis=0) for x in found.values()]))
  labels = hits(study.cells[0].chosen.runs[0].folder)[1]
  # Both folds test the class "a", the others are their own: 5 classes.
  labels = np.concatenate([labels, np.array([0, 3, 4])[labels]])
  own = class_interval(study.cells[0].chosen.runs, "own/recall_at_1")
  # The seed of the bootstrap draws by the order of the names: a b c e longer.
  labels = np.array([0, 1, 2, 4, 3])[labels]
  assert own == pytest.approx(evaluation.class_bootstrap(means[0], labels))
  (one,) = compare_cells(study)
  wanted = evaluation.class_bootstrap(means[1] - means[0], labels)
  assert one.over_classes == pytest.approx(wanted)
  low, high = own
  assert f"[{low:.3f}, {high:.3f}]" in tables.to_markdown(study)


def test_runs_of_a_fold_that_differ_in_queries_have_no_common_interval(
  write_study,
):
  folder = write_study(cells(l2=[0.5, 0.5]), class_names=ABC)
  path = next(folder.glob("runs/*seed=1/embeddings.npz"))
  arrays = dict(np.load(path))
  arrays["test_class_names"] = np.array(["d", "e", "f"])
  np.savez(path, **arrays)
  (cell,) = scored_study(folder).cells
  assert class_interval(cell.chosen.runs, "own/map_at_r") is None
  assert class_interval(cell.chosen.runs[:1], "own/map_at_r") is not None
  assert class_interval(cell.chosen.runs[:1], "own/eer") is None


def test_queries_are_those_of_the_selected_checkpoint(write_study):
  folder = write_study(cells(l1=[0.5]), class_names=ABC)
  (run,) = read_study(folder).cells[0].chosen.runs
  arrays = dict(np.load(run.folder / "embeddings.npz"))
  # At the selected checkpoint every point is on the mark of its class.
  marks = np.eye(3, 2, dtype=np.float32)[arrays["test_labels"]]
  selected = {**arrays, "test_embeddings": marks}
  np.savez(run.folder / run_files.SELECTED_EMBEDDINGS, **selected)
  (found,) = score_run(run, ["own/recall_at_1"]).tested.queries.values()
  assert np.mean(found) == 1
  assert np.mean(hits(run.folder)[0]) < 1


def test_queries_have_a_score_under_cosine_too(write_study):
  folder = write_study(cells(l1=[0.5]), class_names=ABC)
  (run,) = read_study(folder).cells[0].chosen.runs
  arrays = np.load(run.folder / "embeddings.npz")
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  near = NearestNeighbors(n_neighbors=4, metric="cosine").fit(points)
  found = labels[near.kneighbors(points)[1][:, 1:]] == labels[:, None]
  columns = ["cosine/recall_at_3", "own/recall_at_1", "cosine/recall_at_1"]
  tested = score_run(run, columns).tested
  values = tested.queries["cosine/recall_at_3"]
  np.testing.assert_array_equal(values, found.any(axis=1))
  assert set(tested.classes) == {"a", "b", "c"}
  # Under the own metric some other queries are hit.
  own = tested.queries["own/recall_at_1"]
  cosine = tested.queries["cosine/recall_at_1"]
  np.testing.assert_array_equal(cosine, found[:, 0])
  assert not np.array_equal(own, cosine)
