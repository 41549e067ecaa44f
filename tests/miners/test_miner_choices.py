"""The choices of miners, against loops over raw distances."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle_batches
import pytest

import metric_learning as ml
from metric_learning.miners import MINERS
from tests.miners.miner_cases import (
  LABELS,
  ORACLES,
  RANDOM,
  N,
  choose,
  points,
  program,
  values_of,
  weights_of,
)
from tests.quick import quick_jit


def affinity():
  """Symmetric weights; some pairs are positive and negative at once."""
  a = np.random.default_rng(3).uniform(size=(N, N))
  a[a < 0.4], a[a > 0.7] = 0, 1
  return np.maximum(a, a.T)


NEAR, FAR = ("positive_range", (0.25, 0.75)), ("negative_range", (0.5, 1.0))
# A margin that distances on the grid meet exactly.
EXACT = ("margin", 0.25)
CHOICES = [
  ("all", ()),
  ("batch_hard", ()),
  *(
    ("easy_hard", (("positive", p), ("negative", n)))
    for p, n in itertools.product(("easy", "semihard", "hard", "all"), repeat=2)
    if {p, n} not in ({"semihard"}, {"semihard", "all"})
  ),
  ("easy_hard", (NEAR, FAR)),
  ("easy_hard", (("positive", "all"), ("negative", "hard"), NEAR, FAR)),
  *(
    ("triplet_margin", (EXACT, ("triplets", name)))
    for name in ("all", "hard", "semihard", "easy")
  ),
  ("multi_similarity", ()),
  ("multi_similarity", (("epsilon", 0.25),)),
  ("pair_margin", (("positive_margin", 0.25), ("negative_margin", 0.75))),
  ("hdc", ()),
  ("hdc", (("fraction", 0.3),)),
  ("hdc", (("fraction", 1.0),)),
  ("angular", ()),
  ("angular", (("angle", 0.7),)),
  ("packaged", ()),
]


def test_every_miner_is_tried():
  assert {name for name, _ in CHOICES} | set(RANDOM) == set(MINERS)


@pytest.mark.slow
@pytest.mark.parametrize(("miner", "options"), CHOICES)
def test_choice_equals_the_definition(miner, options):
  """The same choice, even for ties; from weights, and from labels in blocks.

  A miner cannot tell these apart. Blocks are tested with its first options.
  """
  metric = (MINERS[miner].metrics or ("l1",))[0]
  first = options == next(own for name, own in CHOICES if name == miner)
  everyone, some = np.ones(N, bool), np.arange(N) % 4 != 1
  batches = [
    *(("grid", labels, everyone, None) for labels in LABELS),
    ("grid", "unbalanced", some, None),
    ("random", "unbalanced", everyone, None),
    ("grid", "balanced", some, affinity()),
  ]
  for kind, name, where, a in batches:
    x, labels = points(kind), np.array(LABELS[name])
    D = oracle_batches.distances(metric, x, x)
    expected = ORACLES[miner](
      x, D, *weights_of(labels, where, a), **dict(options)
    )
    same = 1.0 * (labels[:, None] == labels) if a is None else a
    dense = program(miner, options, metric, None)
    found = [dense(x, labels, where, same, None)]
    if first and name == "unbalanced":
      blocked = program(miner, options, metric, 4)
      found.append(blocked(x, labels, where, None, None))
    for got in found:
      for what, mine, theirs in zip("PNT", got, expected, strict=True):
        np.testing.assert_allclose(
          mine, theirs, rtol=1e-12, err_msg=f"{what} {kind} {name}"
        )


@pytest.mark.slow
def test_a_choice_is_the_same_without_jit():
  x, labels = points("grid"), np.array(LABELS["unbalanced"])
  batch = (x, labels, np.ones(N, bool), None, None)
  options = (EXACT, ("triplets", "semihard"))
  eager = choose("triplet_margin", dict(options), "l1", None, *batch)
  jitted = program("triplet_margin", options, "l1", None)(*batch)
  for a, b in zip(eager, jitted, strict=True):
    np.testing.assert_array_equal(a, b)


# Options that are no distances, of whatever kind.
PURE = {
  "easy_hard": {"positive", "negative"},
  "triplet_margin": {"triplets"},
  "hdc": {"fraction"},
  "uniform_histogram": {"num_bins", "positives_per_bin", "negatives_per_bin"},
  # Of distributions that hold under L2 alone.
  "distance_weighted": {"cutoff", "upper"},
  "angular": {"angle"},
}


@pytest.mark.parametrize("miner", MINERS)
def test_every_option_is_a_distance_or_none(miner):
  entry = MINERS[miner]
  pure = PURE.get(miner, set())
  assert set(entry.options) == pure | set(entry.scaled)
  assert not pure & set(entry.scaled)


def test_in_twice_the_unit_a_miner_chooses_the_same():
  x, labels = points("random"), jnp.array(LABELS["unbalanced"])
  given = {
    "easy_hard": dict([NEAR, FAR]),
    "triplet_margin": {"margin": 0.3},
    "multi_similarity": {"epsilon": 0.2},
    "pair_margin": {"positive_margin": 0.4, "negative_margin": 0.8},
  }
  assert set(given) == {name for name, one in MINERS.items() if one.scaled}

  @quick_jit
  def run(unit):
    found = {}
    for name, options in given.items():
      units = {k: unit**power for k, power in MINERS[name].scaled.items()}
      inside = {
        k: tuple(end * units[k] for end in v)
        if isinstance(v, tuple)
        else v * units[k]
        for k, v in options.items()
      }
      found[name] = choose(
        name, inside, "l1", None, unit * x, labels, np.ones(N, bool), None, None
      )
    return found

  once, twice = run(1.0), run(2.0)
  jax.tree.map(np.testing.assert_array_equal, once, twice)
  everyone = weights_of(LABELS["unbalanced"], np.ones(N, bool), None)
  for P, N_, _ in once.values():  # The numbers matter: some pairs are left out.
    kept = np.sum(np.asarray(P) > 0) + np.sum(np.asarray(N_) > 0)
    assert 0 < kept < np.sum(everyone)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tie_is_hard_and_not_semihard(dtype):
  """g is exactly 0, also in float32, where the next number is denormal."""
  with jax.enable_x64(dtype == np.float64):
    x = np.array([[0], [1], [-1]], dtype)  # D_ap = D_an = 1
    labels = np.array([0, 0, 1])
    objectives = [
      ml.make_objective(
        "triplet",
        "l1",
        "none",
        "sum",
        miner=("triplet_margin", {"triplets": triplets, "margin": 0.0}),
        margin=1.0,
      )
      for triplets in ("hard", "semihard", "all", "easy")
    ]
    # Anchor 0 meets g = 0, anchor 1 meets g = 1.
    assert values_of(objectives, x, labels) == [1, 0, 1, 0]
