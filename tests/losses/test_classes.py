"""Class tables: logits, and miners for classes with several centers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle_batches import normalized
from oracle_classes import cosines

import metric_learning as ml
from metric_learning.inputs import points_of
from metric_learning.miners import MINERS
from metric_learning.rows import Row
from metric_learning.signatures import call_with
from tests.quick import quick_jit

N, DIM, CLASSES, CENTERS = 8, 3, 4, 3
RNG = np.random.default_rng(2)
X = RNG.normal(size=(N, DIM))
LABELS = np.array([0, 1, 2, 3, 0, 1, 0, 0])
SEVERAL = {"arcface_subcenter": {}, "soft_triple": {"gamma": 0.2}}


def table(loss, **options):
  """An objective, and parameters that are not initial values."""
  objective = ml.make_objective(loss, **options)
  params = objective.init(
    jax.random.key(0), num_classes=CLASSES, embedding_dim=DIM
  )
  generator = np.random.default_rng(7)
  move = lambda leaf: leaf + 0.3 * generator.normal(size=leaf.shape)
  return objective, jax.tree.map(move, params)


def class_cosines(loss, weights):
  """One cosine for each item and class, from all its centers; by definition."""
  if weights.ndim == 2:
    return np.array([cosines(x, weights) for x in X])
  found = np.zeros((N, CLASSES))
  for i, x in enumerate(X):
    for c, centers in enumerate(weights):
      s = cosines(x, centers)
      if loss == "arcface_subcenter":
        found[i, c] = s.max()
      else:
        share = np.exp(s / SEVERAL[loss]["gamma"])
        found[i, c] = share @ s / share.sum()
  return found


# --- logits ------------------------------------------------------------------


def expected_logits(loss, learned):
  """Logits without margins, by the formula of each loss."""
  weights = np.asarray(learned["weights"], np.float64)
  unit = normalized("l2", X)
  if loss == "cross_entropy":
    return X @ weights.T + np.asarray(learned["biases"])
  if loss == "sphereface":
    return 2 * X @ normalized("l2", weights).T
  if loss == "l_softmax":
    return 2 * X @ weights.T
  if loss in ("proxy_nca", "proxy_nca_pp"):
    near = normalized("l2", weights)
    squares = ((unit[:, None] - near[None]) ** 2).sum(2)
    return -squares * (2 if loss == "proxy_nca" else 1 / 0.5)
  cos = class_cosines(loss, weights)
  if loss == "norm_softmax":
    return (cos - 1) / 0.5
  return cos if loss == "p2sgrad" else 2 * cos


OPTIONS = {
  "cross_entropy": {},
  "p2sgrad": {},
  "norm_softmax": {"temperature": 0.5},
  "proxy_nca_pp": {"temperature": 0.5},
  "soft_triple": {"scale": 2.0, **SEVERAL["soft_triple"]},
  **{
    name: {"scale": 2.0}
    for name in (
      "sphereface",
      "l_softmax",
      "cosface",
      "arcface",
      "arcface_subcenter",
      "proxy_nca",
    )
  },
}


def test_every_loss_with_logits_is_tried():
  assert {n for n, e in ml.LOSSES.items() if e.logits} == set(OPTIONS)


@pytest.mark.parametrize("loss", OPTIONS)
def test_logits_are_those_of_the_formula(loss, x64):
  objective, params = table(loss, **OPTIONS[loss])
  got = quick_jit(objective.logits)(params, X)
  np.testing.assert_allclose(
    got, expected_logits(loss, params["loss"]), rtol=1e-9, atol=1e-12
  )


@pytest.mark.slow
def test_logits_of_a_sum_and_of_a_regularized_objective():
  objective, params = table("cosface")
  both = ml.combine([(1.0, objective), (0.5, ml.make_objective("triplet"))])
  short = ml.regularize(objective, "lp")
  x = jnp.float32(X)
  expected, of_short, of_both = quick_jit(
    lambda: (
      objective.logits(params, x),
      short.logits(params, x),
      both.logits({"0": params}, x),
    )
  )()
  np.testing.assert_array_equal(of_short, expected)
  np.testing.assert_array_equal(of_both, expected)


@pytest.mark.parametrize("loss", ["triplet", "proxy_anchor", "center"])
def test_a_loss_without_logits_says_which_have_them(loss):
  with pytest.raises(ml.InputError, match=f"{loss} has no logits.*cosface"):
    ml.make_objective(loss).logits({}, jnp.ones((2, DIM)))


# --- several centers of a class, mined ---------------------------------------


def expected_values(loss, D, P, N_):
  """The value of each item with these classes, by loops; 0 without a term."""
  values = np.zeros(N)
  for i in range(N):
    for own in np.flatnonzero(P[i]):
      cos = 1 - D[i]
      if loss == "arcface_subcenter":
        cos[own] = np.cos(np.arccos(cos[own]) + 0.5)
        logits = 64 * cos
      else:
        cos[own] -= 0.01
        logits = 20 * cos
      weights = P[i] + N_[i]
      total = np.sum(weights * np.exp(logits - logits.max()))
      values[i] = np.log(total) + logits.max() - logits[own]
  return values


# Of those that read the distances of a class table.
MINED = [name for name, entry in MINERS.items() if not entry.metrics]


@quick_jit
def chosen(D, x, labels, key):
  """The choice of each miner in rows of classes, without their centers."""
  same = labels[:, None] == jnp.arange(CLASSES)[None]
  rows = Row(D, same * 1.0, ~same * 1.0, jnp.ones(N), labels)
  items, kept = points_of(x, labels), {}
  over = lambda f, *own: jax.vmap(f)(rows, *own)
  for name in MINED:
    entry = MINERS[name]
    if entry.context is None:
      found = over(entry.mine)
    else:
      context = call_with({}, entry.context, over, None, items, items, key)
      mine = lambda row, own, entry=entry, context=context: entry.mine(
        row, context._replace(own=own)
      )
      found = over(mine, context.own)
    kept[name] = found.positives, found.negatives
  return kept


@pytest.mark.slow
@pytest.mark.parametrize("loss", SEVERAL)
def test_a_miner_meets_classes_and_not_their_centers(loss, x64):
  """Every miner chooses as in a row of classes without centers.

  All miners are tested with one loss, and some with the other loss.
  """
  assert set(MINERS) - set(MINED) == {"angular", "distance_weighted"}
  options = {"num_centers": CENTERS, **SEVERAL[loss]}
  _, params = table(loss, **options)
  x, labels, key = jnp.asarray(X), jnp.asarray(LABELS), jax.random.key(3)
  some = ("all", "batch_hard", "triplet_margin", "uniform_histogram")
  mined = MINED if loss == "arcface_subcenter" else some

  @quick_jit
  def values():
    return {
      name: ml.make_objective(loss, miner=name, reduction="none", **options)(
        params, x, labels, key=key
      )[0]
      for name in mined
    }

  D = 1 - class_cosines(loss, np.asarray(params["loss"]["weights"]))
  kept = chosen(D, x, labels, key)
  for name, value in values().items():
    expected = expected_values(loss, D, *map(np.asarray, kept[name]))
    np.testing.assert_allclose(value, expected, rtol=1e-8, err_msg=name)
    if name in ("all", "batch_hard", "uniform_histogram"):
      assert np.all(expected > 0), name  # Every item keeps a term.
