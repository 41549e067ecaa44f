"""Thresholds hold on the pairs from which they are learned, by counting."""

import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.evaluation import rate_bootstrap
from metric_learning.inference import Validation, thresholds
from metric_learning.inference.index import make_index


def validation(seed=0, classes=8, images=6):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(classes), images).astype(np.int32)
  centers = 2 * rng.normal(size=(classes, 3))
  points = centers[labels] + rng.normal(size=(len(labels), 3))
  names = np.array([f"class {i}" for i in range(classes)])
  return Validation(points.astype(np.float32), labels, names)


def pairs_by_hand(points, labels):
  """Distances of genuine and of impostor pairs, and the classes of both."""
  points = points.astype(np.float64)
  genuine, impostor = [], []
  for i in range(len(points)):
    for j in range(i):
      distance = np.sqrt(((points[i] - points[j]) ** 2).sum())
      some = genuine if labels[i] == labels[j] else impostor
      some.append((distance, labels[i], labels[j]))
  return np.array(genuine), np.array(impostor)


@pytest.mark.parametrize("far", [0.02, 0.1])
def test_a_threshold_accepts_all_that_the_rate_allows_and_no_more(far):
  given = validation()
  genuine, impostor = pairs_by_hand(given.points, given.labels)
  found = thresholds.of_pairs(given, "l2", far)
  accepted = np.count_nonzero(impostor[:, 0] <= found.distance)
  assert accepted / len(impostor) <= far < (accepted + 1) / len(impostor)
  assert found.far.value == accepted / len(impostor)
  assert found.frr.value == np.mean(genuine[:, 0] > found.distance)
  assert (found.far.trials, found.frr.trials) == (len(impostor), len(genuine))
  assert f"{len(impostor)} impostor and {len(genuine)} genuine" in found.source
  # Between two distances, so that rounding decides no pair.
  gaps = np.abs(np.concatenate([genuine, impostor])[:, 0] - found.distance)
  assert gaps.min() > 1e-6


def test_intervals_draw_classes():
  given = validation(classes=5)
  genuine, impostor = pairs_by_hand(given.points, given.labels)
  found = thresholds.of_pairs(given, "l2", 0.1)
  wrong, total = np.zeros((5, 5)), np.zeros((5, 5))
  for distance, a, b in impostor:
    total[int(a), int(b)] += 1
    wrong[int(a), int(b)] += distance <= found.distance
  for distance, a, _ in genuine:
    total[int(a), int(a)] += 1
    wrong[int(a), int(a)] += distance > found.distance
  rng = np.random.default_rng(1)
  rates = []
  for _ in range(1000):
    drawn = rng.integers(5, size=5)
    two = [(a, b) for a in drawn for b in drawn if a != b]
    if two:
      far = sum(wrong[p] for p in two) / sum(total[p] for p in two)
      frr = sum(wrong[a, a] for a in drawn) / sum(total[a, a] for a in drawn)
      rates.append((far, frr))
  for rate, column in zip(
    (found.far, found.frr), np.transpose(rates), strict=True
  ):
    low, high = np.percentile(column, [2.5, 97.5])
    np.testing.assert_allclose([rate.low, rate.high], [low, high], atol=0.03)


def test_a_pair_counts_as_often_as_both_classes_are_drawn():
  # Of classes 0 and 1 all pairs are events, of the others none: with two drawn
  # of three the pair (0, 1) is drawn, or not, or no pair is.
  events, trials = np.zeros((3, 3)), 1 - np.eye(3)
  events[0, 1] = events[1, 0] = 1
  low, high = rate_bootstrap(events, trials)
  assert (low, high) == (0, 1)


@pytest.mark.parametrize(
  ("far", "said"),
  [
    (0.001, "FAR 0.001 needs 10000 impostor pairs .* there are 1008.*0.00992"),
    (0.0, "far=0.0 .* above 0"),
    (1.0, "far=1.0 .* below 1"),
  ],
)
def test_a_rate_that_pairs_cannot_support_is_refused(far, said):
  with pytest.raises(InputError, match=said):
    thresholds.of_pairs(validation(), "l2", far)


def test_collapsed_points_have_no_threshold():
  given = validation()
  flat = given._replace(points=np.zeros_like(given.points))
  with pytest.raises(InputError, match="collapsed"):
    thresholds.of_pairs(flat, "l2", 0.1)


def test_no_missed_pair_is_not_certainty():
  given = validation()
  apart = given._replace(points=given.points + 100 * given.labels[:, None])
  found = thresholds.of_pairs(apart, "l2", 0.1)
  assert found.frr.value == 0
  # The chance that none of eight classes is missed is 2.5 % at this rate.
  np.testing.assert_allclose((1 - found.frr.high) ** 8, 0.025)


def test_explicit_pairs_are_taken_as_they_are():
  given = validation()
  rng = np.random.default_rng(2)
  first, second = rng.integers(len(given.labels), size=(2, 400))
  same = given.labels[first] == given.labels[second]
  found = thresholds.of_pairs(
    given._replace(pairs=(first, second, same)), "l2", 0.1
  )
  assert found.far.trials == np.count_nonzero(~same)
  assert "taken as independent" in found.source


def test_unknown_probes_get_a_name_at_most_at_the_rate():
  given, gallery = validation(), validation(seed=5, classes=3)
  names = [f"person {i}" for i in gallery.labels]
  index = make_index(gallery.points, names, "l2", lambda: given)
  found = index.identify(gallery.points + 0.01, far=0.25)
  exact = lambda points: np.sqrt(
    ((points[:, None].astype(float) - gallery.points) ** 2).sum(-1)
  )
  strangers = exact(given.points).min(axis=1)
  accepted = np.count_nonzero(strangers <= found.threshold.distance)
  assert accepted == 12  # a quarter of 48
  assert found.threshold.far.value == 0.25
  own = exact(gallery.points + 0.01)
  for i, label in enumerate(found.labels):
    near = own[i].min() <= found.threshold.distance
    assert label == (names[own[i].argmin()] if near else None)
  far_away = index.identify(gallery.points + 1000, far=0.25)
  assert far_away.labels == [None] * len(names)


def test_who_is_in_the_gallery_is_no_unknown_probe():
  given = validation()
  known = given.labels < 3
  names = given.class_names[given.labels[known]]
  index = make_index(given.points[known], names, "l2", lambda: given)
  threshold = index.identify(given.points[:1], far=0.4).threshold
  assert threshold.far.trials == np.count_nonzero(~known)
  with pytest.raises(InputError, match=r"needs 1000 .* there are 30.*0.333"):
    index.identify(given.points[:1], far=0.01)
  bare = make_index(given.points, None, "l2", lambda: given)
  with pytest.raises(InputError, match="no labels to name"):
    bare.identify(given.points, far=0.4)
