"""Verification rates against scikit-learn, hand examples and loops."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import roc_auc_score, roc_curve

from metric_learning.errors import InputError
from metric_learning.evaluation import (
  best_threshold,
  cross_validated_accuracy,
  pair_distances,
  pairs_of,
  refusal,
  roc,
  tiles,
  verification,
)


def pairs(n=400, genuine=0.3, step=0.05, seed=0):
  """Overlapping distances, rounded to steps so that many are equal."""
  rng = np.random.default_rng(seed)
  same = rng.random(n) < genuine
  distances = np.abs(rng.normal(np.where(same, 1.0, 1.8), 0.5))
  return np.round(distances / step) * step, same


def of(genuine, impostor):
  distances = np.array([*genuine, *impostor], float)
  return distances, np.arange(len(distances)) < len(genuine)


@pytest.mark.parametrize("step", [1e-9, 0.05, 1.0, 10.0])
def test_auc_and_roc_equal_scikit_learn(step):
  distances, same = pairs(step=step)
  curve = roc(distances, same)
  far, tar, thresholds = roc_curve(same, -distances, drop_intermediate=False)
  np.testing.assert_allclose(curve.far, far, atol=1e-15)
  np.testing.assert_allclose(1 - curve.frr, tar, atol=1e-15)
  np.testing.assert_allclose(curve.thresholds[1:], -thresholds[1:])
  assert (curve.far[0], curve.frr[0]) == (0, 1)
  assert verification(distances, same)["auc"] == pytest.approx(
    roc_auc_score(same, -distances), abs=1e-12
  )


def test_auc_counts_equal_distances_half():
  # Against impostors 2 and 3: 1 is nearer than both, 2 equals one of them.
  assert verification(*of([1, 2], [2, 3]))["auc"] == (2 + 0.5 + 1) / 4


@pytest.mark.parametrize(
  ("genuine", "impostor", "eer"),
  [
    # (FAR, FRR) = (1/4, 1/3) at 3 and (1/2, 1/3) at 4: FRR stays, FAR meets it.
    ([1, 2, 5], [3, 4, 6, 7], 1 / 3),
    # (0, 1/2) at 1 and (1/2, 0) at 3, where two pairs enter together.
    ([1, 3], [3, 4], 1 / 4),
    # (0, 3/4) at 1 and (1/2, 0) at 2: the gap 3/4 falls to -1/2, λ = 3/5.
    ([1, 2, 2, 2], [2, 3], 3 / 10),
    # An operating point on the diagonal.
    ([1, 3], [2, 4], 1 / 2),
    ([1, 2], [3, 4], 0),
    ([3, 4], [1, 2], 1),
    ([1, 1], [1, 1], 1 / 2),
  ],
)
def test_eer_by_hand(genuine, impostor, eer):
  assert verification(*of(genuine, impostor))["eer"] == pytest.approx(eer)


def frr_by_loop(distances, same, far):
  """FRR at the largest threshold whose FAR is at most `far`."""
  best = 1.0  # accept nothing
  for t in sorted(set(distances)):
    if np.mean(distances[~same] <= t) <= far:
      best = np.mean(distances[same] > t)
  return best


@pytest.mark.parametrize("step", [0.05, 0.3])
def test_rates_at_far_are_those_of_the_largest_threshold(step):
  distances, same = pairs(n=2000, step=step, seed=1)
  scores = verification(distances, same)
  for far in (0.1, 0.075, 0.05):
    expected = frr_by_loop(distances, same, far)
    assert scores[f"frr_at_far_{far}"] == pytest.approx(expected), far


def test_rates_at_far_without_ties_are_order_statistics():
  distances, same = pairs(n=16_000, step=1e-9, seed=1)
  impostor = np.sort(distances[~same])
  assert len(impostor) >= 10_000
  scores = verification(distances, same)
  for name, far in (("tar_at_far_0.01", 0.01), ("tar_at_far_0.001", 0.001)):
    t = impostor[math.floor(far * len(impostor))]  # the first one too many
    assert scores[name] == pytest.approx(np.mean(distances[same] < t))


def test_a_far_that_is_met_exactly_counts():
  # 100 of 1,000 impostors are at most 100: FAR 0.1 reaches from there to 101,
  # where 1 of 4 genuine pairs is rejected; FAR 0.05 reaches from 50 to 51.
  scores = verification(*of([50, 99.5, 100.5, 2000], range(1, 1001)))
  assert scores["frr_at_far_0.1"] == 0.25
  assert scores["frr_at_far_0.05"] == 0.75
  assert scores["tar_at_far_0.01"] == 0


def test_rates_that_too_few_impostors_carry_are_refused():
  scores = verification(*of([1, 2, 3], range(199)))
  refused = {name for name, value in scores.items() if math.isnan(value)}
  assert refused == {
    "frr_at_far_0.05",
    "tar_at_far_0.01",
    "tar_at_far_0.001",
  }
  assert "needs 200 impostor pairs" in refusal(0.05, 199)
  assert refusal(0.05, 200) is None
  assert not math.isnan(
    verification(*of([1, 2, 3], range(200)))["frr_at_far_0.05"]
  )


@pytest.mark.parametrize(
  ("genuine", "impostor"), [([1, 2], []), ([], [1, 2]), ([], [])]
)
def test_absent_pairs_give_nan(genuine, impostor):
  scores = verification(*of(genuine, impostor))
  assert scores.pop("num_genuine") == len(genuine)
  assert scores.pop("num_impostor") == len(impostor)
  assert all(math.isnan(value) for value in scores.values())


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_equals_trying_all_midpoints(seed):
  distances, same = pairs(n=30, step=0.2, seed=seed)
  values = np.unique(distances)
  midpoints = [-np.inf, *(values[1:] + values[:-1]) / 2, np.inf]
  right = [np.sum((distances <= t) == same) for t in midpoints]
  best = max(right)
  expected = next(
    t for t, count in zip(midpoints, right, strict=True) if count == best
  )
  assert best_threshold(distances, same) == pytest.approx(expected)


def test_best_threshold_takes_the_smallest_of_equals():
  # 1.5 and 3.5 both decide 3 of 4 rightly.
  assert best_threshold(*of([1, 3], [2, 4])) == 1.5


def test_best_threshold_at_the_ends():
  assert best_threshold(*of([2], [1])) == -math.inf
  assert best_threshold(*of([1, 2], [])) == math.inf
  with pytest.raises(InputError, match="no pairs"):
    best_threshold(*of([], []))


def test_accuracy_at_a_given_threshold():
  distances, same = of([1, 2, 5], [2, 3, 6])
  scores = verification(distances, same, threshold=2.0)
  # Accepts 1, 2 and the impostor at 2; rejects 5.
  assert scores["accuracy"] == pytest.approx(4 / 6)
  assert "accuracy" not in verification(distances, same)


def test_threshold_between_neighboring_float32_distances_separates_them():
  low = np.float32(1)
  high = np.nextafter(low, np.float32(2))
  distances, same = np.array([low, high]), np.array([True, False])
  threshold = best_threshold(distances, same)
  assert verification(distances, same, threshold=threshold)["accuracy"] == 1
  # Rounded to float32 the midpoint of these two is the higher one.
  third = np.nextafter(high, np.float32(2))
  distances = np.array([high, third])
  threshold = best_threshold(distances, same)
  assert np.float32(threshold) == third
  assert verification(distances, same, threshold=threshold)["accuracy"] == 1


@pytest.mark.parametrize("tile", [512, 16])
@pytest.mark.parametrize(
  ("metric", "scipy_name"), [("l1", "cityblock"), ("cosine", "cosine")]
)
def test_pairs_are_all_pairs_in_order(monkeypatch, metric, scipy_name, tile):
  monkeypatch.setattr(tiles, "_CPU_TILE", tile)
  rng = np.random.default_rng(2)
  points, labels = rng.normal(size=(40, 5)), rng.integers(0, 4, 40)
  distances, same = pairs_of(points, labels, metric)
  # SciPy's condensed form is in the order (0, 1), (0, 2), ...
  np.testing.assert_allclose(distances, pdist(points, scipy_name), rtol=1e-5)
  i, j = np.triu_indices(40, k=1)
  np.testing.assert_array_equal(same, labels[i] == labels[j])


def test_pairs_of_the_test_set_of_faces():
  # 5 subjects of 10 images: 5 * C(10, 2) genuine pairs, 50 * 40 / 2 others.
  labels = np.repeat(np.arange(5), 10)
  points = np.random.default_rng(3).normal(size=(50, 3))
  scores = verification(*pairs_of(points, labels, "l2"))
  assert (scores["num_genuine"], scores["num_impostor"]) == (225, 1000)
  assert not math.isnan(scores["frr_at_far_0.05"])


@pytest.mark.parametrize(
  ("metric", "scipy_name"), [("l2", "euclidean"), ("cosine", "cosine")]
)
def test_listed_pairs_equal_scipy(metric, scipy_name):
  rng = np.random.default_rng(5)
  first, second = rng.normal(size=(2, 40, 3))
  expected = cdist(first, second, scipy_name).diagonal()
  found = pair_distances(first, second, metric)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  with pytest.raises(InputError, match="40 and 39 rows"):
    pair_distances(first, second[:39], metric)


def test_threshold_of_each_fold_comes_from_the_others():
  distances, same = pairs(n=120, step=0.2, seed=3)
  folds = np.random.default_rng(4).integers(0, 10, 120)
  accuracies = []
  for fold in range(10):
    others = folds != fold
    values = np.unique(distances[others])
    midpoints = [-np.inf, *(values[1:] + values[:-1]) / 2, np.inf]
    right = [np.sum((distances <= t) == same, where=others) for t in midpoints]
    best = midpoints[int(np.argmax(right))]
    accuracies.append(np.mean(((distances <= best) == same)[~others]))
  scores = cross_validated_accuracy(distances, same, folds)
  assert scores["accuracy"] == pytest.approx(np.mean(accuracies))
  assert 0.6 < scores["accuracy"] < 1
  error = np.std(accuracies, ddof=1) / math.sqrt(10)
  assert scores["standard_error"] == pytest.approx(error)


def test_folds_that_cannot_be_scored_are_refused():
  distances, same = of([1, 2], [3, 4])
  with pytest.raises(InputError, match="use two or more"):
    cross_validated_accuracy(distances, same, np.zeros(4, int))
  with pytest.raises(InputError, match="one of each for every pair"):
    cross_validated_accuracy(distances, same, np.zeros(3, int))
  with pytest.raises(InputError, match="must be boolean"):
    cross_validated_accuracy(distances, same * 1, np.arange(4))


@pytest.mark.parametrize("same", [np.array([1.0, 0.0]), np.array([1, 0])])
@pytest.mark.parametrize("function", [roc, verification, best_threshold])
def test_numbers_for_same_are_refused(function, same):
  with pytest.raises(InputError, match="must be boolean"):
    function(np.array([1.0, 2.0]), same)


def test_nan_distances_are_refused():
  with pytest.raises(InputError, match="1 of 2 are NaN"):
    verification(np.array([1.0, np.nan]), np.array([True, False]))


@pytest.mark.parametrize("score", [roc, verification, best_threshold])
def test_distances_that_do_not_fit_their_pairs_are_refused(untyped, score):
  same = np.array([True, False])
  for distances in (np.zeros(3), np.zeros((2, 1)), np.float64(0)):
    with pytest.raises(InputError, match=r"shapes .* and \(2,\)"):
      score(distances, same)
