"""Baselines are in every table, without a request."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from metric_learning import data, evaluation
from metric_learning.study import (
  baselines,
  make_specs,
  tables,
)
from metric_learning.study.baselines import BASELINES, write_baselines
from metric_learning.training import run_files
from metric_learning.training.config import override
from tests.studies import (
  CONFIG,
  scored_study,
)

# Files of this group train the same tiny network, compiled once.
pytestmark = pytest.mark.xdist_group("trained studies")


@pytest.fixture
def finished(real_study):
  """The trained study with its report; tests must not change it."""
  return real_study.reported


@pytest.mark.slow
def test_baselines_are_in_every_table_without_asking(finished):
  found = scored_study(finished)
  names = [line["name"] for line in tables.table_lines(found)]
  assert names[:3] == ["raw pixels", "PCA-4 of pixels", "untrained mlp"]
  text = tables.to_markdown(found)
  assert "bootstrap interval over test classes" in text
  assert "closed-set" in text
  # Not each score is a mean over queries, so that classes can be resampled.
  assert "nan" not in text


def test_raw_pixels_score_what_scikit_learn_finds(finished):
  test = data.load(CONFIG.data).test
  pixels = test.inputs.reshape(len(test.inputs), -1).astype(float)
  near = NearestNeighbors(n_neighbors=2).fit(pixels).kneighbors(pixels)[1][:, 1]
  line = tables.table_lines(scored_study(finished))[0]
  expected = np.mean(test.labels[near] == test.labels)
  assert line["own/recall_at_1"].mean == pytest.approx(expected)


def test_pca_is_that_of_the_training_images():
  splits = data.load(CONFIG.data)
  flat = lambda part: part.inputs.reshape(len(part.inputs), -1) / 255
  mean = flat(splits.train).mean(axis=0)
  axes = np.linalg.svd(flat(splits.train) - mean, full_matrices=False)[2][:4]
  expected = (flat(splits.test) - mean) @ axes.T
  found = baselines._pca(4, CONFIG, splits)(splits.test.inputs)
  # Up to the sign of each axis.
  np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def baselines_of(folder, rows):
  """Name and seed of each baseline. They are not scored: that takes seconds."""
  splits = data.load(CONFIG.data)
  runs = []
  for row in make_specs(CONFIG, rows):
    height, width = row.config.data.image_size or (8, 8)
    cut = lambda part, h=height, w=width: dataclasses.replace(
      part, inputs=part.inputs[:, :h, :w]
    )
    parts = {"train": cut(splits.train), "test": cut(splits.test)}
    runs.append((row.config, dataclasses.replace(splits, **parts)))
  with pytest.MonkeyPatch.context() as patch:
    for name in ("_untrained", "_pca"):
      patch.setattr(baselines, name, lambda *_: None)
    record = lambda name, _, seed, *__: {"name": name, "seed": seed}
    patch.setattr(baselines, "_record", record)
    write_baselines(folder, runs)
  found = json.loads((folder / BASELINES).read_text())
  return [(one["name"], one["seed"]) for one in found]


def test_a_baseline_counts_once_however_batches_are_made(tmp_path):
  rows = [
    {
      "batch.classes_per_batch": p,
      "augment.flip": p == 2,
      "model.embedding_dim": dim,
      "seed": seed,
    }
    for p in (5, 2)
    for dim in (4, 3)
    for seed in (0, 1)
  ]
  found = baselines_of(tmp_path, rows)
  untrained = [f"untrained mlp, embedding_dim {dim}" for dim in (4, 3)]
  plain = ("raw pixels", "PCA-4 of pixels", "PCA-3 of pixels")
  wanted = [(name, None) for name in plain]
  wanted += [(name, seed) for name in untrained for seed in (0, 1)]
  assert sorted(found, key=str) == sorted(wanted, key=str)


def test_baselines_are_named_by_what_differs_in_their_images(tmp_path):
  rows = [{"data.image_size": s, "seed": 0} for s in ((8, 8), (4, 6))]
  rows.append({"data.split_seed": 1, "data.fold": 0})
  names = [name for name, _ in baselines_of(tmp_path, rows)]
  assert len(set(names)) == len(names) == 9
  assert [name for name in names if "raw" in name] == [
    "raw pixels 8×8, split_seed 0",
    "raw pixels 4×6, split_seed 0",
    "raw pixels 8×8, split_seed 1",
  ]
  assert "untrained mlp, 4×6, split_seed 0" in names


@pytest.mark.slow
def test_baselines_have_class_intervals_for_all_means_over_queries(tmp_path):
  columns = ("own/recall_at_4", "cosine/recall_at_1", "own/mrr", "own/eer")
  columns += ("clustering/ami",)
  config = override(CONFIG, {"eval.columns": columns})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(baselines, "_untrained", lambda *_: baselines._flat)
    write_baselines(tmp_path, [(config, data.load(config.data))])
  pixels = run_files.read_json(tmp_path / BASELINES)[0]
  assert sorted(pixels["class_interval"]) == sorted(columns[:3])
  test = data.load(CONFIG.data).test
  points = test.inputs.reshape(len(test.inputs), -1).astype(float)
  found = evaluation.clustering(points.astype(np.float32) / 255, test.labels)
  assert pixels["test"]["clustering/ami"] == pytest.approx(found["ami"])
  near = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(points)[1]
  hits = (test.labels[near[:, 1:]] == test.labels[:, None]).any(axis=1)
  assert pixels["class_interval"]["own/recall_at_4"] == pytest.approx(
    evaluation.class_bootstrap(hits.astype(float), test.labels)
  )
