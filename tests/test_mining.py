"""Miners against loops over raw distances: what is chosen, and what it does."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import loss_oracles
import numpy as np
import pytest

import metric_learning as ml
from metric_learning.inputs import points_of
from metric_learning.miners import MINERS
from metric_learning.rows import over_rows
from metric_learning.signatures import call_with
from tests.quick import quick_jit

N = 10
LABELS = {
  "balanced": [0, 1, 2, 3, 4, 0, 1, 2, 3, 4],
  "unbalanced": [3, 0, 0, 1, 0, 2, 0, 1, 0, 1],
  "singletons": [5, 0, 1, 2, 3, 4, 0, 6, 7, 8],
  "one class": [2] * N,
  "all distinct": list(range(N)),
}


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def points(kind):
  """Random points; or points of a grid, full of ties and duplicates."""
  generator = np.random.default_rng(4)
  if kind == "grid":
    return generator.integers(0, 4, size=(N, 2)) / 4.0
  return 0.5 * generator.normal(size=(N, 2))


def affinity():
  """Symmetric weights; some pairs are positive and negative at once."""
  a = np.random.default_rng(3).uniform(size=(N, N))
  a[a < 0.4], a[a > 0.7] = 0, 1
  return np.maximum(a, a.T)


def values_of(objectives, x, labels, **more):
  """The values of several objectives, which share one program."""
  run = quick_jit(
    lambda x, labels, more: [
      objective({}, x, labels, **more)[0] for objective in objectives
    ]
  )
  return run(x, labels, more)


# --- what a miner chooses ----------------------------------------------------


def choose(miner, options, metric, block_size, x, labels, where, a, key):
  """Chosen positives [n, m], negatives [n, m] and triplets [n, m, m]."""
  entry = MINERS[miner]
  batch = points_of(*map(jnp.asarray, (x, labels, where)))
  distance = functools.partial(ml.pairwise, metric)
  over = over_rows(batch, batch, distance, a, block_size)
  more, own = (), None
  if entry.context is not None:
    context = call_with(options, entry.context, over, over, batch, batch, key)
    more, own = (context,), context.own

  def chosen(row, own):
    told = [context._replace(own=own) for context in more]
    row = call_with(options, entry.mine, row, *told)
    if row.triplets is None:
      triplets = row.positives[:, None] * row.negatives[None, :]
    else:
      negatives = jax.vmap(lambda p: row.triplets.of(p, row.distances))
      triplets = row.triplets.positives[:, None] * negatives(jnp.arange(N))
    return row.positives, row.negatives, triplets

  return over(chosen, own)


@functools.cache
def program(miner, options, metric, block_size):
  """`choose`, compiled for (x, labels, where, a, key)."""
  return quick_jit(
    functools.partial(choose, miner, dict(options), metric, block_size)
  )


def weights_of(labels, where, a):
  """Positive and negative weights of all pairs, from the definition."""
  P, N_ = np.zeros((N, N)), np.zeros((N, N))
  for i, j in itertools.permutations(np.flatnonzero(where), 2):
    same = labels[i] == labels[j] if a is None else a[i, j]
    P[i, j], N_[i, j] = float(same), 1 - float(same)
  return P, N_


def product(P, N_):
  return P, N_, P[:, :, None] * N_[:, None, :]


def triplets_where(keep, P, N_):
  """All triplets (i, p, n) that `keep` tells to, and the pairs they count."""
  T = np.zeros((N, N, N))
  for i, p, n in itertools.product(range(N), repeat=3):
    if P[i, p] * N_[i, n] and keep(i, p, n):
      T[i, p, n] = P[i, p] * N_[i, n]
  return T.sum(2), T.sum(1), T


def all_pairs(x, D, P, N_):
  return product(P, N_)


def least(values, indices):
  """The index of the least value, the lowest one of a tie; None of none."""
  return min(((values[j], j) for j in indices), default=(0, None))[1]


def easy_hard(
  x,
  D,
  P,
  N_,
  positive="easy",
  negative="semihard",
  positive_range=(-np.inf, np.inf),
  negative_range=(-np.inf, np.inf),
):
  kept_P, kept_N = np.zeros_like(P), np.zeros_like(N_)
  for i in range(N):
    near, far = (functools.partial(least, sign * D[i]) for sign in (1, -1))
    within = lambda W, ends, i=i: [
      j for j in range(N) if W[i, j] > 0 and ends[0] <= D[i, j] <= ends[1]
    ]
    ps, ns = within(P, positive_range), within(N_, negative_range)
    p = {"easy": near, "hard": far}.get(positive, lambda js: None)(ps)
    n = {"easy": far, "hard": near}.get(negative, lambda js: None)(ns)
    if negative == "semihard" and p is not None:
      n = near([j for j in ns if D[i, j] > D[i, p]])
    if positive == "semihard" and n is not None:
      p = far([j for j in ps if D[i, j] < D[i, n]])
    one_p = {j: P[i, j] for j in ps} if positive == "all" else {p: 1.0}
    one_n = {j: N_[i, j] for j in ns} if negative == "all" else {n: 1.0}
    one_p.pop(None, None)
    one_n.pop(None, None)
    if one_p and one_n:
      for j, w in one_p.items():
        kept_P[i, j] = w
      for j, w in one_n.items():
        kept_N[i, j] = w
  return product(kept_P, kept_N)


def batch_hard(x, D, P, N_):
  return easy_hard(x, D, P, N_, positive="hard", negative="hard")


def multi_similarity(x, D, P, N_, epsilon=0.1):
  s = -D
  kept_P, kept_N = np.zeros_like(P), np.zeros_like(N_)
  for i in range(N):
    ps, ns = np.flatnonzero(P[i]), np.flatnonzero(N_[i])
    for p in ps:
      if len(ns) and s[i, p] - epsilon < max(s[i, ns]):
        kept_P[i, p] = P[i, p]
    for n in ns:
      if len(ps) and s[i, n] + epsilon > min(s[i, ps]):
        kept_N[i, n] = N_[i, n]
  return product(kept_P, kept_N)


def pair_margin(x, D, P, N_, positive_margin=0.2, negative_margin=0.8):
  far, near = positive_margin < D, negative_margin > D
  return product(P * far, N_ * near)


def triplet_margin(x, D, P, N_, margin=0.2, triplets="all"):
  def keep(i, p, n):
    g = D[i, n] - D[i, p]
    return {
      "all": g <= margin,
      "hard": g <= 0,
      "semihard": 0 < g <= margin,
      "easy": g > margin,
    }[triplets]

  return triplets_where(keep, P, N_)


def hdc(x, D, P, N_, fraction=0.5):
  kept = []
  for weights, sign in ((P, -1), (N_, 1)):
    pairs = sorted((sign * D[i, j], i, j) for i, j in np.argwhere(weights))
    chosen = np.zeros_like(weights)
    for _, i, j in pairs[: math.ceil(fraction * len(pairs))]:
      chosen[i, j] = weights[i, j]
    kept.append(chosen)
  return product(*kept)


def angular(x, D, P, N_, angle=math.pi / 9):
  def keep(i, p, n):
    middle = (x[i] + x[p]) / 2
    return np.arctan2(D[i, p], 2 * np.linalg.norm(x[n] - middle)) > angle

  return triplets_where(keep, P, N_)


def packaged(x, D, P, N_):
  T = np.zeros((N, N, N))
  for a in range(0, N - 2, 3):
    if (P + N_)[a, a + 1] and (P + N_)[a, a + 2]:
      T[a, a + 1, a + 2] = 1
  return T.sum(2), T.sum(1), T


ORACLES = {
  "all": all_pairs,
  "batch_hard": batch_hard,
  "easy_hard": easy_hard,
  "triplet_margin": triplet_margin,
  "multi_similarity": multi_similarity,
  "pair_margin": pair_margin,
  "hdc": hdc,
  "angular": angular,
  "packaged": packaged,
}
RANDOM = ("distance_weighted", "uniform_histogram")
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
  """Exactly, also where distances tie; from weights, and from labels in blocks.

  A miner does not see which it is. Blocks are tried with its first options.
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
    D = loss_oracles.distances(metric, x, x)
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
  """g = 0 exactly, also in float32, where the next number is denormal."""
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


# --- what it does to a loss --------------------------------------------------

MINED = [
  ("batch_hard", ()),
  ("easy_hard", ()),
  ("triplet_margin", (("triplets", "semihard"), ("margin", 0.3))),
  ("multi_similarity", ()),
  ("pair_margin", ()),
  ("hdc", ()),
  ("angular", ()),
  ("packaged", ()),
  ("distance_weighted", ()),
  ("uniform_histogram", (("num_bins", 4),)),
]
HYPER = {
  "triplet": {"margin": 0.4},
  "contrastive_linear": {"positive_margin": 0.1, "negative_margin": 1.3},
  "triplet_swap": {"margin": 0.4},
  "infonce_per_pair": {"temperature": 0.5},
}


def of_choice(loss, normalize, x, chosen):
  """The mean of a loss over chosen pairs or triplets, by loops."""
  P, N_, T = chosen
  x = loss_oracles.normalized(normalize, x)
  D = loss_oracles.distances("l2", x, x)
  if loss.startswith("triplet"):
    total = 0.0
    for i, p, n in np.argwhere(T):
      near = min(D[i, n], D[p, n]) if loss == "triplet_swap" else D[i, n]
      total += T[i, p, n] * max(0, D[i, p] - near + HYPER[loss]["margin"])
    return total / T.sum() if T.any() else 0.0
  batch = loss_oracles.Batch("l2", x, np.zeros(N), x, np.zeros(N), itself=True)
  batch.P, batch.N = P, N_
  parts = {}
  for part, *term in loss_oracles.ORACLES[loss](batch, **HYPER[loss]):
    parts.setdefault(part, []).append(term)
  return sum(loss_oracles.reduced("mean", part, N) for part in parts.values())


@pytest.mark.slow
@pytest.mark.parametrize(
  ("miner", "options", "blocked"),
  [
    (miner, options, blocked)
    for miner, options in MINED
    # In blocks it is chosen from a context, or from each row as it is.
    for blocked in (False, True)
    if not blocked or MINERS[miner].context or miner == "triplet_margin"
  ],
)
def test_a_loss_of_what_was_chosen(miner, options, blocked):
  """Pair losses see counts, triplet losses the triplets; both as constants."""
  turn = blocked + [name for name, _ in MINED].index(miner)
  loss, block_size = list(HYPER)[turn % len(HYPER)], 4 if blocked else N
  normalize, key = MINERS[miner].normalize or "none", jax.random.key(5)
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  seen = loss_oracles.normalized(normalize, x)
  everyone = np.ones(N, bool)
  if miner in ORACLES:
    D = loss_oracles.distances("l2", seen, seen)
    weights = weights_of(labels, everyone, None)
    chosen = ORACLES[miner](seen, D, *weights, **dict(options))
  else:
    drawn = program(miner, options, "l2", None)
    chosen = jax.device_get(drawn(seen, labels, everyone, None, key))

  @quick_jit
  def run(x, labels):
    objective = ml.make_objective(
      loss,
      "l2",
      normalize,
      "mean",
      (miner, dict(options)),
      block_size,
      **HYPER[loss],
    )
    return jax.value_and_grad(lambda x: objective({}, x, labels, key=key)[0])(x)

  generator = np.random.default_rng(1)
  value, slopes = run(x, labels)
  expected = of_choice(loss, normalize, x, chosen)
  np.testing.assert_allclose(value, expected, rtol=1e-9)
  for _ in range(2):
    direction = generator.normal(size=x.shape)
    slope = loss_oracles.numeric_slope(
      lambda moved: of_choice(loss, normalize, moved, chosen), [x], [direction]
    )
    got = np.sum(direction * np.asarray(slopes))
    np.testing.assert_allclose(got, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
  "loss", ["lifted", "triplet_dynamic_soft", "hard_negative"]
)
def test_a_loss_with_context_or_state_is_mined_too(loss):
  """Pairs that were not chosen might as well not be there."""
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  batch = (x, labels, np.ones(N, bool), None, None)
  P, N_, _ = (
    np.asarray(w) for w in program("pair_margin", (), "l2", None)(*batch)
  )
  mined = ml.make_objective(loss, "l2", "none", miner="pair_margin")
  state = mined.init_state()
  value, _ = quick_jit(mined.__call__)({}, x, labels, state=state)
  still = loss_oracles.Batch("l2", x, labels, x, labels, itself=True)
  still.P, still.N = P, N_
  still.state = jax.tree.map(np.asarray, state)
  hyper = {k: v for k, v in mined.hyper.items() if k != "num_bins"}
  if loss == "hard_negative":
    hyper["upper_bound"] = None
  still.constant = still, hyper
  terms = [term[1:] for term in loss_oracles.ORACLES[loss](still, **hyper)]
  expected = loss_oracles.reduced("mean", terms, N)
  np.testing.assert_allclose(value, expected, rtol=1e-9)


@pytest.mark.slow
def test_a_miner_that_needs_context_keeps_to_references():
  """Anchors meet a gallery: nothing of the batch is chosen."""
  x, labels = points("random"), np.array(LABELS["balanced"])
  others, other_labels = x[:7] + 0.1, labels[:7]
  values = values_of(
    [
      ml.make_objective("triplet", "l2", miner=miner)
      for miner in ("hdc", "angular", "packaged", "distance_weighted")
    ],
    x,
    labels,
    references=others,
    reference_labels=other_labels,
    key=jax.random.key(0),
  )
  assert np.isfinite(values).all()


@pytest.mark.slow
def test_semihard_loss_and_miner_differ_at_the_margin():
  """g = margin belongs to the miner, with value 0, and not to the loss."""
  x = np.array([[0.0], [1.0], [1.5], [1.25]])  # anchor 0: g = .5 and .25
  labels = np.array([0, 0, 1, 2])
  miner = ("triplet_margin", {"triplets": "semihard", "margin": 0.5})
  objectives = [
    ml.make_objective(loss, "l1", "none", reduction, mined, margin=0.5)
    for loss, mined in (("triplet_semihard", "all"), ("triplet", miner))
    for reduction in ("sum", "mean_active", "mean")
  ]
  expected = [0.25, 0.25, 0.25, 0.25, 0.25, 0.125]
  assert values_of(objectives, x, labels) == expected


# --- miners that draw --------------------------------------------------------

DRAWS = 4000


def sphere(dim, seed=0):
  x = np.random.default_rng(seed).normal(size=(N, dim))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def many(miner, options, x, labels):
  """What many keys choose: positives, negatives, triplets, each [k, …]."""
  keys = jax.random.split(jax.random.key(0), DRAWS)
  run = functools.partial(choose, miner, options, "l2", None)
  each = lambda key: run(x, labels, np.ones(N, bool), None, key)[1:]
  return quick_jit(lambda keys: jax.lax.map(each, keys, batch_size=100))(keys)


@pytest.mark.slow
def test_distance_weighted_draws_by_the_density():
  x, labels = sphere(4), np.array(LABELS["unbalanced"])
  cutoff, upper, dim = 0.6, 1.5, 4
  options = {"cutoff": cutoff, "upper": upper}
  _, T = (
    np.asarray(drawn) for drawn in many("distance_weighted", options, x, labels)
  )
  D = loss_oracles.distances("l2", x, x)
  P, N_ = weights_of(labels, np.ones(N, bool), None)
  for i in range(N):
    allowed = (N_[i] > 0) & (D[i] < upper)
    d = np.maximum(D[i], cutoff)
    log_w = (2 - dim) * np.log(d) - (dim - 3) / 2 * np.log(1 - d**2 / 4)
    share = np.where(allowed, np.exp(log_w), 0)
    for p in range(N):
      if not (P[i, p] and allowed.any()):
        assert not T[:, i, p].any()
        continue
      share = share / share.sum()
      assert (T[:, i, p].sum(1) == 1).all()  # one negative for each draw
      frequency = T[:, i, p].mean(0)
      assert (frequency[~allowed] == 0).all()
      wide = 5 * np.sqrt(share * (1 - share) / DRAWS)
      assert (np.abs(frequency - share) <= wide + 1e-12).all()


@pytest.mark.slow
def test_distance_weighted_does_not_underflow():
  """In 512 dimensions log w spans hundreds; far negatives are drawn too."""
  x, labels = sphere(512), np.array(LABELS["balanced"])
  x[1] = x[0] + 0.5 * x[1]  # near to the first only
  x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
  with jax.enable_x64(False):
    objective = ml.make_objective(
      "triplet",
      "l2",
      reduction="none",
      miner=("distance_weighted", {"upper": 1.7}),
      margin=2.0,
    )
    (value,) = values_of([objective], x, labels, key=jax.random.key(0))
  assert (np.asarray(value) > 0).all()


@pytest.mark.slow
def test_uniform_histogram_draws_as_many_from_each_bin():
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  options = {"num_bins": 5, "positives_per_bin": 3, "negatives_per_bin": 4}
  keys = jax.random.split(jax.random.key(0), 1000)
  run = functools.partial(choose, "uniform_histogram", options, "l2", None)
  each = lambda key: run(x, labels, np.ones(N, bool), None, key)[:2]
  drawn = quick_jit(lambda keys: jax.lax.map(each, keys, batch_size=100))(keys)
  D = loss_oracles.distances("l2", x, x)
  sides = weights_of(labels, np.ones(N, bool), None)
  for times, exists, number in zip(drawn, sides, (3, 4), strict=True):
    times, exists = np.asarray(times), exists > 0
    low, high = D[exists].min(), D[exists].max()
    bins = np.clip(np.floor((D - low) / (high - low) * 5), 0, 4)
    assert (times[:, ~exists] == 0).all()
    for b in range(5):
      inside = exists & (bins == b)
      size = inside.sum()
      assert (times[:, inside].sum(1) == (number if size else 0)).all()
      if size:
        share, n = 1 / size, 1000 * number
        wide = 5 * np.sqrt(share * (1 - share) / n) * number
        assert (np.abs(times[:, inside].mean(0) - number * share) <= wide).all()


@pytest.mark.slow
@pytest.mark.parametrize("miner", RANDOM)
def test_a_key_fixes_the_draw(miner):
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  run = lambda seed, block_size=None: program(miner, (), "l2", block_size)(
    x, labels, np.ones(N, bool), None, jax.random.key(seed)
  )[2]
  np.testing.assert_array_equal(run(0), run(0))
  np.testing.assert_array_equal(run(0), run(0, 4))
  assert (np.asarray(run(0)) != np.asarray(run(1))).any()


@pytest.mark.parametrize("miner", RANDOM)
@pytest.mark.parametrize("kind", ["one class", "all distinct", "singletons"])
def test_draws_where_there_is_little(miner, kind):
  x, labels = points("grid"), np.array(LABELS[kind])
  where = np.arange(N) < 8
  P, N_, T = program(miner, (), "l2", None)(
    x, labels, where, None, jax.random.key(0)
  )
  legal = weights_of(labels, where, None)
  assert (np.asarray(P)[legal[0] == 0] == 0).all()
  assert (np.asarray(N_)[legal[1] == 0] == 0).all()
  assert (np.asarray(T)[product(*legal)[2] == 0] == 0).all()
  if kind != "singletons":
    assert not np.asarray(T).any()


@pytest.mark.parametrize("miner", RANDOM)
def test_a_draw_needs_a_key(miner):
  objective = ml.make_objective("triplet", "l2", miner=miner)
  with pytest.raises(ml.InputError, match="key="):
    values_of([objective], points("random"), np.array(LABELS["balanced"]))


# --- errors, memory ----------------------------------------------------------


@pytest.mark.parametrize(
  ("miner", "message"),
  [
    ("hard", "unknown miner 'hard'"),
    (("hdc", {"fractions": 0.5}), "option of hdc 'fractions'.*'fraction'"),
    (("hdc", {"fraction": 0.0}), "hdc: fraction.*0"),
    (("hdc", {"fraction": 1.5}), "hdc: fraction.*1.5"),
    (("uniform_histogram", {"num_bins": 0}), "num_bins.*0"),
    (("uniform_histogram", {"negatives_per_bin": 0.5}), "negatives_per_bin"),
    (("triplet_margin", {"triplets": "semi"}), "triplets.*'semi'"),
    (("easy_hard", {"positive": "harder"}), "positive.*'harder'"),
    (("easy_hard", {"positive": "semihard"}), "nothing to compare with"),
    (("easy_hard", {"positive": "all"}), "nothing to compare with"),
  ],
)
def test_a_wrong_miner(miner, message):
  with pytest.raises(ml.InputError, match=message):
    ml.make_objective("triplet", miner=miner)


def test_a_miner_of_one_metric():
  with pytest.raises(ml.InputError, match=r"angular reads l2 distances.*'l1'"):
    ml.make_objective("triplet", "l1", miner="angular")


@pytest.mark.parametrize("metric", ml.METRICS)
@pytest.mark.parametrize("normalize", ml.NORMALIZATIONS)
def test_distance_weighted_is_of_l2_on_the_sphere(metric, normalize):
  named = ("lp", {"p": 2}) if metric == "lp" else metric
  make = lambda: ml.make_objective(
    "contrastive_linear", named, normalize, miner="distance_weighted"
  )
  if (metric, normalize) == ("l2", "l2"):
    make()
  elif metric != "dot":  # which the loss refuses
    mend = "unit sphere.*give metric='l2' and normalize='l2'"
    with pytest.raises(ml.InputError, match=f"{mend}; got metric='{metric}'"):
      make()


@pytest.mark.parametrize(
  ("loss", "miner"),
  [
    ("triplet", "triplet_margin"),
    ("triplet", "distance_weighted"),
    ("triplet", "angular"),
    ("contrastive_linear", "angular"),
  ],
)
def test_chosen_triplets_are_never_an_array(loss, miner):
  n = 256
  objective = ml.make_objective(loss, "l2", miner=miner, block_size=None)
  key = jax.random.key(0)
  value = lambda x, labels: objective({}, x, labels, key=key)[0]
  lowered = quick_jit(jax.value_and_grad(value)).lower(
    jax.ShapeDtypeStruct((n, 16), jnp.float32),
    jax.ShapeDtypeStruct((n,), jnp.int32),
  )
  used = lowered.compile().memory_analysis().temp_size_in_bytes
  assert used < 32 * 4 * n**2  # n³ numbers would be 256 matrices
