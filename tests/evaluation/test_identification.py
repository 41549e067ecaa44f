"""Identification, against loops over probes, classes and thresholds."""

import itertools

import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.evaluation import OpenSet, identification, open_set


def sets(seed, known=120, unknown=130, classes=6):
  """Points on a grid: distances tie exactly, without rounding."""
  rng = np.random.default_rng(seed)
  gallery_labels = rng.permutation(np.repeat(np.arange(classes), 3))
  labels = np.concatenate(
    [rng.integers(classes, size=known), np.full(unknown, 99)]
  )
  order = rng.permutation(len(labels))
  points = lambda n: rng.integers(0, 12, size=(n, 2)).astype(np.float32)
  gallery = points(len(gallery_labels)) + 2.0 * gallery_labels[:, None]
  probes = points(len(labels)) + 2.0 * np.minimum(labels, 9)[:, None]
  return probes[order], labels[order], gallery, gallery_labels


def by_hand(probes, labels, gallery, gallery_labels, k, far):
  """DIR, rank rate, AUROC, OSCR and F1, one probe and threshold at a time."""
  known, unknown = [], []
  for probe, label in zip(probes.astype(float), labels, strict=True):
    to = {}
    for item, name in zip(gallery.astype(float), gallery_labels, strict=True):
      distance = sum(abs(a - b) for a, b in zip(probe, item, strict=True))
      to[name] = min(distance, to.get(name, np.inf))
    if label in to:
      others = [d for name, d in to.items() if name != label]
      rank = 1 + sum(d <= to[label] for d in others)
      known.append((min(to.values()), to[label], rank))
    else:
      unknown.append(min(to.values()))
  best, f1 = 0.0, 0.0
  for t in sorted({x for one in known for x in one[:2]} | {*unknown}):
    if sum(u <= t for u in unknown) / len(unknown) <= far:
      hits = sum(rank <= k and own <= t for _, own, rank in known)
      best = hits / len(known)
    right = sum(rank == 1 and own <= t for _, own, rank in known)
    named = sum(u <= t for u in [*unknown, *(x for x, *_ in known)])
    f1 = max(f1, 2 * right / (named + len(known)))
  half = lambda a, b: (a < b) + (a == b) / 2
  pairs = [(x, u) for x in known for u in unknown]
  return {
    "dir": best,
    "rank": np.mean([rank <= k for *_, rank in known]),
    "auroc": np.mean([half(x[0], u) for x, u in pairs]),
    "oscr": np.mean([half(x[0], u) * (x[2] == 1) for x, u in pairs]),
    "best_f1": f1,
  }


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_those_of_loops(seed):
  given = sets(seed)
  found = identification(*given, metric="l1", ks=(1, 3))
  for k, name in ((1, "dir"), (3, "dir_3")):
    expected = by_hand(*given, k, 0.1)
    assert 0 < expected["dir"] < expected["rank"] < 1
    np.testing.assert_allclose(
      found[f"{name}_at_far_0.1"], expected["dir"], rtol=1e-12
    )
    np.testing.assert_allclose(found[f"rank_{k}"], expected["rank"])
    for score in ("auroc", "oscr", "best_f1"):
      np.testing.assert_allclose(found[score], expected[score], rtol=1e-12)
  # One in a hundred of 130 says nothing.
  assert np.isnan(found["dir_at_far_0.01"])
  assert (found["num_known"], found["num_unknown"]) == (120, 130)


def test_embeddings_that_coincide_identify_nobody():
  probes, labels, gallery, gallery_labels = sets(0)
  found = identification(
    0 * probes, labels, 0 * gallery, gallery_labels, ks=(1, 6)
  )
  assert found["rank_1"] == found["dir_at_far_0.1"] == found["oscr"] == 0
  assert found["rank_6"] == 1
  assert found["auroc"] == 0.5


def test_what_is_absent_has_no_rate():
  probes, labels, gallery, gallery_labels = sets(0)
  known = labels < 99
  closed = identification(probes[known], labels[known], gallery, gallery_labels)
  assert np.isfinite(closed["rank_1"]) and np.isfinite(closed["best_f1"])
  assert np.isnan([closed["auroc"], closed["oscr"]]).all()
  names = np.array(["a", "b"])
  none = identification(probes[:2], names, gallery[:1], np.array(["c"]))
  assert np.isnan([none["rank_1"], none["best_f1"], none["auroc"]]).all()


def test_bad_input_is_refused():
  probes, labels, gallery, gallery_labels = sets(0)
  with pytest.raises(InputError, match="ks: K=0"):
    identification(probes, labels, gallery, gallery_labels, ks=(0,))
  with pytest.raises(InputError, match="gallery_labels: shape"):
    identification(probes, labels, gallery, gallery_labels[:2])


# --- Who is known is drawn --------------------------------------------------


def all_draws(points, labels, num_known, far):
  """The mean of `by_hand` over all known classes and one-image galleries."""
  found = []
  members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
  for known in itertools.combinations(members, num_known):
    for rows in itertools.product(*known):
      probes = np.setdiff1d(np.arange(len(labels)), rows)
      given = points[probes], labels[probes], points[[*rows]], labels[[*rows]]
      found.append(by_hand(*given, 1, far))
  return {name: np.mean([each[name] for each in found]) for name in found[0]}


@pytest.mark.slow
def test_the_mean_over_draws_is_that_of_all_draws():
  rng = np.random.default_rng(3)
  labels = np.repeat(np.arange(4), 6)
  points = rng.integers(0, 9, size=(24, 2)) + 3.0 * labels[:, None]
  protocol = OpenSet(unknown=0.5, gallery=1, draws=300)
  found = open_set(points, labels, metric="l1", protocol=protocol, ks=(1,))
  exact = all_draws(points, labels, 2, 0.1)
  assert np.isnan(found["dir_at_far_0.1"])  # 12 unknown probes are too few
  del exact["dir"]
  for hand, value in exact.items():
    name = "rank_1" if hand == "rank" else hand
    error = found[f"{name}_interval"]
    assert 0 < error < 0.05 and 0.05 < value < 0.95
    assert abs(found[name] - value) < 2 * error, name
  # Two classes of 6 less one image of each; and two of 6.
  assert (found["num_known"], found["num_unknown"]) == (10, 12)


def test_draws_by_hand():
  """Classes lie apart on a line, except that the last lies within the first."""
  points = np.array([[0.0], [0.1], [10], [10.1], [20], [20.1]])
  labels = np.repeat([0, 1, 2], 2)
  both = OpenSet(unknown=0.0, gallery=1, draws=5)
  found = open_set(points, labels, protocol=both, ks=(1, 2))
  assert (found["rank_1"], found["rank_2"]) == (1, 1)
  assert (found["num_known"], found["num_unknown"]) == (3, 0)
  assert np.isnan(found["auroc"])
  # A class of one image has no probe where it is known: it is unknown always.
  lone = open_set(points[:5], labels[:5], protocol=OpenSet(0.3, 1, 5))
  assert (lone["num_known"], lone["num_unknown"]) == (2, 1)
  assert lone["auroc"] == lone["oscr"] == lone["rank_1"] == 1


def test_a_protocol_that_cannot_be_is_said():
  points, labels = np.zeros((6, 1)), np.repeat([0, 1, 2], 2)
  for wrong, said in (
    (OpenSet(unknown=1.0), r"unknown=1.0 .*in \[0, 1\)"),
    (OpenSet(gallery=0), "gallery"),
    (OpenSet(draws=1), "draws"),
    (OpenSet(gallery=2), "1 of 3 classes must be known, with 2 gallery"),
  ):
    with pytest.raises(InputError, match=said):
      open_set(points, labels, protocol=wrong)
