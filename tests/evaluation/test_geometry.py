"""Geometry diagnostics against closed forms and loops over pairs."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from metric_learning.errors import InputError
from metric_learning.evaluation import (
  collapsed,
  effective_rank,
  geometry,
  intra_inter_ratio,
)


def cross(d, scale=1.0):
  """The points ±e_j: centered, with equal singular values."""
  return scale * np.concatenate([np.eye(d), -np.eye(d)])


@pytest.mark.parametrize("d", [1, 2, 7])
def test_effective_rank_of_an_isotropic_cloud_is_its_dimension(d):
  assert effective_rank(cross(d)) == pytest.approx(d)
  # The mean is taken out first: a shift changes nothing.
  assert effective_rank(cross(d) + 100) == pytest.approx(d)


def test_effective_rank_of_unequal_directions():
  # Singular values 3√2 and √2: shares 3/4 and 1/4.
  points = cross(2) * np.array([3.0, 1.0])
  entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
  assert effective_rank(points) == pytest.approx(math.exp(entropy))


def test_rho_spectrum_by_hand():
  name = "rho_spectrum_1"
  assert geometry(cross(3))[name] == pytest.approx(0)
  # Shares 3/4 and 1/4 against 1/2 each.
  points = cross(2) * np.array([3.0, 1.0])
  expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
  assert geometry(points)[name] == pytest.approx(expected)
  # The matrix as it is: around another center, one direction is larger.
  assert geometry(points + 100)[name] > 1
  assert geometry(np.ones((20, 3)))[name] == math.inf


SCIPY = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_intra_inter_ratio_equals_loops_over_classes(metric, normalize):
  rng = np.random.default_rng(2)
  # One lone image, small classes, and one that needs two blocks.
  labels = np.repeat([7, 3, 5, 9, 1], [1, 2, 9, 30, 700])
  points = rng.normal(size=(10, 4))[labels] + rng.normal(size=(742, 4))
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  if normalize == "l2":
    points = unit(points)
  shuffle = rng.permutation(742)
  points, labels = points[shuffle].astype(np.float32), labels[shuffle]
  classes = [points[labels == c].astype(float) for c in np.unique(labels)]
  means = np.array([c.mean(axis=0) for c in classes])
  if normalize == "l2":
    means = unit(means)
  inside = [pdist(c, SCIPY[metric]).mean() for c in classes if len(c) > 1]
  apart = cdist(means, means, SCIPY[metric])[np.triu_indices(5, 1)].mean()
  assert intra_inter_ratio(
    points, labels, metric=metric, normalized=normalize
  ) == pytest.approx(np.mean(inside) / apart, rel=1e-5)


def test_intra_inter_ratio_needs_pairs_and_two_means():
  points, pairs = cross(2), np.array([0, 0, 1, 1])
  assert not math.isnan(intra_inter_ratio(points, pairs, metric="l1"))
  for labels in (np.zeros(4, int), np.arange(4)):
    assert math.isnan(intra_inter_ratio(points, labels))
  assert math.isnan(intra_inter_ratio(np.ones((4, 2)), pairs))
  assert math.isnan(intra_inter_ratio(points, pairs, metric="dot"))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_equal_embeddings_have_rank_one_and_finite_scores(value):
  points = np.full((20, 8), value, np.float32)
  scores = geometry(points, np.repeat(np.arange(4), 5))
  assert scores["effective_rank"] == 1
  assert scores["collapsed"] == 1
  assert scores["uniformity"] == pytest.approx(0, abs=1e-5)
  assert scores["alignment"] == pytest.approx(0, abs=1e-12)
  assert scores["embedding_norm_mean"] == pytest.approx(value * math.sqrt(8))
  assert scores["embedding_norm_std"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [30, 600])  # 600 needs two blocks
def test_alignment_uniformity_and_norms_equal_loops_over_pairs(n):
  rng = np.random.default_rng(0)
  points = rng.normal(size=(n, 6)).astype(np.float32)
  labels = np.concatenate([[99], rng.integers(0, 5, n - 1)])  # one lone image
  exact = points.astype(float)
  norms = np.sqrt((exact**2).sum(axis=1))
  squared = pdist(exact / norms[:, None], "sqeuclidean")
  i, j = np.triu_indices(n, k=1)
  scores = geometry(points, labels)
  expected = {
    "alignment": squared[labels[i] == labels[j]].mean(),
    "uniformity": math.log(np.exp(-2 * squared).mean()),
    "embedding_norm_mean": norms.mean(),
    "embedding_norm_std": norms.std(),
  }
  for name, value in expected.items():
    assert scores[name] == pytest.approx(value, rel=1e-5), name
  assert scores["collapsed"] == 0


def test_alignment_needs_labels_and_a_pair():
  points = cross(2)
  assert "alignment" not in geometry(points)
  assert math.isnan(geometry(points, np.arange(4))["alignment"])
  assert math.isnan(geometry(points[:1])["uniformity"])


def test_collapse_to_a_point_or_a_line_is_flagged():
  rng = np.random.default_rng(1)
  noise = rng.normal(size=(50, 8))
  away = np.zeros(8)
  away[0] = 100.0
  assert not collapsed(noise)
  assert not collapsed(away + noise)  # spread about 3 % of the norm
  assert collapsed(away + 0.01 * noise)  # 0.03 %
  line = rng.normal(size=(50, 1)) * np.ones(8)
  assert collapsed(line + 0.001 * noise)
  # In one dimension the rank is always 1.
  assert not collapsed(rng.normal(size=(50, 1)))


def test_embeddings_that_are_not_finite_are_refused():
  with pytest.raises(InputError, match="diverged"):
    geometry(np.array([[1.0, np.nan]]))


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_ranks_equal_those_of_the_matrix_of_inner_products(shape):
  """With more dimensions than points too, as raw images have."""
  points = np.random.default_rng(2).normal(size=shape)
  middle = points - points.mean(axis=0)
  # Squares of singular values; centering makes one of six points depend on
  # the others.
  squares = np.linalg.eigvalsh(middle @ middle.T)[-min(shape) :]
  share = np.sqrt(squares[squares > 1e-9])
  share /= share.sum()
  entropy = -np.sum(share * np.log(share))
  assert effective_rank(points) == pytest.approx(math.exp(entropy), rel=1e-6)
