"""Query and gallery, from the data to the table."""

import numpy as np

from metric_learning import data
from metric_learning.data.base import select
from metric_learning.study import make_rows
from metric_learning.study.baselines import write_baselines
from metric_learning.study.results import Run, scores_on_test
from metric_learning.training import records, train
from tests.tiny import tiny_config


def with_gallery():
  """Digits whose test images are cut into queries and a gallery."""
  splits = data.load(tiny_config().data)
  places = np.arange(len(splits.test.labels))
  query, gallery = places[places % 3 == 0], places[places % 3 > 0]
  return data.Splits(
    splits.train,
    splits.validation,
    select(splits.test, query),
    splits.protocol,
    select(splits.test, gallery),
  )


def test_queries_are_scored_against_the_gallery(tmp_path):
  config, splits = tiny_config(), with_gallery()
  result = train(config, tmp_path / "run", splits=splits, progress=False)
  (row,) = make_rows(config, [{}])
  scores = scores_on_test(Run(row, tmp_path / "run", result))["selected"]
  files = sorted((tmp_path / "run").glob("embeddings*.npz"))
  arrays = records.read_arrays(files[-1])  # the selected ones, if not the last
  assert len(arrays["gallery_labels"]) == len(splits.gallery.labels)
  wanted = nearest_is_of_the_class(
    arrays["test_embeddings"],
    splits.test.labels,
    arrays["gallery_embeddings"],
    splits.gallery.labels,
  )
  assert scores["own/recall_at_1"] == wanted
  assert scores["own/num_queries"] == len(splits.test.labels)
  assert "own/eer" not in scores

  write_baselines(tmp_path, [(config, splits)])
  pixels = records.read_json(tmp_path / "baselines.json")[0]
  flat = lambda part: part.images.reshape(len(part.labels), -1) / 255
  assert pixels["test"]["own/recall_at_1"] == nearest_is_of_the_class(
    flat(splits.test),
    splits.test.labels,
    flat(splits.gallery),
    splits.gallery.labels,
  )
  low, high = pixels["class_interval"]["own/recall_at_1"]
  assert low <= pixels["test"]["own/recall_at_1"] <= high


def nearest_is_of_the_class(queries, labels, gallery, gallery_labels):
  queries, gallery = queries.astype(float), gallery.astype(float)
  apart = ((queries[:, None] - gallery) ** 2).sum(axis=2)
  return float((gallery_labels[apart.argmin(axis=1)] == labels).mean())
