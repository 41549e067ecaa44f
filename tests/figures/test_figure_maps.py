"""Embedding maps: the given points, on one scale."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.figures import Space, embedding_maps
from metric_learning.figures.projections import tsne


def drawn(axes):
  """The points of each class, in the order of the classes."""
  return [np.asarray(scatter.get_offsets()) for scatter in axes.collections]


def legend_of(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def nearest_is_same(points, labels):
  distances = cdist(points, points)
  np.fill_diagonal(distances, np.inf)
  return np.mean(labels[distances.argmin(axis=1)] == labels)


def test_two_dimensions_are_drawn_as_they_are(make_space):
  spaces = [make_space("one", 0), make_space("two", 1, spread=2.0)]
  figure = embedding_maps(spaces)
  assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
  for axes, space in zip(figure.axes, spaces, strict=True):
    for label, points in enumerate(drawn(axes)):
      given = space.embeddings[space.labels == label]
      np.testing.assert_array_equal(points, given)


@pytest.mark.parametrize("dim", [2, 6])
def test_all_panels_have_one_scale_that_holds_every_point(make_space, dim):
  spaces = [make_space(str(i), i, dim=dim, spread=i + 0.1) for i in range(3)]
  figure = embedding_maps(spaces)
  limits = {(*axes.get_xlim(), *axes.get_ylim()) for axes in figure.axes}
  ((left, right, bottom, top),) = limits
  assert right - left == pytest.approx(top - bottom)
  points = np.concatenate([p for axes in figure.axes for p in drawn(axes)])
  assert len(points) == sum(len(space.labels) for space in spaces)
  assert left < points[:, 0].min() and points[:, 0].max() < right
  assert bottom < points[:, 1].min() and points[:, 1].max() < top
  figure.draw_without_rendering()
  for axes in figure.axes:  # an inch is as long on both axes
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height)


def test_classes_are_named_and_have_their_own_markers(make_space):
  names = ("apple", "bean", "corn")
  figure = embedding_maps([make_space(class_names=names)] * 2, "test")
  assert legend_of(figure) == [*names]
  shapes = [
    s.get_paths()[0].vertices.tobytes() for s in figure.axes[0].collections
  ]
  assert len(set(shapes)) == 3
  title = figure.get_suptitle().replace("\n", " ")
  assert title == "Test embeddings, 3 classes: as they are, on one scale"


def test_of_many_classes_the_ten_largest_are_drawn(make_space):
  space = make_space(classes=13, images=4)
  keep = np.ones(len(space.labels), bool)
  keep[[0, 12 * 4]] = False  # the first and the last are smaller
  space = space._replace(
    embeddings=space.embeddings[keep], labels=space.labels[keep]
  )
  figure = embedding_maps([space])
  assert legend_of(figure) == [f"class {i}" for i in range(1, 11)]
  assert "10 of 13 classes" in figure.get_suptitle()
  assert "one scale" not in figure.get_suptitle()  # of one panel


def test_at_most_fifty_images_of_a_class_are_drawn(make_space):
  space = make_space(classes=2, images=60)
  first, second = drawn(embedding_maps([space]).axes[0])
  np.testing.assert_array_equal(first, space.embeddings[:50])
  np.testing.assert_array_equal(second, space.embeddings[60:110])


def test_a_marker_is_not_explained_where_it_means_two_classes(make_space):
  space = make_space()
  other = space._replace(labels=space.labels + 3)
  assert embedding_maps([space, other]).legends == []


def test_one_dimension_is_a_line(make_space):
  space = make_space(dim=1)
  points = np.concatenate(drawn(embedding_maps([space]).axes[0]))
  np.testing.assert_array_equal(points[:, 0], space.embeddings[:, 0])
  assert not points[:, 1].any()


def test_tsne_keeps_neighbors_and_is_the_same_each_time(make_space):
  space = make_space(classes=5, dim=20)
  points = tsne(space.embeddings, "l2")
  assert nearest_is_same(points, space.labels) == 1
  np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-4)
  np.testing.assert_array_equal(points, tsne(space.embeddings, "l2"))


def test_tsne_sees_the_metric_of_the_run():
  # Classes are directions, each with a short and a long vector.
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(20), 2)
  directions = rng.normal(size=(20, 3))[labels]
  points = directions * np.tile([1.0, 20.0], 20)[:, None]
  points = points.astype(np.float32)
  assert nearest_is_same(tsne(points, "cosine"), labels) > 0.9
  assert nearest_is_same(tsne(points, "l2"), labels) < 0.2


@pytest.mark.parametrize("metric", ["dot", "squared_l2", "l1"])
def test_tsne_takes_every_metric(make_space, metric):
  space = make_space(dim=3, metric=metric)
  points = np.concatenate(drawn(embedding_maps([space]).axes[0]))
  assert np.isfinite(points).all()


def test_collapsed_and_few_points_have_a_map():
  labels = np.array([0, 0, 1, 1])
  collapsed = Space("collapsed", np.ones((4, 3), np.float32), labels)
  point = Space("point", np.ones((4, 2), np.float32), labels)
  for space in (collapsed, point):
    figure = embedding_maps([space])
    points = np.concatenate(drawn(figure.axes[0]))
    assert np.isfinite(points).all()
    left, right = figure.axes[0].get_xlim()
    assert right > left
