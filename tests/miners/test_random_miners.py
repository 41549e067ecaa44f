"""Random miners: their distributions, and their keys."""

import functools

import jax
import numpy as np
import oracle_batches
import pytest

import metric_learning as ml
from tests.miners.miner_cases import (
  LABELS,
  RANDOM,
  N,
  choose,
  points,
  product,
  program,
  values_of,
  weights_of,
)
from tests.quick import quick_jit

# Both compile the miners that draw.
pytestmark = pytest.mark.xdist_group("miners")

DRAWS = 4000


def sphere(dim, seed=0):
  x = np.random.default_rng(seed).normal(size=(N, dim))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def many(miner, options, x, labels):
  """The choices for many keys: positives, negatives, triplets, each [k, …]."""
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
  D = oracle_batches.distances("l2", x, x)
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
  D = oracle_batches.distances("l2", x, x)
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
