"""The record of all scores: names, and which metric stands behind them."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.evaluation import (
  check_score,
  clustering,
  evaluate,
  evaluate_pairs,
  few_shot,
  geometry,
  intra_inter_ratio,
  is_slow,
  names,
  pairs_of,
  retrieval,
  verification,
  why_absent,
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
    expected["intra_inter_ratio"] = intra_inter_ratio(
      points, labels, metric=name
    )
    equal(scores, family, expected)
  equal(scores, "geometry", geometry(points, labels))
  assert {key.split("/")[0] for key in scores} == {"own", "cosine", "geometry"}


@pytest.mark.parametrize("kind", ["classes", "gallery", "explicit pairs"])
def test_what_a_set_does_not_give_is_known_before(kind):
  points, labels = data()
  every = names.SCORES | {"own/recall_at_7", "cosine/few_shot_3_way_2_shot"}
  if kind == "classes":
    given = evaluate(points, labels, "l1", asked=every)
  elif kind == "gallery":
    held = {"references": points[1::2], "reference_labels": labels[1::2]}
    given = evaluate(points[::2], labels[::2], "l1", asked=every, **held)
  else:
    pairs = np.arange(0, 30, 2), np.arange(1, 30, 2), np.arange(15) < 9
    given = evaluate_pairs(points, *pairs, "l1")
  known = {"explicit_pairs": kind == "explicit pairs"}
  known["gallery"] = kind == "gallery"
  assert {n for n in every if not why_absent(n, 30, **known)} == every & set(
    given
  )
  # The accuracy at a learned threshold is of the same pairs.
  verified = why_absent("own/eer", 30, **known)
  assert why_absent("own/accuracy", 30, **known) == verified
  assert why_absent("own/threshold", 30, **known) == verified
  assert "folds" in why_absent("own/accuracy_standard_error", 30, **known)
  if kind == "explicit pairs":
    known["folds"] = True
    assert why_absent("own/accuracy_standard_error", 30, **known) is None
    assert "of its own" in why_absent("own/threshold", 30, **known)
  # 3,163 * 3,162 / 2 = 5,000,703 pairs are more than are kept.
  few, many = (why_absent("own/eer", n, **known) for n in (3162, 3163))
  assert (few == many) == (kind != "classes")


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


@pytest.mark.parametrize("select", ["own/map_at_r", "geometry/alignment"])
def test_verification_is_left_out_where_nobody_asks_for_it(select):
  points, labels = data()
  everything = evaluate(points, labels, "l2")
  scores = evaluate(points, labels, "l2", asked=[select])
  assert not any("auc" in name for name in scores)
  np.testing.assert_equal(scores, {k: everything[k] for k in scores})
  for name in ("own/eer", "cosine/auc", "own/frr_at_far_0.1", "own/accuracy"):
    asked = evaluate(points, labels, "l2", asked=[select, name])
    assert asked.keys() == everything.keys(), name


def test_slow_scores_are_those_of_the_single_functions_and_come_if_named():
  points, labels = data()
  names = ["clustering/ami", "own/few_shot_3_way_2_shot"]
  names += ["cosine/few_shot_2_way_1_shot_interval"]
  assert all(map(is_slow, names))
  quick = evaluate(points, labels, "l1")
  assert not any(map(is_slow, quick))
  # 5 images a class: 2 shots and the 5 queries of the default do not fit.
  points, labels = np.tile(points, (2, 1)), np.tile(labels, 2)
  scores = evaluate(points, labels, "l1", asked=names)
  equal(scores, "clustering", clustering(points, labels))
  own = few_shot(points, labels, ways=3, shots=2, metric="l1")
  assert scores["own/few_shot_3_way_2_shot"] == own["accuracy"]
  assert scores["own/few_shot_3_way_2_shot_interval"] == own["interval"]
  cosine = few_shot(points, labels, ways=2, shots=1, metric="cosine")
  assert scores["cosine/few_shot_2_way_1_shot"] == cosine["accuracy"]
  assert scores["cosine/few_shot_2_way_1_shot_interval"] == cosine["interval"]


def test_few_shot_of_too_few_images_is_nan():
  points, labels = data()
  for name in ("own/few_shot_3_way_2_shot", "own/few_shot_7_way_1_shot"):
    assert np.isnan(evaluate(points, labels, "l1", asked=[name])[name])


def test_naming_recall_adds_its_k():
  points, labels = data()
  scores = evaluate(points, labels, "l1", asked=["own/recall_at_10"])
  expected = retrieval(points, labels, metric="l1", ks=(10,))
  assert scores["own/recall_at_10"] == expected["recall_at_10"]
  assert "cosine/recall_at_1" in scores


def test_the_names_of_scores_are_those_that_are_computed():
  points, labels = data()
  episodes = [f"{m}/few_shot_5_way_1_shot" for m in ("own", "cosine")]
  asked = ["own/eer", "clustering/ami", *episodes]
  scores = evaluate(points, labels, "l1", asked=asked)
  first, second = np.array([0, 1]), np.array([2, 9])
  scores |= evaluate_pairs(points, first, second, first < 1, "l1")
  for name in scores:
    check_score("score", name)
  other = re.compile("recall_at_[248]|_interval")
  assert {name for name in scores if not other.search(name)} == names.SCORES


@pytest.mark.parametrize(
  "name",
  [
    "own/nope",
    "eer",
    "own/recall_at_0",
    "own/recall_at_K",
    "own/frr_at_far_0.2",
    "own/few_shot_1_way_1_shot",
    "own/few_shot_5_way_1_shots",
    "own/map_at_r_interval",
    "own/accuracy",
  ],
)
def test_other_names_are_no_scores(name):
  with pytest.raises(InputError, match=rf"unknown score '{name}'"):
    check_score("score", name)
  check_score("score", name, [name])
