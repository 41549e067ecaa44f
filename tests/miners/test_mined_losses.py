"""The effect of a miner on a loss, and the losses that refuse one."""

import jax
import jax.numpy as jnp
import loss_oracles
import numpy as np
import oracle_batches
import pytest

import metric_learning as ml
from metric_learning.miners import MINERS
from tests.miners.miner_cases import (
  LABELS,
  ORACLES,
  N,
  points,
  program,
  values_of,
  weights_of,
)
from tests.quick import quick_jit

# Both compile the miners that draw.
pytestmark = pytest.mark.xdist_group("miners")

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
  x = oracle_batches.normalized(normalize, x)
  D = oracle_batches.distances("l2", x, x)
  if loss.startswith("triplet"):
    total = 0.0
    for i, p, n in np.argwhere(T):
      near = min(D[i, n], D[p, n]) if loss == "triplet_swap" else D[i, n]
      total += T[i, p, n] * max(0, D[i, p] - near + HYPER[loss]["margin"])
    return total / T.sum() if T.any() else 0.0
  batch = oracle_batches.Batch(
    "l2", x, np.zeros(N), x, np.zeros(N), itself=True
  )
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
  """Pair losses get counts, triplet losses get triplets; both as constants."""
  turn = blocked + [name for name, _ in MINED].index(miner)
  loss, block_size = list(HYPER)[turn % len(HYPER)], 4 if blocked else N
  normalize, key = MINERS[miner].normalize or "none", jax.random.key(5)
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  seen = oracle_batches.normalized(normalize, x)
  everyone = np.ones(N, bool)
  if miner in ORACLES:
    D = oracle_batches.distances("l2", seen, seen)
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
  """Pairs that were not chosen have no effect."""
  x, labels = points("random"), np.array(LABELS["unbalanced"])
  batch = (x, labels, np.ones(N, bool), None, None)
  P, N_, _ = (
    np.asarray(w) for w in program("pair_margin", (), "l2", None)(*batch)
  )
  mined = ml.make_objective(loss, "l2", "none", miner="pair_margin")
  state = mined.init_state()
  value, _ = quick_jit(mined.__call__)({}, x, labels, state=state)
  still = oracle_batches.Batch("l2", x, labels, x, labels, itself=True)
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
  """Anchors are compared with a gallery: nothing of the batch is chosen."""
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
  """The miner includes g = margin, with value 0; the loss does not."""
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
  with pytest.raises(ml.InputError, match=r"angular needs l2 distances.*'l1'"):
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
