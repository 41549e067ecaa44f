"""Clustering scores against hand examples and their definitions."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from metric_learning.errors import InputError
from metric_learning.evaluation import agreement, clustering

# 17 items in 3 clusters, of the book by Manning et al., figure 16.4: majority
# classes 5, 4 and 3 strong.
BOOK_CLUSTERS = np.repeat([0, 1, 2], [6, 6, 5])
BOOK_LABELS = np.array([*"xxxxxo", *"xooood", *"xxddd"])


def test_the_example_of_the_book():
  _, labels = np.unique(BOOK_LABELS, return_inverse=True)
  scores = agreement(BOOK_CLUSTERS, labels)
  assert scores["nmi"] == pytest.approx(0.36, abs=0.005)
  # TP 20, FP 20, FN 24: P = 20/40 and R = 20/44.
  assert scores["f1"] == pytest.approx(2 * 20 / (2 * 20 + 20 + 24))


def random_partitions(seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 4, 25)
  return np.where(rng.random(25) < 0.5, labels, rng.integers(0, 3, 25)), labels


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_their_definitions(seed):
  clusters, labels = random_partitions(seed)
  n = len(labels)
  sizes = lambda x: np.unique(x, return_counts=True)[1]
  entropy = lambda x: -sum(c / n * math.log(c / n) for c in sizes(x))
  joint = entropy(clusters * 100 + labels)
  information = entropy(clusters) + entropy(labels) - joint
  mean = (entropy(clusters) + entropy(labels)) / 2
  # E[I]: with fixed sizes a and b, an overlap is hypergeometric.
  expected = sum(
    hypergeom(n, a, b).pmf(k) * k / n * math.log(n * k / (a * b))
    for a in sizes(clusters).tolist()
    for b in sizes(labels).tolist()
    for k in range(1, min(a, b) + 1)
  )
  pairs = list(itertools.combinations(range(n), 2))
  together = np.array([clusters[i] == clusters[j] for i, j in pairs])
  same = np.array([labels[i] == labels[j] for i, j in pairs])
  p, r = same[together].mean(), together[same].mean()
  scores = agreement(clusters, labels)
  assert scores["nmi"] == pytest.approx(information / mean)
  assert scores["ami"] == pytest.approx(
    (information - expected) / (mean - expected)
  )
  assert scores["f1"] == pytest.approx(2 * p * r / (p + r))


def test_names_of_clusters_do_not_matter_and_no_pair_is_nan():
  _, labels = random_partitions(0)
  perfect = {"nmi": 1, "ami": 1, "f1": 1}
  assert agreement(7 - labels, labels) == pytest.approx(perfect)
  assert math.isnan(agreement(np.arange(3), np.arange(3))["f1"])


def test_distant_classes_are_found_and_the_seed_fixes_the_starts():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 8, 120)
  points = 50 * rng.normal(size=(8, 4))[labels] + rng.normal(size=(120, 4))
  assert clustering(points, labels)["ami"] == pytest.approx(1)
  noise = rng.normal(size=(120, 4))
  assert clustering(noise, labels) == clustering(noise, labels)
  starts = [clustering(noise, labels, seed=s, restarts=1) for s in range(3)]
  assert len({scores["ami"] for scores in starts}) > 1


@pytest.mark.slow
def test_noise_and_constant_embeddings_score_at_chance():
  rng = np.random.default_rng(1)
  labels = np.repeat(np.arange(30), 10)
  scores = clustering(rng.normal(size=(300, 4)), labels)
  assert scores["ami"] == pytest.approx(0, abs=0.05)
  assert scores["nmi"] > 0.3  # what AMI corrects for
  scores = clustering(np.full((300, 4), 0.1), labels)
  assert scores["nmi"] == scores["ami"] == 0
  p = 9 / 299  # of all pairs, those of one class
  assert scores["f1"] == pytest.approx(2 * p / (1 + p))


def test_nothing_to_cluster_is_refused():
  with pytest.raises(InputError, match="there are none"):
    clustering(np.zeros((0, 2)), np.zeros(0, int))
