"""faiss finds what an exact search finds, or is refused."""

import sys

import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.evaluation import neighbors
from metric_learning.inference.index import make_index


def index_of(points, metric, engine="faiss"):
  return make_index(points, None, metric, lambda: None, engine)


@pytest.mark.parametrize("metric", ["l2", "squared_l2", "cosine"])
def test_it_finds_what_an_exact_search_finds(metric):
  pytest.importorskip("faiss")
  rng = np.random.default_rng(0)
  points = rng.normal(size=(60, 5)).astype(np.float32)
  queries = rng.normal(size=(9, 5)).astype(np.float32)
  indices, distances = neighbors(queries, points, 4, metric=metric)
  found = index_of(points, metric).search(queries, 4)
  np.testing.assert_array_equal(found.indices, indices)
  np.testing.assert_allclose(found.distances, distances, rtol=1e-6)
  own = np.array([3, -1, 59])
  expected, _ = neighbors(
    points[own], points, 59, metric=metric, exclude_self=own
  )
  hits = index_of(points, metric).search(points[own], 59, exclude_self=own)
  np.testing.assert_array_equal(hits.indices[[0, 2]], expected[[0, 2]])
  with pytest.raises(InputError, match="k=60: the gallery has 59"):
    index_of(points, metric).search(points, 60, exclude_self=True)


def test_a_point_without_direction_is_refused():
  pytest.importorskip("faiss")
  points = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
  with pytest.raises(InputError, match="points: row 1 is 0"):
    index_of(points, "cosine")


def test_what_it_cannot_do_is_said(monkeypatch):
  points = np.zeros((3, 2), np.float32)
  with pytest.raises(InputError, match="by 'l1' here, but by l2, squared_l2"):
    index_of(points, "l1")
  with pytest.raises(InputError, match="unknown engine 'fais'"):
    index_of(points, "l2", "fais")
  monkeypatch.setitem(sys.modules, "faiss", None)
  with pytest.raises(InputError, match=r"pip install 'metric-learning\[faiss"):
    index_of(points, "l2")
