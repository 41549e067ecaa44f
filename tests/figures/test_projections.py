"""Projections of embeddings to a plane, and how far they can be trusted."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.figures.projections import PROJECTIONS, pca, quality
from tests.studies import clusters


def trust_by_hand(embeddings, points, k, name):
  """The sum of Venna and Kaski, over each intruder of each point."""
  n, total = len(points), 0
  far, plane = cdist(embeddings, embeddings, name), cdist(points, points)
  np.fill_diagonal(far, -1)
  np.fill_diagonal(plane, -1)
  for i in range(n):
    rank = far[i].argsort().argsort()  # itself 0, its nearest 1
    near = plane[i].argsort()[1 : k + 1]
    total += sum(rank[j] - k for j in near if rank[j] > k)
  return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


@pytest.mark.parametrize(
  ("metric", "name"), [("l1", "cityblock"), ("l2", "euclidean")]
)
def test_the_quality_of_a_map_is_under_the_metric_of_its_run(metric, name):
  rng = np.random.default_rng(3)
  embeddings = rng.standard_t(1.5, size=(40, 6)).astype(np.float32)
  labels, points = np.repeat(np.arange(4), 10), embeddings[:, :2]
  found = quality(embeddings, points, labels, metric)
  expected = trust_by_hand(embeddings, points, 10, name)
  assert found.trustworthiness == pytest.approx(expected, abs=1e-6)
  distances = cdist(points, points)
  np.fill_diagonal(distances, np.inf)
  near = distances.argsort(axis=1)[:, :9]  # the others of its class
  hits = labels[near] == labels[:, None]
  assert found.hit == pytest.approx(hits.mean())
  other = "l2" if metric == "l1" else "l1"
  assert found.trustworthiness != quality(embeddings, points, labels, other)[0]


def test_a_map_that_separates_small_classes_is_perfect():
  """A class of three has two neighbors to find; one of its own has none."""
  x = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 9.0, 9.1, 9.2, 20.0]
  points = np.array([x, np.zeros(10)], np.float32).T
  labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
  assert quality(points, points, labels).hit == 1
  swapped = np.array([0, 0, 1, 1, 1, 0, 2, 2, 2, 3])
  wanted = []
  for i in range(9):
    order = [j for j in np.argsort(np.abs(np.array(x) - x[i])) if j != i][:2]
    wanted.append(np.mean(swapped[order] == swapped[i]))
  assert quality(points, points, swapped).hit == pytest.approx(np.mean(wanted))
  assert np.isnan(quality(points, points, np.arange(10)).hit)


def test_quality_of_few_points_and_of_several_labels():
  points = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
  assert np.isnan(quality(points, points, np.array([0, 1])).hit)
  points, _ = clusters(0, classes=1, images=4)
  labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1]])
  near = cdist(points, points) + 1e9 * np.eye(4)
  shared = (labels @ labels.T > 0)[np.arange(4), near.argmin(axis=1)]
  assert quality(points, points, labels).hit == shared.mean()


def test_pca_is_that_of_the_covariance_and_has_one_sign():
  points, _ = clusters(1, dim=5)
  found = pca(points)
  values = np.linalg.eigvalsh(np.cov(points.T.astype(float)))[::-1]
  np.testing.assert_allclose(found.var(axis=0, ddof=1), values[:2], rtol=1e-4)
  np.testing.assert_allclose(found, -pca(-points), atol=1e-5)
  # A direction does not turn when the points come in another order.
  np.testing.assert_allclose(found[::-1], pca(points[::-1]), atol=1e-4)


def test_what_keeps_neighbors_says_that_its_distances_are_not_the_metric():
  for name in ("tsne", "umap"):
    assert "Distances in the map are not" in PROJECTIONS[name].about


def test_umap_keeps_neighbors_and_is_the_same_each_time():
  pytest.importorskip("umap")
  points, labels = clusters(0, classes=4, images=12, dim=8)
  place = PROJECTIONS["umap"].place
  found = place(points, "l1")
  np.testing.assert_array_equal(found, place(points, "l1"))
  assert quality(points, found, labels, "l1").hit > 0.9
