"""Scores of items with several labels against a float64 oracle."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metric_learning.errors import InputError
from metric_learning.evaluation import (
  SCORES,
  Points,
  evaluate,
  pairs_of,
  per_query,
  retrieval,
  why_no_choice,
)

KS = (1, 2, 4)


def tagged(n, k, seed, integers=False):
  """One or two labels for each item, and a point near the centers of these."""
  rng = np.random.default_rng(seed)
  labels = np.zeros((n, k), int)
  for row in labels:
    row[rng.choice(k, rng.integers(1, 3), replace=False)] = 1
  points = labels @ rng.normal(size=(k, 3)) + 0.5 * rng.normal(size=(n, 3))
  if integers:  # 8 distinct points: most distances tie.
    points = points > 0
  return points.astype(np.float32), labels


def oracle(points, labels, others, other_labels, own):
  """The definitions, one query at a time; a fixed shuffle breaks ties.

  `own[i]` is the index of query i among the references, or -1.
  """
  place = np.argsort(np.random.default_rng(0).permutation(len(others)))
  distances = cdist(points.astype(float), others.astype(float), "cityblock")
  scores, held = [], []
  for i, row in enumerate(distances):
    order = [j for j in np.lexsort((place, row)) if j != own[i]]
    hit = [int((labels[i] * other_labels[j]).sum() > 0) for j in order]
    r = sum(hit)
    if not r:
      continue
    precision = [sum(hit[: j + 1]) / (j + 1) for j in range(len(hit))]
    first, second = row[order[:2]]
    scores.append(
      {
        **{f"recall_at_{k}": float(any(hit[:k])) for k in KS},
        "precision_at_1": float(hit[0]),
        "r_precision": precision[r - 1],
        "map_at_r": np.dot(precision[:r], hit[:r]) / r,
        "mrr": 1 / (1 + hit.index(1)),
        "tied_fraction": float(first == second),
      }
    )
    held.append(labels[i])
  expected = {
    "num_queries": len(scores),
    "lone_queries": len(points) - len(scores),
  }
  for name in scores[0]:
    values = np.array([one[name] for one in scores])
    expected[name] = values.mean()
    if name != "tied_fraction":
      of_classes = [
        values[np.array([row[c] for row in held], bool)].mean()
        for c in range(labels.shape[1])
        if any(row[c] for row in held)
      ]
      expected[f"macro_{name}"] = np.mean(of_classes)
  return expected


@pytest.mark.parametrize("integers", [False, True], ids=["apart", "tied"])
def test_scores_equal_the_definitions(integers):
  points, labels = tagged(70, 9, 0, integers)
  labels[3] = 0
  labels = np.column_stack([labels, np.eye(70, dtype=int)[3]])  # 3 is alone.
  expected = oracle(points, labels, points, labels, np.arange(70))
  assert expected["lone_queries"] == 1
  assert 0.2 < expected["map_at_r"] < 0.9
  assert expected["r_precision"] != expected["macro_r_precision"]
  assert expected["tied_fraction"] == integers
  found = retrieval(points, labels, metric="l1", ks=KS)
  assert found == pytest.approx(expected, abs=1e-12)


def test_queries_look_in_a_gallery_that_holds_some_of_them():
  points, labels = tagged(40, 12, 1, integers=True)
  own = np.where(np.arange(40) < 10, 39 - np.arange(40), -1)
  queries, query_labels = points[::-1], labels[::-1]
  expected = oracle(queries, query_labels, points, labels, own)
  found = retrieval(
    queries,
    query_labels,
    metric="l1",
    ks=KS,
    references=points,
    reference_labels=labels,
    exclude_self=own,
  )
  assert found == pytest.approx(expected, abs=1e-12)


def test_the_first_answer_may_be_far():
  """The rank can be beyond the neighbors that other scores use."""
  points = np.arange(60, dtype=np.float32)[:, None]
  labels = np.eye(60, dtype=int)
  labels[59] = labels[0]
  found = per_query(["own/mrr"], Points(points, labels, "l1"))["own/mrr"]
  assert found[0] == found[59] == 1 / 59
  assert np.isnan(found[1:59]).all()


def test_one_label_as_a_column_of_several_gives_the_same_scores():
  points, _ = tagged(50, 4, 2)
  one = np.random.default_rng(3).integers(0, 5, 50)
  several = np.eye(5, dtype=int)[one]
  assert retrieval(points, several) == pytest.approx(retrieval(points, one))
  for found, wanted in zip(
    pairs_of(points, several), pairs_of(points, one), strict=True
  ):
    np.testing.assert_array_equal(found, wanted)


def test_what_takes_one_label_is_left_out():
  points, labels = tagged(30, 6, 4)
  asked = ["clustering/nmi", "own/few_shot_2_way_1_shot", "own/eer"]
  scores = evaluate(points, labels, "l2", asked=asked)
  same = [bool(a @ b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
  assert scores["own/num_genuine"] == sum(same)
  assert {"own/map_at_r", "cosine/mrr", "own/eer"} <= scores.keys()
  left_out = {
    name for name, s in SCORES.items() if s.needs in ("classes", "one set")
  }
  assert {"geometry/alignment", "own/intra_inter_ratio"} <= left_out
  assert not scores.keys() & left_out
  assert not any("few_shot" in name for name in scores)


def test_whether_a_score_can_choose():
  _, labels = tagged(12, 4, 5)
  assert why_no_choice("own/map_at_r", labels) is None
  assert why_no_choice("own/eer", labels) is None
  every = np.ones((5, 2), int)
  assert "all neighbors are right" in why_no_choice("own/map_at_r", every)
  assert "impostor" in why_no_choice("own/eer", every)
  assert "no query has" in why_no_choice("own/mrr", np.eye(4, dtype=int))
  assert "genuine" in why_no_choice("own/eer", np.eye(4, dtype=int))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda x: {"labels": 2 * x}, "labels: 2 in the row of item 0"),
    (lambda x: {"labels": 0 * x}, "12 of 12 items have no label"),
    (lambda x: {"labels": x[1:]}, r"shape \(11, 4\) does not fit 12"),
    (
      lambda x: {"labels": x, "groups": np.zeros(12, int)},
      "leave the groups out",
    ),
    (
      lambda x: {
        "labels": x,
        "references": np.ones((12, 3)),
        "reference_labels": x[:, 1:] | 1,
      },
      r"shapes \(12, 4\) and \(12, 3\) do not fit",
    ),
    (
      lambda x: {
        "labels": x,
        "references": np.ones((12, 3)),
        "reference_labels": np.roll(x, 1, axis=1),
        "exclude_self": True,
      },
      "12 of 12 queries have another class",
    ),
  ],
)
def test_labels_that_cannot_be_used(change, message, untyped):
  points, labels = tagged(12, 4, 6)
  labels[:] = np.eye(4, dtype=int)[np.arange(12) % 4]
  with pytest.raises(InputError, match=message):
    retrieval(points, **change(labels))
