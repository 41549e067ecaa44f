"""Neighbors against a full float64 sort, ties included."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.distances import pairwise
from metric_learning.errors import InputError
from metric_learning.evaluation import neighbors, tiles
from metric_learning.evaluation.neighbors import nearest

SCIPY = {
  "l1": "cityblock",
  "l2": "euclidean",
  "squared_l2": "sqeuclidean",
  "cosine": "cosine",
}
# The package exports a function of the same name as the module.
module = sys.modules["metric_learning.evaluation.neighbors"]


def float64_distances(x, y, metric):
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return -x @ y.T if metric == "dot" else cdist(x, y, SCIPY[metric])


def sorted_neighbors(x, y, k, metric, exclude_self):
  """Sorts whole rows by (distance, position in the fixed shuffle)."""
  distances = float64_distances(x, y, metric)
  place = np.argsort(np.random.default_rng(0).permutation(len(y)))
  indices = []
  for i, row in enumerate(distances):
    order = np.lexsort((place, row))
    indices.append([j for j in order if not (exclude_self and i == j)][:k])
  indices = np.array(indices)
  return indices, np.take_along_axis(distances, indices, axis=1)


def grid(n, seed=0):
  """Points with few distinct coordinates: many distances and points tie."""
  return np.random.default_rng(seed).integers(-2, 3, (n, 3)).astype(float)


@pytest.mark.parametrize("metric", ["l1", "l2", "squared_l2", "dot"])
@pytest.mark.parametrize("k", [1, 7, 39])
def test_equals_full_sort_with_ties_at_the_kth_place(metric, k):
  points = grid(40)
  indices, distances = neighbors(
    points, points, k, metric=metric, exclude_self=True
  )
  expected = sorted_neighbors(points, points, k, metric, True)
  np.testing.assert_array_equal(indices, expected[0])
  np.testing.assert_allclose(distances, expected[1], rtol=1e-6)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_gallery_of_another_size(metric):
  rng = np.random.default_rng(1)
  queries, references = rng.normal(size=(21, 17)), rng.normal(size=(50, 17))
  indices, distances = neighbors(queries, references, 5, metric=metric)
  expected = sorted_neighbors(queries, references, 5, metric, False)
  np.testing.assert_array_equal(indices, expected[0])
  np.testing.assert_allclose(distances, expected[1], rtol=1e-5)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_tiles_change_nothing(monkeypatch, exclude_self):
  points = grid(50, seed=2)
  whole = neighbors(points, points, 9, exclude_self=exclude_self)
  monkeypatch.setattr(tiles, "_CPU_TILE", 16)
  tiled = neighbors(points, points, 9, exclude_self=exclude_self)
  np.testing.assert_array_equal(tiled[0], whole[0])
  np.testing.assert_array_equal(tiled[1], whole[1])


@pytest.mark.parametrize("metric", ["l1", "dot"])
def test_the_way_of_accelerators_gives_the_same(monkeypatch, metric):
  points = grid(60, seed=3)
  on_cpu = neighbors(points, points, 11, metric=metric, exclude_self=True)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(tiles, "_ACCELERATOR_TILE", 32)
  other = neighbors(points, points, 11, metric=metric, exclude_self=True)
  np.testing.assert_array_equal(other[0], on_cpu[0])
  np.testing.assert_array_equal(other[1], on_cpu[1])


@pytest.mark.parametrize("num_values", [3, 10**9])
@pytest.mark.parametrize("columns", [30, 700])
def test_an_accelerator_chooses_the_same_columns(columns, num_values):
  """With few columns, all are sorted; with many, only some groups."""
  rng = np.random.default_rng(4)
  codes = rng.integers(-num_values, num_values, (9, columns), dtype=np.int32)
  codes[:, rng.integers(0, columns, columns // 3)] = tiles.HIDDEN
  codes[0] = tiles.HIDDEN
  # The nearest stands late, beside one of many that tie for the next place.
  codes[1, -2:] = -num_values - 1, codes[1].min()
  order = np.argsort(codes, axis=1, kind="stable")[:, :2]
  for chosen in (nearest(codes, 2), nearest(jnp.asarray(codes), 2)):
    np.testing.assert_array_equal(chosen[0], order)
    np.testing.assert_array_equal(
      chosen[1], np.take_along_axis(codes, order, axis=1)
    )


@pytest.fixture
def optimized(monkeypatch):
  """Programs compiled as for users, with shapes that no other test has."""
  jax.config.update("jax_disable_most_optimizations", False)
  monkeypatch.setattr(tiles, "_CPU_TILE", 512)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_copies_are_equally_far_wherever_they_stand(optimized, metric):
  rng = np.random.default_rng(11)
  points = rng.normal(size=(600, 19)).astype(np.float32)
  first, second = rng.permutation(600).reshape(2, 300)
  points[second] = points[first]
  found = np.empty((600, 600), np.int32)

  def use(rows, codes):
    found[rows] = codes

  tiles.for_each_block(use, metric, points, points)
  np.testing.assert_array_equal(found[:, first], found[:, second])
  np.testing.assert_array_equal(found[first], found[second])


def by_full_sort(monkeypatch, *args, **options):
  """Neighbors without the choice of candidates."""
  with monkeypatch.context() as patch:
    patch.setattr(module, "_SHARE", 0)
    return neighbors(*args, **options)


@pytest.mark.parametrize("metric", ["l2", "squared_l2", "cosine"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_candidates_change_nothing(monkeypatch, metric, exclude_self):
  rng = np.random.default_rng(6)
  points = rng.normal(size=(700, 5))
  points[300:400] = points[:100]  # so that many tie
  options = {"metric": metric, "exclude_self": exclude_self}
  whole = by_full_sort(monkeypatch, points, points, 9, **options)
  # Nothing is left for the full sort.
  monkeypatch.setattr(module, "nearest", None)
  found = neighbors(points, points, 9, **options)
  np.testing.assert_array_equal(found[0], whole[0])
  np.testing.assert_allclose(found[1], whole[1], rtol=1e-6)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_queries_with_too_many_candidates_are_sorted(monkeypatch, metric):
  points = np.random.default_rng(7).normal(size=(400, 3))
  points[100:] = 1.0  # 300 equal ones are candidates of each other
  whole = by_full_sort(monkeypatch, points, points, 2, metric=metric)
  found = neighbors(points, points, 2, metric=metric)
  np.testing.assert_array_equal(found[0], whole[0])


@pytest.mark.slow
def test_candidates_hold_the_neighbors_that_the_product_form_misses(
  monkeypatch,
):
  # At 30 from the mean the product form is wrong by about 1e-4, which is what
  # squared distances between neighbors differ by.
  rng = np.random.default_rng(8)
  sides = rng.choice([-30, 30], (640, 1))
  points = (sides + rng.uniform(0, 0.5, (640, 2))).astype(np.float32)
  product = pairwise("squared_l2", *map(jnp.asarray, (points, points)))
  expected = sorted_neighbors(points, points, 5, "l2", False)
  assert np.any(np.argsort(product, axis=1)[:, :5] != expected[0])
  monkeypatch.setattr(module, "_PER_NEIGHBOR", 640)
  monkeypatch.setattr(module, "nearest", None)
  found = neighbors(points, points, 5)
  np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e17])
def test_candidates_of_tiny_and_huge_points(monkeypatch, size):
  points = size * np.random.default_rng(9).normal(size=(200, 4))
  whole = by_full_sort(monkeypatch, points, points, 3)
  found = neighbors(points, points, 3)
  np.testing.assert_array_equal(found[0], whole[0])


def test_what_a_thread_raises_is_raised(monkeypatch):
  monkeypatch.setattr(tiles, "_CPU_TILE", 16)

  def fail(rows, codes):
    raise InputError("not finite")

  with pytest.raises(InputError, match="not finite"):
    tiles.for_each_block(fail, "l1", grid(40), grid(40))


def test_self_is_left_out_by_index_and_not_by_distance():
  points = np.array([[1.0], [1.0], [5.0]])
  indices, distances = neighbors(points, points, 1, exclude_self=True)
  np.testing.assert_array_equal(indices[:2], [[1], [0]])
  np.testing.assert_array_equal(distances[:2], [[0.0], [0.0]])


def test_small_distances_far_from_the_origin_are_exact():
  # |x|² + |y|² - 2 x·y in float32 is wrong by about 1 here; distances are
  # below 0.5.
  rng = np.random.default_rng(4)
  points = (1000 + rng.uniform(0, 0.2, (30, 4))).astype(np.float32)
  indices, distances = neighbors(points, points, 29, exclude_self=True)
  expected = sorted_neighbors(points, points, 29, "l2", True)
  np.testing.assert_array_equal(indices, expected[0])
  np.testing.assert_allclose(distances, expected[1], rtol=1e-5)


def test_zeros_of_either_sign_are_equal_distances():
  # 1 * 0 and 1 * -0, negated.
  references = np.array([[0.0], [-0.0], [0.0], [-0.0], [0.0]])
  indices, _ = neighbors(np.array([[1.0]]), references, 5, metric="dot")
  np.testing.assert_array_equal(
    indices[0], np.random.default_rng(0).permutation(5)
  )


@pytest.mark.parametrize("row", [[np.nan, 0.0], [0.0, np.inf]])
def test_embeddings_that_are_not_finite_are_refused(row):
  points = np.array([[0.0, 1.0], row])
  with pytest.raises(InputError, match=r"1 of 2 rows .* row 1\)"):
    neighbors(points, points, 1)


@pytest.mark.parametrize("k", [0, 3])
def test_impossible_k_is_refused(k):
  points = np.zeros((3, 2))
  with pytest.raises(InputError, match="choose k from 1 to 2"):
    neighbors(points, points, k, exclude_self=True)


def test_unknown_metric_is_refused_with_the_nearest_name():
  with pytest.raises(InputError, match="did you mean 'cosine'"):
    neighbors(np.zeros((3, 2)), np.zeros((3, 2)), 1, metric="cosin")


def test_learned_metric_says_how_to_score_it():
  with pytest.raises(InputError, match=r"embeddings @ L\.T under 'l2'"):
    neighbors(np.zeros((3, 2)), np.zeros((3, 2)), 1, metric="mahalanobis")


def test_self_needs_as_many_references_as_queries():
  with pytest.raises(InputError, match="2 queries and 3 references"):
    neighbors(np.zeros((2, 2)), np.zeros((3, 2)), 1, exclude_self=True)


def test_labels_that_do_not_fit_are_refused():
  with pytest.raises(InputError, match=r"shape \(2,\) does not fit 3"):
    tiles.check_labels("labels", np.arange(2), 3)


def test_indices_of_queries_among_the_references():
  points = np.array([[0.0], [1.0], [3.0]])
  queries = points[[2, 0, 1]]
  found = neighbors(queries, points, 1, exclude_self=np.array([2, -1, 1]))
  np.testing.assert_array_equal(found[0], [[1], [0], [0]])
  np.testing.assert_array_equal(found[1], [[2.0], [0.0], [1.0]])
