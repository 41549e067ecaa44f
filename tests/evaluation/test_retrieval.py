"""Retrieval scores against a float64 oracle written from the definitions."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.distances import METRICS, pairwise
from metric_learning.errors import InputError
from metric_learning.evaluation import retrieval, retrieval_per_query, tiles

SCIPY = {
  "l1": "cityblock",
  "l2": "euclidean",
  "squared_l2": "sqeuclidean",
  "cosine": "cosine",
}
KS = (1, 2, 4, 8)


def query_scores(relevant, ks):
  """The scores of one query from rel(1), rel(2), … over all references."""
  r = sum(relevant)
  scores = {f"recall_at_{k}": float(any(relevant[:k])) for k in ks}
  precision = lambda i: sum(relevant[:i]) / i
  scores["precision_at_1"] = float(relevant[0])
  scores["r_precision"] = precision(r)
  hits = [i for i in range(1, r + 1) if relevant[i - 1]]
  scores["map_at_r"] = sum(precision(i) for i in hits) / r
  scores["mrr"] = 1 / (1 + relevant.index(True))
  return scores


def oracle(distances, labels, reference_labels, exclude_self, ks=KS, seen=None):
  """Sorts every row; the position in the fixed shuffle breaks ties.

  `seen` [n, m] marks the references that a query sees.
  """
  place = np.argsort(
    np.random.default_rng(0).permutation(len(reference_labels))
  )
  scored, classes, tied = [], [], []
  for i, label in enumerate(labels):
    order = np.lexsort((place, distances[i]))
    order = [j for j in order if not (exclude_self and i == j)]
    order = [j for j in order if seen is None or seen[i, j]]
    relevant = [bool(reference_labels[j] == label) for j in order]
    if any(relevant):
      scored.append(query_scores(relevant, ks))
      classes.append(label)
      nearest = [distances[i, j] for j in order[:2]]
      tied.append(len(nearest) > 1 and nearest[0] == nearest[1])
  scores = {"tied_fraction": np.mean(tied)}
  for name in scored[0]:
    values = np.array([score[name] for score in scored])
    scores[name] = values.mean()
    scores[f"macro_{name}"] = np.mean(
      [values[np.array(classes) == c].mean() for c in set(classes)]
    )
  scores["num_queries"] = len(scored)
  scores["lone_queries"] = len(labels) - len(scored)
  return scores


def assert_scores(scores, expected):
  assert scores.keys() == expected.keys()
  for name, value in expected.items():
    assert scores[name] == pytest.approx(value, abs=1e-12), name


def clustered(num_classes=9, d=5, spread=1.0, seed=0):
  """Classes of 1, 2, 3, ... images, shuffled."""
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(num_classes), np.arange(1, num_classes + 1))
  labels = rng.permutation(labels)
  centers = rng.normal(size=(num_classes, d))
  points = centers[labels] + spread * rng.normal(size=(len(labels), d))
  return points.astype(
    np.float32
  ), labels * 7 - 20  # any integers may be labels


@pytest.mark.parametrize("metric", sorted(SCIPY))
def test_scores_equal_the_definitions(metric):
  points, labels = clustered()
  distances = cdist(points.astype(float), points.astype(float), SCIPY[metric])
  expected = oracle(distances, labels, labels, exclude_self=True)
  assert expected["lone_queries"] == 1
  # Neither perfect nor hopeless, and micro differs from macro: else the
  # comparison would not see much.
  assert 0.2 < expected["map_at_r"] < 0.9
  assert expected["recall_at_1"] != expected["macro_recall_at_1"]
  assert expected["mrr"] != expected["recall_at_1"]
  assert_scores(retrieval(points, labels, metric=metric), expected)


@pytest.mark.parametrize("metric", ["l1", "squared_l2"])
def test_ties_and_duplicates_equal_the_definitions(metric):
  rng = np.random.default_rng(5)
  points = rng.integers(0, 2, (60, 3)).astype(np.float32)  # 8 distinct points
  labels = rng.integers(0, 6, 60)
  distances = cdist(points.astype(float), points.astype(float), SCIPY[metric])
  expected = oracle(distances, labels, labels, exclude_self=True)
  assert expected["tied_fraction"] == 1
  assert_scores(retrieval(points, labels, metric=metric), expected)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_candidates_equal_the_definitions(metric):
  # Classes of 4 or so among 600: few neighbors are asked for.
  rng = np.random.default_rng(10)
  labels = rng.integers(0, 150, 600)
  points = rng.normal(size=(150, 8))[labels] + rng.normal(size=(600, 8))
  points = points.astype(np.float32)
  distances = cdist(points.astype(float), points.astype(float), SCIPY[metric])
  expected = oracle(distances, labels, labels, exclude_self=True)
  assert expected["mrr"] != expected["recall_at_8"]
  assert_scores(retrieval(points, labels, metric=metric), expected)


def test_tiles_change_nothing(monkeypatch):
  points, labels = clustered(seed=1)
  whole = retrieval(points, labels)
  monkeypatch.setattr(tiles, "_CPU_TILE", 16)
  assert_scores(retrieval(points, labels), whole)


def test_queries_against_a_gallery():
  points, labels = clustered(seed=2)
  queries, gallery = slice(0, 20), slice(20, None)
  distances = cdist(
    points[queries].astype(float), points[gallery].astype(float)
  )
  expected = oracle(distances, labels[queries], labels[gallery], False)
  assert expected["lone_queries"] > 0
  scores = retrieval(
    points[queries],
    labels[queries],
    references=points[gallery],
    reference_labels=labels[gallery],
  )
  assert_scores(scores, expected)


def test_map_at_r_divides_by_r_and_not_by_the_number_of_hits():
  # From 0, references at 1, 2, 3, 9 are of class 0, 1, 0, 0: R = 3 and
  # rel = (1, 0, 1), so (1 + 2/3) / 3; divided by two hits it were 5/6.
  values = retrieval_per_query(
    np.array([[0.0]]),
    np.array([0]),
    references=np.array([[1.0], [2.0], [3.0], [9.0]]),
    reference_labels=np.array([0, 1, 0, 0]),
  )
  assert values["map_at_r"][0] == pytest.approx(5 / 9)
  assert values["r_precision"][0] == pytest.approx(2 / 3)
  assert values["mrr"][0] == 1


def test_mrr_sees_beyond_the_neighbors_that_other_scores_need():
  # 30 strangers are nearer than the only reference of the query's class.
  references = np.arange(1.0, 32.0)[:, None]
  labels = np.where(np.arange(31) == 30, 0, 1)
  scores = retrieval(
    np.array([[0.0]]),
    np.array([0]),
    references=references,
    reference_labels=labels,
  )
  assert scores["mrr"] == pytest.approx(1 / 31)


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_constant_embeddings_score_at_chance_although_sorted_by_class(
  metric, value
):
  labels = np.repeat(np.arange(30), 10)
  scores = retrieval(np.full((300, 4), value), labels, metric=metric)
  # Of 299 others 9 are relevant: the chance of one among K drawn, and the
  # mean of 1 / (rank of the first).
  chance = {k: 1 - math.comb(290, k) / math.comb(299, k) for k in (1, 2, 4, 8)}
  mrr = sum(
    math.comb(299 - i, 8) / math.comb(299, 9) / i for i in range(1, 292)
  )
  for k, probability in chance.items():
    assert scores[f"recall_at_{k}"] == pytest.approx(probability, abs=0.04), k
  assert scores["r_precision"] == pytest.approx(9 / 299, abs=0.02)
  assert scores["map_at_r"] < 0.02
  assert scores["mrr"] == pytest.approx(mrr, abs=0.04)
  assert scores["tied_fraction"] == 1


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_constant_embeddings_score_at_chance_exactly(metric):
  # Over all ways to give four images one label and two another, a query meets
  # the others in each order equally often.
  found, expected = [], []
  for pair in itertools.combinations(range(6), 2):
    labels = np.isin(np.arange(6), pair).astype(int)
    found.append(retrieval(np.full((6, 4), 0.1), labels, metric=metric))
  for relevant, share in ((3, 4 / 6), (1, 2 / 6)):
    for hits in itertools.combinations(range(5), relevant):
      order = [i in hits for i in range(5)]
      weight = share / math.comb(5, relevant)
      expected.append(
        {k: weight * v for k, v in query_scores(order, KS).items()}
      )
  for name in expected[0]:
    chance = sum(scores[name] for scores in expected)
    mean = np.mean([scores[name] for scores in found])
    assert mean == pytest.approx(chance, abs=1e-12), name


def test_zero_rows_under_cosine_are_scored():
  points = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.1]])
  scores = retrieval(points, np.array([0, 0, 1, 1]), metric="cosine")
  # 1 and 1.1 degrees find each other; a zero row is at distance 1 from all.
  assert scores["num_queries"] == 4
  assert 0.5 <= scores["recall_at_1"] <= 1
  assert np.isfinite(list(scores.values())).all()


def test_lone_queries_are_dropped_and_stay_distractors():
  points = np.array([[0.0], [1.0], [0.4]])
  scores = retrieval(points, np.array([0, 0, 1]), metric="l1")
  # Both queries of class 0 find the lone image first, then each other.
  assert scores["recall_at_1"] == 0
  assert scores["recall_at_2"] == 1
  assert (scores["num_queries"], scores["lone_queries"]) == (2, 1)


@pytest.mark.parametrize("n", [1, 4])
def test_nothing_but_lone_queries_gives_nan(n):
  scores = retrieval(np.eye(4)[:n], np.arange(n))
  counts = {"num_queries": 0, "lone_queries": n}
  for name, value in scores.items():
    if name in counts:
      assert value == counts[name]
    else:
      assert math.isnan(value), name


def test_k_beyond_the_references_looks_at_all_of_them():
  points = np.array([[0.0], [1.0], [5.0]])
  scores = retrieval(points, np.array([0, 1, 0]), ks=(1, 100))
  assert (scores["recall_at_1"], scores["recall_at_100"]) == (0, 1)


def test_per_query_values_are_those_averaged():
  points, labels = clustered(seed=3)
  values = retrieval_per_query(points, labels, ks=(1, 3))
  scores = retrieval(points, labels, ks=(1, 3))
  lone = labels == -20  # the class of one image
  for name, value in values.items():
    np.testing.assert_array_equal(np.isnan(value), lone, name)
    assert scores[name] == pytest.approx(value[~lone].mean())


def test_jax_arrays_are_accepted():
  points, labels = clustered(seed=4)
  assert_scores(
    retrieval(jnp.asarray(points), jnp.asarray(labels)),
    retrieval(points, labels),
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"metric": "l3"}, "unknown metric 'l3'"),
    ({"ks": (0, 1)}, "ks: K=0: choose an integer of 1 or more"),
    ({"ks": ()}, "K of 1 or more"),
    ({"references": np.zeros((2, 3))}, "give both or neither"),
  ],
)
def test_input_that_cannot_be_scored_is_refused(options, message):
  with pytest.raises(InputError, match=message):
    retrieval(np.zeros((4, 3)), np.zeros(4, int), **options)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_queries_that_are_in_the_gallery_do_not_find_themselves(metric):
  # 608 references and few neighbors: L2 goes by candidates, in 38 groups of 16
  # columns without padding.
  rng = np.random.default_rng(11)
  labels = rng.integers(0, 300, 608)
  points = rng.normal(size=(300, 8))[labels] + rng.normal(size=(608, 8))
  points = points.astype(np.float32)
  # Of these queries every third is no reference. An index of -1 would hide
  # the reference that the shuffle puts last: they are near that one.
  last = np.random.default_rng(0).permutation(608)[-1]
  index = rng.permutation(608)[:90]
  index[::3] = -1
  queries, classes = points[index], labels[index]
  queries[::3] = points[last] + 1e-3 * rng.normal(size=(30, 8))
  classes[::3] = labels[last]
  seen = np.arange(608) != index[:, None]
  distances = cdist(queries.astype(float), points.astype(float), SCIPY[metric])
  expected = oracle(distances, classes, labels, False, seen=seen)
  gallery = {"references": points, "reference_labels": labels}
  found = retrieval(
    queries, classes, metric=metric, exclude_self=index, **gallery
  )
  assert_scores(found, expected)
  whole = retrieval(points, labels, metric=metric)
  again = retrieval(points, labels, metric=metric, exclude_self=True, **gallery)
  assert_scores(again, whole)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_a_query_does_not_see_its_class_in_its_group(metric, with_gallery):
  # Of Market-1501: what has the class and the camera of the query is junk.
  rng = np.random.default_rng(12)
  labels = rng.integers(0, 40, 300)
  cameras = rng.integers(0, 3, 300)
  # Images of one camera are alike.
  of_class, of_camera = rng.normal(size=(40, 4)), rng.normal(size=(3, 4))
  points = of_class[labels] + 2 * of_camera[cameras]
  points = (points + rng.normal(size=(300, 4))).astype(np.float32)
  near, far = (
    (slice(0, 60), slice(60, None)) if with_gallery else 2 * [slice(None)]
  )
  junk = labels[near, None] == labels[far]
  junk &= cameras[near, None] == cameras[far]
  distances = cdist(
    points[near].astype(float), points[far].astype(float), SCIPY[metric]
  )
  # Without a gallery, a query is of its own class and group.
  expected = oracle(distances, labels[near], labels[far], False, seen=~junk)
  options = {"metric": metric, "groups": cameras[near]}
  if with_gallery:
    options |= {
      "references": points[far],
      "reference_labels": labels[far],
      "reference_groups": cameras[far],
    }
  found = retrieval(points[near], labels[near], **options)
  assert_scores(found, expected)
  del options["groups"], options["metric"]
  options.pop("reference_groups", None)
  without = retrieval(points[near], labels[near], metric=metric, **options)
  assert without["map_at_r"] != found["map_at_r"]
  assert without["num_queries"] > found["num_queries"] > 0


def test_few_references_that_are_hidden_are_no_hits():
  # Fewer references than neighbors that are looked at: hidden ones come last.
  references, labels = np.arange(1.0, 6.0)[:, None], np.array([0, 0, 1, 0, 1])
  groups = np.array([7, 7, 7, 8, 8])
  values = retrieval_per_query(
    np.array([[0.0]]),
    np.array([0]),
    references=references,
    reference_labels=labels,
    groups=np.array([7]),
    reference_groups=groups,
  )
  # It sees 3 of another class, 4 of its own, 5: R = 1, and rank 2.
  expected = {"recall_at_1": 0, "recall_at_2": 1, "recall_at_8": 1, "mrr": 0.5}
  expected |= {"r_precision": 0, "map_at_r": 0, "precision_at_1": 0}
  for name, value in expected.items():
    assert values[name][0] == value, name
  assert values["tied_fraction"][0] == 0


def test_a_group_for_each_image_changes_nothing():
  points, labels = clustered(seed=6)
  whole = retrieval(points, labels)
  assert_scores(retrieval(points, labels, groups=np.arange(45)), whole)
  alone = retrieval(points, labels, groups=np.zeros(45, int))
  assert alone["lone_queries"] == 45


@pytest.mark.parametrize("shift", [1e6, 1e8])
@pytest.mark.parametrize(
  "metric", ["l1", "l2", "linf", ("lp", {"p": 3}), "snr"]
)
def test_embeddings_far_from_the_origin_keep_their_differences(metric, shift):
  rng = np.random.default_rng(13)
  labels = np.repeat(np.arange(6), 5)
  points = rng.normal(size=(6, 3))[labels] + rng.normal(size=(30, 3))
  # In float64, 1e8 leaves eight digits of a difference of 1.
  moved = retrieval(points + shift, labels, metric=metric)
  assert_scores(moved, retrieval(points, labels, metric=metric))
  halves = retrieval(
    *(points[::2] + shift, labels[::2]),
    metric=metric,
    references=points[1::2] + shift,
    reference_labels=labels[1::2],
  )
  assert halves["tied_fraction"] == 0


@pytest.mark.slow
def test_only_metrics_that_see_differences_alone_are_moved():
  rng = np.random.default_rng(14)
  points = jnp.asarray(rng.normal(size=(5, 3)))
  shift = jnp.array([1.0, -2.0, 0.5])
  for name in [name for name in METRICS if not METRICS[name].learned]:
    metric = (name, {"p": 3}) if name == "lp" else name
    here = pairwise(metric, points, points, exact=True)
    there = pairwise(metric, points + shift, points + shift, exact=True)
    same = np.allclose(here, there, atol=1e-5)
    assert same == METRICS[name].of_differences, name


@pytest.mark.parametrize("metric", ["l1", "l2", "dot"])
def test_distances_beyond_float32_are_refused(metric):
  size = 3e38 if metric == "l1" else 1e30
  points = size * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
  with pytest.raises(InputError, match="beyond float32"):
    retrieval(points, np.array([0, 0, 1]), metric=metric)


X, Y = np.eye(4)[:, :3], np.array([0, 0, 1, 1])
GALLERY = {"references": X, "reference_labels": Y}


@pytest.mark.parametrize(
  ("arguments", "options", "message"),
  [
    ((np.zeros((0, 3)), []), {}, r"embeddings: there are none, shape \(0, 3\)"),
    ((X[:, 0], Y), {}, r"embeddings: shape \(4,\)"),
    ((X[None], Y), {}, r"embeddings: shape \(1, 4, 3\)"),
    ((X[:, :0], Y), {}, r"embeddings: shape \(4, 0\)"),
    ((X.astype(str), Y), {}, "not dtype <U.*: embed paths first"),
    ((X, None), {}, "labels: holds NoneType"),
    ((X, [0, 0, "a", "a"]), {}, "labels: holds int, str"),
    ((X, Y / 2), {}, "labels: dtype float64"),
    ((X, Y[:3]), {}, r"labels: shape \(3,\) does not fit 4"),
    ((X, Y), {"ks": 5}, r"ks=5: .* ks=\(1, 5\)"),
    ((X, Y), {"ks": (1.0,)}, "ks: K=1.0"),
    ((X, Y), GALLERY | {"references": X[:0]}, "references: there are none"),
    ((X, Y), GALLERY | {"references": X[:, :2]}, "of 2 and 3 dimensions"),
    ((X, Y), GALLERY | {"reference_labels": list("aabb")}, "are never equal"),
    ((X, Y), {"exclude_self": True}, "exclude_self: .* only with references"),
    ((X[:3], Y[:3]), GALLERY | {"exclude_self": True}, "3 queries and 4"),
    ((X, Y), GALLERY | {"exclude_self": Y[:3]}, r"exclude_self: shape \(3,\)"),
    (
      (X, Y),
      GALLERY | {"exclude_self": [0, 1, 2, 4]},
      "from 0 to 4; there are 4",
    ),
    ((X, Y), GALLERY | {"exclude_self": [0, 1, -2, 3]}, "from -2 to 3"),
    (
      (X, Y),
      GALLERY | {"exclude_self": [0, 2, 2, 3]},
      "is query 1, of class 0",
    ),
    ((X, Y), {"groups": Y[:3]}, r"groups: shape \(3,\)"),
    ((X, Y), {"reference_groups": Y}, "reference_groups: give them only with"),
    ((X, Y), GALLERY | {"groups": Y}, "groups and reference_groups"),
    (
      (X, Y),
      GALLERY | {"groups": Y, "reference_groups": list("aabb")},
      "groups and reference_groups: dtypes",
    ),
  ],
)
def test_what_does_not_fit_is_refused(untyped, arguments, options, message):
  with pytest.raises(InputError, match=message):
    retrieval(*arguments, **options)
