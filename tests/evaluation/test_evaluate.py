"""The record of all scores: their names, and the metrics that they use."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.evaluation import (
  Points,
  Score,
  check_ranks,
  check_score,
  clustering,
  evaluate,
  evaluate_pairs,
  few_shot,
  geometry,
  heading,
  intra_inter_ratio,
  is_at_threshold,
  is_by_query,
  is_slow,
  lower_is_better,
  pairs_of,
  per_query,
  retrieval,
  retrieval_per_query,
  score_questions,
  scores,
  verification,
  why_absent,
  why_no_choice,
)
from metric_learning.training import override, validate
from tests.tiny import tiny_config


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


@pytest.mark.slow
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
  every = {n for n in score_questions.names() if not is_at_threshold(n)}
  every |= {"own/recall_at_7", "cosine/few_shot_3_way_2_shot"}
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
    assert "its own" in why_absent("own/threshold", 30, **known)
  # 5,001 * 5,000 / 2 = 12,502,500 pairs are more than are kept.
  few, many = (why_absent("own/eer", n, **known) for n in (5000, 5001))
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


@pytest.mark.slow
@pytest.mark.parametrize("select", ["own/map_at_r", "geometry/alignment"])
def test_verification_is_left_out_where_nobody_asks_for_it(select):
  points, labels = data()
  everything = evaluate(points, labels, "l2")
  scores = evaluate(points, labels, "l2", asked=[select])
  assert not any("auc" in name for name in scores)
  np.testing.assert_equal(scores, {k: everything[k] for k in scores})
  for name in ("own/eer", "cosine/auc", "own/frr_at_far_0.1", "own/accuracy"):
    asked = evaluate(points, labels, "l2", asked=[select, name])
    family = name.partition("/")[0]
    other = {"own": "cosine", "cosine": "own"}[family]
    rates = {k for k in everything if "auc" in k or "_far_" in k or "eer" in k}
    rates |= {k for k in everything if k.endswith(("genuine", "impostor"))}
    assert asked.keys() == everything.keys() - {
      rate for rate in rates if rate.startswith(other)
    }, name


def test_what_is_asked_for_alone_comes_with_what_its_function_gives():
  points, labels = data()
  everything = evaluate(points, labels, "l2")
  asked = ["own/map_at_r", "geometry/collapsed"]
  scores = evaluate(points, labels, "l2", asked=asked, alone=True)
  np.testing.assert_equal(scores, {k: everything[k] for k in scores})
  assert {name.partition("/")[0] for name in scores} == {"own", "geometry"}
  assert set(asked) < scores.keys()
  assert "own/recall_at_1" in scores and "own/intra_inter_ratio" not in scores
  alone = evaluate(points, labels, "l2", asked=["cosine/eer"], alone=True)
  assert "cosine/auc" in alone
  assert not any(name.startswith(("own", "geometry")) for name in alone)


@pytest.mark.slow
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
  above = [f"{m}/superclass_recall_at_1" for m in ("own", "cosine")]
  drawn = [
    name for name in score_questions.names() if "/identification_" in name
  ]
  asked = ["own/eer", "clustering/ami", *episodes, *above, *drawn]
  names = "yz" * (labels.max() + 1)
  given = evaluate(points, labels, "l1", asked=asked, superclasses=names)
  first, second = np.array([0, 1]), np.array([2, 9])
  given |= evaluate_pairs(points, first, second, first < 1, "l1")
  for name in given:
    check_score("score", name)
  other = re.compile("recall_at_[248]")
  found = {name for name in given if not other.search(name)}
  assert found == {n for n in score_questions.names() if not is_at_threshold(n)}


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
  if name == "own/accuracy":
    check_score("score", name, at_threshold=True)


@pytest.mark.parametrize(
  ("asked", "message"),
  [
    (["own/recal_at_1"], "'own/recal_at_1'; did you mean 'own/recall_at_1'"),
    (["own/eer", "nmi"], "unknown score in asked 'nmi'"),
    ("own/eer", r"pass a list of names, \['own/eer'\]"),
  ],
)
def test_a_misspelt_score_is_refused(asked, message):
  with pytest.raises(InputError, match=message):
    evaluate(*data(), "l2", asked=asked)


@pytest.mark.parametrize("normalized", ["l1", "l2"])
def test_normalized_says_what_embeddings_are(normalized):
  points, labels = data()
  order = {"l1": 1, "l2": 2}[normalized]
  unit = points / np.linalg.norm(points, order, axis=1, keepdims=True)
  unit[3] = 0  # which stays zero
  scores = evaluate(unit, labels, "l1", normalized=normalized)
  expected = intra_inter_ratio(unit, labels, metric="l1", normalized=normalized)
  assert scores["own/intra_inter_ratio"] == expected
  assert scores["own/intra_inter_ratio"] != pytest.approx(
    evaluate(unit, labels, "l1")["own/intra_inter_ratio"], rel=1e-3
  )
  unit[7] *= 1.5
  for references in ({}, {"references": unit, "reference_labels": labels}):
    with pytest.raises(
      InputError, match=r"1 of 30 are not .row 7 has norm 1.5"
    ):
      evaluate(unit, labels, "l1", normalized=normalized, **references)


def test_groups_and_the_query_itself_reach_retrieval_alone():
  points, labels = data()
  groups = np.arange(30) % 4
  scores = evaluate(points, labels, "l1", groups=groups)
  expected = evaluate(points, labels, "l1")
  for family, metric in (("own", "l1"), ("cosine", "cosine")):
    found = retrieval(points, labels, metric=metric, groups=groups)
    expected |= {f"{family}/{name}": value for name, value in found.items()}
  np.testing.assert_equal(scores, expected)
  gallery = {"references": points, "reference_labels": labels}
  held = evaluate(points, labels, "l1", exclude_self=True, **gallery)
  assert (
    held["own/map_at_r"] == retrieval(points, labels, metric="l1")["map_at_r"]
  )
  seen = evaluate(
    points, labels, "l1", groups=groups, reference_groups=groups, **gallery
  )
  # Each is of its own class and group.
  assert seen["own/map_at_r"] == scores["own/map_at_r"]


@pytest.mark.parametrize(
  ("pairs", "message"),
  [
    (
      ([0, 99], [1, 2], [True, False]),
      "first: rows from 0 to 99; there are 30",
    ),
    (([0, 1], [1, -1], [True, False]), "second: rows from -1 to 1"),
    (([0, 1], [1, 2], [True]), "2, 2 and 1 entries"),
    (([0.0, 1.0], [1, 2], [True, False]), "first: shape .* float64"),
    (([], [], []), r"first: shape \(0,\)"),
    (([0, 1], [1, 2], [1, 0]), "must be boolean"),
  ],
)
def test_pairs_that_are_none_are_refused(untyped, pairs, message):
  with pytest.raises(InputError, match=message):
    evaluate_pairs(data()[0], *map(np.array, pairs), "l1")


def test_nothing_to_score_is_refused():
  nothing, labels = np.zeros((0, 3)), np.zeros(0, int)
  for score in (
    lambda: evaluate(nothing, labels, "l2"),
    lambda: evaluate_pairs(nothing, labels, labels, labels == 0, "l2"),
    lambda: geometry(nothing),
    lambda: intra_inter_ratio(nothing, labels),
    lambda: pairs_of(nothing, labels),
    lambda: clustering(nothing, labels),
    lambda: few_shot(nothing, labels),
  ):
    with pytest.raises(InputError, match="embeddings: there are none"):
      score()


A, LONE, ONE = np.repeat(np.arange(6), 6), np.arange(9), np.zeros(9, int)
EER, FAR, SHOT = "own/eer", "own/tar_at_far_0.01", "own/few_shot_5_way_1_shot"


@pytest.mark.parametrize(
  ("name", "labels", "options", "reason"),
  [
    ("own/map_at_r", A, {}, None),
    ("cosine/recall_at_30", A, {}, None),
    ("own/recall_at_31", A, {}, "no query has more than 30 images of other"),
    ("own/map_at_r", LONE, {}, "no class has two images"),
    ("own/macro_recall_at_1", ONE, {}, "all neighbors are right"),
    ("own/mrr", A[:0], {}, "there are no images"),
    ("own/mrr", A, {"groups": A}, "an image of its class in another group"),
    ("own/mrr", A, {"groups": np.arange(36)}, None),
    ("own/mrr", ONE, {"groups": LONE}, "all neighbors are right"),
    (EER, A, {}, None),
    (EER, LONE, {}, "no pair is genuine"),
    (EER, ONE, {}, "no pair is an impostor"),
    (EER, LONE, {"same": LONE < 3}, None),
    (EER, LONE, {"same": LONE < 9}, "no pair is an impostor"),
    (EER, LONE, {"same": LONE > 9}, "no pair is genuine"),
    # 36 · 35 / 2 - 6 · 15 = 540 impostors.
    (FAR, A, {}, "FAR 0.01 needs 1000 impostor pairs .* there are 540"),
    ("own/frr_at_far_0.1", A, {}, None),
    ("own/frr_at_far_0.1", LONE, {"same": LONE < 3}, "needs 100"),
    (SHOT, A, {}, None),
    (SHOT, A[:24], {}, "only 4 classes"),
    (SHOT, A[1:], {}, "1 of 6 classes have fewer"),
    ("clustering/ami", A, {}, None),
    ("clustering/ami", LONE, {}, "becomes a cluster"),
    ("clustering/nmi", ONE, {}, "not two classes"),
  ],
)
def test_what_cannot_choose_is_known_before(name, labels, options, reason):
  found = why_no_choice(name, labels, **options)
  if reason is None:
    assert found is None
    return
  assert re.search(reason, found)
  if not len(labels):
    return
  # It is so: two embeddings of these points have one score, or NaN.
  points = np.random.default_rng(0).normal(size=(2, len(labels), 3))
  scores = []
  for some in points:
    if "same" in options:
      pairs = LONE, (LONE + 1) % 9, options["same"]
      scores.append(evaluate_pairs(some, *pairs, "l1")[name])
    else:
      scores.append(evaluate(some, labels, "l1", asked=[name], **options)[name])
  np.testing.assert_equal(scores[0], scores[1])


# --- A score from outside ----------------------------------------------------


def spread_of(points):
  """The mean distance from the center, as a user may add it."""
  x = np.asarray(points.embeddings)
  apart = np.linalg.norm(x - x.mean(axis=0), axis=1)
  return float(apart.mean()) * (2 if points.metric == "cosine" else 1)


def test_a_score_is_added_by_its_function_and_one_entry(monkeypatch):
  entry = Score(
    *("spread", "own", spread_of, "lower", "spread"), needs="points"
  )
  monkeypatch.setitem(scores.SCORES, "own/spread", entry)
  points, labels = data()
  wanted = float(np.linalg.norm(points - points.mean(axis=0), axis=1).mean())
  given = evaluate(points, labels, "l1")
  assert given["own/spread"] == pytest.approx(wanted)
  assert "cosine/spread" not in given
  pairs = np.array([0, 1]), np.array([2, 9]), np.array([True, False])
  assert (
    evaluate_pairs(points, *pairs, "l1")["own/spread"] == given["own/spread"]
  )
  # All that asks about scores knows it.
  config = override(
    tiny_config(),
    {"eval.select": "own/spread", "eval.columns": ("own/spread",)},
  )
  validate(config)
  assert lower_is_better("own/spread") and not is_slow("own/spread")
  assert heading("own/spread") == "spread"
  known = {"explicit_pairs": True, "gallery": True}
  assert why_absent("own/spread", 30, **known) is None
  assert why_no_choice("own/spread", labels) is None
  with pytest.raises(InputError, match="did you mean 'own/spread'"):
    check_score("score", "own/spred")


def test_a_slow_score_of_queries_with_a_number_is_added_too(monkeypatch):
  def hits(points):
    (k,) = {int(name.split("_")[-1]) for name in points.asked}
    found = retrieval_per_query(points.embeddings, points.labels, ks=(k,))
    return {f"hit_{k}": found[f"recall_at_{k}"]}

  entry = Score(
    *(
      "hit_K",
      "own",
      lambda p: {k: float(np.nanmean(v)) for k, v in hits(p).items()},
    ),
    better="higher",
    heading="hit {K}",
    slow=True,
    by_query=hits,
    numbers={"K": (2, 3)},
  )
  monkeypatch.setitem(scores.SCORES, "own/hit_K", entry)
  points, labels = data()
  assert (
    "own/hit_3" in score_questions.names() and heading("own/hit_4") == "hit 4"
  )
  assert "own/hit_4" not in evaluate(points, labels, "l2")
  found = evaluate(points, labels, "l2", asked=["own/hit_4"])
  assert found["own/hit_4"] == evaluate(points, labels, "l2")["own/recall_at_4"]
  values = per_query(["own/hit_4"], Points(points, labels))["own/hit_4"]
  assert np.mean(values) == found["own/hit_4"]
  with pytest.raises(InputError, match="unknown score 'own/hit_1'"):
    check_score("score", "own/hit_1")


@pytest.mark.parametrize(
  ("name", "better", "by_query", "above"),
  [
    ("own/recall_at_4", "higher", True, "R@4 own"),
    ("cosine/map_at_r", "higher", True, "MAP@R cosine"),
    ("own/macro_recall_at_4", "higher", False, "own/macro_recall_at_4"),
    ("own/num_queries", None, False, "own/num_queries"),
    ("own/frr_at_far_0.075", "lower", False, "FRR at FAR 7.5 %"),
    ("cosine/eer", "lower", False, "EER cosine"),
    ("own/tar_at_far_0.001", "higher", False, "TAR at FAR 0.1 %"),
    ("own/few_shot_20_way_5_shot", "higher", False, "20-way 5-shot"),
    ("own/few_shot_20_way_5_shot_interval", None, False, None),
    ("clustering/ami", "higher", False, "AMI"),
    ("geometry/uniformity", None, False, "geometry/uniformity"),
    ("own/accuracy", "higher", False, "accuracy"),
    ("own/threshold", None, False, None),
  ],
)
def test_what_is_known_of_a_score(name, better, by_query, above):
  assert score_questions.score_of(name).better == better
  assert lower_is_better(name) == (better == "lower")
  assert is_by_query(name) == by_query
  assert heading(name) == (above or name)
  if better is None:
    with pytest.raises(InputError, match="only describes embeddings"):
      check_ranks("score", name)
  else:
    check_ranks("score", name)
