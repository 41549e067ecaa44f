"""Few-shot accuracy against all episodes, hand examples and chance."""

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.errors import InputError
from metric_learning.evaluation import few_shot


def all_episodes(points, labels, shots, rule, metric):
  """The accuracy of every possible support set of two classes."""
  classes = [np.flatnonzero(labels == c) for c in (0, 1)]
  found = []
  for chosen in itertools.product(
    *(itertools.combinations(c, shots) for c in classes)
  ):
    right = []
    for truth, members in enumerate(classes):
      for query in set(members) - set(chosen[truth]):
        far = []
        for support in chosen:
          images = points[list(support)]
          if rule == "prototype":
            images = images.mean(axis=0, keepdims=True)
          far.append(cdist(points[[query]], images, metric).min())
        right.append(np.argmin(far) == truth)
    found.append(np.mean(right))
  return np.array(found)


@pytest.mark.parametrize("rule", ["prototype", "nearest"])
@pytest.mark.parametrize(
  ("metric", "scipy_name"), [("l1", "cityblock"), ("cosine", "cosine")]
)
def test_mean_and_interval_are_those_of_all_episodes(rule, metric, scipy_name):
  rng = np.random.default_rng(0)
  labels = np.repeat([0, 1], 5)
  points = rng.normal(size=(10, 3)) + labels[:, None]
  exact = all_episodes(points, labels, 2, rule, scipy_name)
  assert 0.5 < exact.mean() < 0.95
  scores = few_shot(
    points,
    labels,
    ways=2,
    shots=2,
    queries=3,
    episodes=900,
    metric=metric,
    rule=rule,
  )
  interval = 1.96 * exact.std() / 30
  assert scores["accuracy"] == pytest.approx(exact.mean(), abs=2 * interval)
  assert scores["interval"] == pytest.approx(interval, rel=0.1)


def test_the_interval_of_two_episodes_by_hand():
  """1.96 s / √2 for two accuracies that differ by ½, with s = ½ / √2."""
  points = np.random.default_rng(0).normal(size=(8, 1))
  labels = np.repeat([0, 1], 4)
  counts = {"ways": 2, "shots": 1, "queries": 1, "episodes": 2}
  found = [few_shot(points, labels, **counts, seed=seed) for seed in range(8)]
  uneven = [one for one in found if one["accuracy"] in (0.25, 0.75)]
  assert uneven
  for one in uneven:
    assert one["interval"] == pytest.approx(1.96 / 4)


def test_the_rules_differ_by_hand():
  points = np.array([[-2.0], [-2.0], [0.0], [1.0], [6.0], [11.0]])
  labels = np.array([0, 0, 0, 1, 1, 1])
  options = {"ways": 2, "shots": 2, "queries": 1, "episodes": 400}
  # The query 1 is nearer to class 0 under both rules. The query 0 is nearer to
  # the image 1, which is support in two of three episodes, but not to a mean.
  expected = {"prototype": (1 + 2 / 3) / 2, "nearest": (7 / 9 + 2 / 3) / 2}
  for rule, accuracy in expected.items():
    scores = few_shot(points, labels, rule=rule, **options)
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.04), rule


@pytest.mark.parametrize("rule", ["prototype", "nearest"])
@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_constant_embeddings_score_at_chance(rule, metric):
  labels = np.repeat(np.arange(12), 8)
  points = np.full((96, 4), 0.1)
  scores = few_shot(
    points, labels, ways=5, shots=3, episodes=20, metric=metric, rule=rule
  )
  assert scores == pytest.approx({"accuracy": 0.2, "interval": 0})


def test_noise_scores_at_chance_and_the_seed_fixes_the_episodes():
  rng = np.random.default_rng(1)
  points, labels = rng.normal(size=(400, 4)), np.arange(400) % 20
  one, two, other = (
    few_shot(points, labels, ways=4, episodes=500, seed=seed)
    for seed in (0, 0, 1)
  )
  assert one == two != other
  for scores in (one, other):
    assert scores["accuracy"] == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"ways": 4}, "only 3 classes"),
    ({"shots": 3}, r"1 of 3 classes have fewer \(class 7 has 4\)"),
    ({"queries": 0}, "queries=0: choose an integer of 1 or more"),
    ({"episodes": 1}, "episodes=1: choose an integer of 2 or more"),
    ({"rule": "nearst"}, "did you mean 'nearest'"),
    ({"metric": "l3"}, "unknown metric"),
  ],
)
def test_episodes_that_cannot_be_drawn_are_refused(options, message):
  labels = np.repeat([3, 5, 7], [6, 6, 4])
  options = {"ways": 3, "shots": 1, "queries": 2, **options}
  with pytest.raises(InputError, match=message):
    few_shot(np.zeros((16, 2)), labels, **options)
