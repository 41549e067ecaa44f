"""Points with many ties, and calls of miners on them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

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


def points(kind):
  """Random points, or points on a grid with many ties and duplicates."""
  generator = np.random.default_rng(4)
  if kind == "grid":
    return generator.integers(0, 4, size=(N, 2)) / 4.0
  return 0.5 * generator.normal(size=(N, 2))


def values_of(objectives, x, labels, **more):
  """The values of several objectives, which share one program."""
  run = quick_jit(
    lambda x, labels, more: [
      objective({}, x, labels, **more)[0] for objective in objectives
    ]
  )
  return run(x, labels, more)


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
  """All triplets (i, p, n) that `keep` selects, and the pairs they contain."""
  T = np.zeros((N, N, N))
  for i, p, n in itertools.product(range(N), repeat=3):
    if P[i, p] * N_[i, n] and keep(i, p, n):
      T[i, p, n] = P[i, p] * N_[i, n]
  return T.sum(2), T.sum(1), T


def all_pairs(x, D, P, N_):
  return product(P, N_)


def least(values, indices):
  """The index of the smallest value; of ties, the first; None if empty."""
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
