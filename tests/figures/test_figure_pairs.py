"""Histograms and ROC curves of pairs, against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics import roc_auc_score, roc_curve

from metric_learning.figures import (
  Space,
  distance_histograms,
  roc_curves,
  spaces,
)


@pytest.fixture
def space(make_space):
  """Overlapping classes, with more distances than a curve has points."""
  return make_space(
    "triplet, l1", classes=4, images=20, spread=2.5, metric="l1"
  )


def pairs(space):
  names = {"l1": "cityblock", "l2": "euclidean"}
  distances = pdist(space.embeddings.astype(float), names[space.metric])
  different = pdist(space.labels[:, None], "chebyshev") > 0
  return distances, ~different


def equal_error_rate(distances, same):
  """The value at which the line between two operating points has FAR = FRR."""
  far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
  gap = 1 - tar - far
  k = np.flatnonzero(gap >= 0)[-1]
  weight = gap[k] / (gap[k] - gap[k + 1])
  return far[k] + weight * (far[k + 1] - far[k])


def test_a_histogram_shows_the_share_of_its_kind_in_each_bin(space):
  figure = distance_histograms([space], "test")
  distances, same = pairs(space)
  (axes,) = figure.axes
  for patch, kind in zip(axes.patches, (same, ~same), strict=True):
    shares, edges, _ = patch.get_data()
    # A bin of float32 distances may differ by those next to its edge.
    counts, _ = np.histogram(distances[kind], edges)
    np.testing.assert_allclose(shares, counts / kind.sum(), atol=2 / kind.sum())
    assert shares.sum() == pytest.approx(1)
    assert edges[0] == pytest.approx(distances.min(), rel=1e-6)
    assert edges[-1] == pytest.approx(distances.max(), rel=1e-6)
  assert axes.get_xlabel() == "l1 distance"
  assert figure.get_suptitle() == "Distances of same and different test pairs"


def test_threshold_and_margins_stand_where_they_are(space):
  marked = space._replace(margins=(1.25, 3.0), threshold=2.0)
  (axes,) = distance_histograms([marked]).axes
  assert [line.get_xdata() for line in axes.lines] == [
    [2.0, 2.0],
    [1.25, 1.25],
    [3.0, 3.0],
  ]


def test_a_gap_is_a_bar_of_its_length_from_the_mean_same_pair(space):
  figure = distance_histograms([space._replace(gaps=(0.5,), threshold=2.0)])
  _, bar = figure.axes[0].lines
  start, end = bar.get_xdata()
  distances, same = pairs(space)
  assert start == pytest.approx(distances[same].mean(), rel=1e-5)
  assert end - start == pytest.approx(0.5)
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert "margin, from the mean same pair" in names and "margin" not in names


@pytest.mark.parametrize("threshold", [None, -np.inf, np.inf])
def test_a_threshold_that_is_nowhere_is_not_drawn(space, threshold):
  (axes,) = distance_histograms([space._replace(threshold=threshold)]).axes
  assert list(axes.lines) == []


def test_no_column_reaches_the_top_of_its_panel(space):
  tight = space._replace(embeddings=space.embeddings * [0.1, 0])
  figure = distance_histograms([space, tight])
  for axes in figure.axes:
    highest = max(patch.get_data().values.max() for patch in axes.patches)
    bottom, top = axes.get_ylim()
    assert bottom == 0 and top > 1.1 * highest


@pytest.mark.parametrize("log", [True, False])
def test_a_roc_curve_passes_its_equal_error_rate(space, log):
  figure = roc_curves([space], log=log)
  curve, point, _ = figure.axes[0].lines
  eer = equal_error_rate(*pairs(space))
  assert 0.05 < eer < 0.45
  assert point.get_xdata() == pytest.approx([eer], rel=1e-4)
  assert point.get_ydata() == pytest.approx([1 - eer], rel=1e-4)
  assert np.interp(eer, *curve.get_data()) == pytest.approx(1 - eer, rel=1e-4)
  assert point.get_label() == f"triplet, l1 (EER {100 * eer:.1f} %)"
  assert figure.axes[0].get_xscale() == ("log" if log else "linear")


def test_a_roc_curve_is_made_of_operating_points(space):
  distances, same = pairs(space)
  curve = roc_curves([space]).axes[0].lines[0]
  far, tar = curve.get_data()
  assert len(far) < len(distances) / 2  # it is thinned
  assert (far[0], tar[0]) == (0, 0) and (far[-1], tar[-1]) == (1, 1)
  possible = {
    (np.mean(distances[~same] <= t), np.mean(distances[same] <= t))
    for t in [-np.inf, *distances]
  }
  possible = np.array(sorted(possible))
  gaps = np.abs(possible - np.stack([far, tar], 1)[:, None]).sum(-1).min(-1)
  # float32 may swap two distances that are nearly equal.
  assert gaps.max() <= 1 / same.sum()
  area = np.trapezoid(tar, far)
  assert area == pytest.approx(roc_auc_score(same, -distances), abs=1e-3)


def test_the_log_axis_starts_where_ten_impostors_are(space):
  _, same = pairs(space)
  left, right = roc_curves([space]).axes[0].get_xlim()
  assert (left, right) == (pytest.approx(10 / (~same).sum()), 1)


@pytest.mark.parametrize("labels", [np.arange(4), np.zeros(4, int)])
def test_a_space_without_one_kind_of_pair_has_no_curve(labels):
  space = Space("one kind", np.eye(4, dtype=np.float32), labels)
  assert len(roc_curves([space]).axes[0].lines) == 1  # FAR = FRR
  # Of the kind that is missing, no bin has a share.
  shares = [
    patch.get_data().values.sum()
    for patch in distance_histograms([space]).axes[0].patches
  ]
  assert sorted(shares) == pytest.approx([0, 1])


def test_pairs_of_too_many_images_are_those_of_some_whole_classes(
  space, monkeypatch
):
  monkeypatch.setattr(spaces, "MOST_IMAGES", 50)  # two of the four classes
  distances, same = spaces.pairs_of(space)
  assert len(distances) == 40 * 39 / 2
  assert same.sum() == 2 * 20 * 19 / 2
  whole = pairs(space)[0]
  assert np.abs(distances[:, None] - whole).min(axis=1).max() < 1e-5
