"""The record of all scores: names, and which metric stands behind them."""

import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning.evaluation import (
  evaluate,
  geometry,
  pairs_of,
  retrieval,
  verification,
)


def data(seed=0):
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(6), 5)
  points = rng.normal(size=(6, 3))[labels] + rng.normal(size=(30, 3))
  return points.astype(np.float32), labels


def equal(scores, family, expected):
  prefix = f"{family}/"
  found = {k: v for k, v in scores.items() if k.startswith(prefix)}
  np.testing.assert_equal(
    found, {prefix + name: value for name, value in expected.items()}
  )


@pytest.mark.parametrize("metric", ["l1", "cosine"])
def test_families_are_those_of_the_single_functions(metric):
  points, labels = data()
  scores = evaluate(jnp.asarray(points), jnp.asarray(labels), metric, ks=(1, 3))
  for family, name in (("own", metric), ("cosine", "cosine")):
    expected = retrieval(points, labels, metric=name, ks=(1, 3))
    expected |= verification(*pairs_of(points, labels, name))
    equal(scores, family, expected)
  equal(scores, "geometry", geometry(points, labels))
  assert {key.split("/")[0] for key in scores} == {"own", "cosine", "geometry"}


def test_own_differs_from_cosine():
  points, labels = data()
  scores = evaluate(points, labels, "l1")
  assert scores["own/map_at_r"] != scores["cosine/map_at_r"]


def test_verification_is_left_out_beyond_its_bound():
  points, labels = data()  # 30 * 29 / 2 = 435 pairs
  assert "own/auc" in evaluate(points, labels, "l2", max_pairs=435)
  without = evaluate(points, labels, "l2", max_pairs=434)
  assert not any("auc" in key for key in without)
  assert "own/map_at_r" in without
