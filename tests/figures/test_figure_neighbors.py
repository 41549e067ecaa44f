"""Figures of neighbors: which images are shown, and for which query."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning import InputError
from metric_learning.figures import confusion, neighbor_strip


@pytest.fixture
def space(make_space):
  return make_space(
    classes=4,
    images=6,
    spread=3.0,
    metric="l1",
    class_names=("a", "b", "c", "d"),
  )


@pytest.fixture
def order(space):
  """For each image, the other images, nearest first, with their distances."""
  x = space.embeddings.astype(float)
  distances = cdist(x, x, "cityblock")
  np.fill_diagonal(distances, -1)
  return np.argsort(distances, axis=1)[:, 1:], distances


@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_shows_the_query_and_its_neighbors(space, order, channels):
  rng = np.random.default_rng(0)
  images = rng.integers(256, size=(24, 5, 4, channels), dtype=np.uint8)
  queries = np.array([3, 20])
  figure = neighbor_strip(space, images, queries, k=4)
  rows = np.array(figure.axes).reshape(2, 5)
  others, distances = order
  for query, (own, *found) in zip(queries, rows, strict=True):
    assert own.get_xlabel() == space.class_names[space.labels[query]]
    for axes, i in zip((own, *found), (query, *others[query]), strict=False):
      shown = np.asarray(axes.images[0].get_array())
      np.testing.assert_array_equal(shown.reshape(images[i].shape), images[i])
    for axes, i in zip(found, others[query], strict=False):
      assert axes.get_xlabel() == f"{distances[query, i]:.2f}"
      same = space.labels[i] == space.labels[query]
      line = axes.spines["left"].get_linestyle()
      assert line == ("-" if same else ":")
  lines = {a.spines["left"].get_linestyle() for a in rows[:, 1:].ravel()}
  assert lines == {"-", ":"}  # the example has both


def test_images_must_be_those_of_the_embeddings(space):
  with pytest.raises(InputError, match="23 images for 24 embeddings"):
    neighbor_strip(space, np.zeros((23, 5, 4, 1), np.uint8), [0])


@pytest.mark.parametrize("k", [1, 3])
def test_confusion_counts_the_classes_of_neighbors(space, order, k):
  found = space.labels[order[0][:, :k]]
  shares = np.array(
    [
      [np.mean(found[space.labels == i] == j) for j in range(4)]
      for i in range(4)
    ]
  )
  hard = np.argsort(shares.diagonal(), kind="stable")[:3]
  axes = confusion(space, most=3, k=k).axes[0]
  drawn = np.asarray(axes.images[0].get_array())
  np.testing.assert_allclose(drawn[:, :3], shares[np.ix_(hard, hard)])
  np.testing.assert_allclose(drawn.sum(axis=1), 1)
  names = [space.class_names[i] for i in hard]
  assert [t.get_text() for t in axes.get_yticklabels()] == names
  assert [t.get_text() for t in axes.get_xticklabels()] == [*names, "other"]
  written = {t.get_position(): t.get_text() for t in axes.texts}
  for (i, j), share in np.ndenumerate(drawn):
    assert written.get((j, i), "0.00") == f"{share:.2f}"


def test_all_classes_leave_no_other(space):
  axes = confusion(space).axes[0]
  assert axes.images[0].get_array().shape == (4, 4)
  assert "other" not in [t.get_text() for t in axes.get_xticklabels()]
