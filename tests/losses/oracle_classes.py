"""Oracles of losses with class tables or two views; see `loss_oracles`."""

import numpy as np
from oracle_batches import hinge, normalized
from oracle_softmax import infonce
from scipy.special import logsumexp

# --- classification ----------------------------------------------------------


def classified(logits_of):
  """Cross-entropy of the logits of each item, one per class, with a target."""

  def terms(batch, label_smoothing=0.0, **hyper):
    for i, c in enumerate(batch.labels):
      logits = np.asarray(logits_of(batch, i, c, **hyper))
      yield "items", i, 1, smoothed(logits, c, label_smoothing)

  return terms


def smoothed(logits, own, smoothing):
  """-Σ q_c log p_c, with the target q = (1 - ε)·1[c = own] + ε/C."""
  target = np.full(len(logits), smoothing / len(logits))
  target[own] += 1 - smoothing
  return -target @ (logits - logsumexp(logits))


def cosines(x, table):
  lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(x)
  return np.array([x @ w for w in table]) / lengths


@classified
def cross_entropy(batch, i, own):
  learned = batch.learned
  return [
    w @ batch.x[i] + b
    for w, b in zip(learned["weights"], learned["biases"], strict=True)
  ]


@classified
def norm_softmax(batch, i, own, temperature):
  table = normalized(batch.normalize, batch.learned["weights"])
  return -batch.distances(batch.x[i : i + 1], table)[0] / temperature


def proxy_distances(batch, i):
  table = normalized(batch.normalize, batch.learned["weights"])
  return batch.distances(batch.x[i : i + 1], table)[0]


@classified
def proxy_nca_with_own(batch, i, own, scale):
  return -scale * proxy_distances(batch, i)


def proxy_nca(batch, scale, include_positive=False):
  if include_positive:
    yield from proxy_nca_with_own(batch, scale=scale)
    return
  for i, c in enumerate(batch.labels):
    D = scale * proxy_distances(batch, i)
    others = np.delete(D, c)
    if len(others):
      yield "items", i, 1, D[c] + logsumexp(-others)


@classified
def proxy_nca_pp(batch, i, own, temperature):
  return -proxy_distances(batch, i) / temperature


def proxy_anchor(batch, alpha, margin):
  """The anchors are the classes."""
  table = batch.learned["weights"]
  for c in range(len(table)):
    s = np.array([cosines(x, table)[c] for x in batch.x])
    own = batch.labels == c
    if own.any():
      pulled = np.log1p(np.sum(np.exp(-alpha * (s[own] - margin))))
      yield "positive", c, 1, pulled
    pushed = np.log1p(np.sum(np.exp(alpha * (s[~own] + margin))))
    yield "negative", c, 1, pushed


def soft_triple(
  batch,
  scale,
  gamma,
  margin,
  regularization=0.0,
  num_centers=10,
  label_smoothing=0.0,
):
  centers = batch.learned["weights"]
  assert centers.shape[1] == num_centers
  spread, pairs = 0.0, 0
  for table in centers:
    for k in range(num_centers):
      cos = cosines(table[k], table)
      for other in range(k):
        spread += np.sqrt(max(0.0, 2 - 2 * cos[other]))
        pairs += 1
  for i, c in enumerate(batch.labels):
    S = []
    for table in centers:
      s = cosines(batch.x[i], table)
      share = np.exp(s / gamma) / np.sum(np.exp(s / gamma))
      S.append(share @ s)
    S[c] -= margin
    logits = scale * np.array(S)
    yield "items", i, 1, smoothed(logits, c, label_smoothing)
    value = regularization * spread / (2 * pairs) if pairs else 0.0
    yield "regularization", i, 1, value


def center(batch, weight, rate):
  centers = normalized(batch.normalize, batch.state["centers"])
  for i, x in enumerate(batch.x):
    away = x - centers[batch.labels[i]]
    yield "items", i, 1, weight / 2 * away @ away


def manifold(batch, alpha, margin, context_weight, num_proxies=50):
  """Items and proxies as a graph; the proxy of an item is its label mod K."""
  nodes = np.concatenate([batch.x, batch.learned["weights"]])
  n = len(batch.x)
  S = np.array([np.exp(np.maximum(cosines(x, nodes), 0) / 0.5) for x in nodes])
  np.fill_diagonal(S, 0)
  root = np.diag(S.sum(axis=1) ** -0.5)
  F = (1 - alpha) * np.linalg.inv(np.eye(len(nodes)) - alpha * root @ S @ root)
  for i, c in enumerate(batch.labels):
    own = c % len(batch.learned["weights"])
    for part, weight, s in (
      ("intrinsic", 1, F[i, n:]),
      ("context", context_weight, cosines(F[i], F[n:])),
    ):
      violations = np.delete(s - s[own] + margin, own)
      kept = violations[violations >= 0]
      yield part, i, 1, weight * np.log1p(np.sum(np.exp(kept)))


def psi(angle, margin):
  """(−1)^k cos(mθ) − 2k for θ in [kπ/m, (k+1)π/m]."""
  for k in range(margin):
    if k * np.pi / margin <= angle <= (k + 1) * np.pi / margin:
      return (-1) ** k * np.cos(margin * angle) - 2 * k
  raise ValueError(angle)


@classified
def sphereface(batch, i, own, margin, scale=1.0, annealing=0.0):
  cos = cosines(batch.x[i], batch.learned["weights"])
  pulled = psi(np.arccos(cos[own]), margin)
  cos[own] = (annealing * cos[own] + pulled) / (1 + annealing)
  return scale * np.linalg.norm(batch.x[i]) * cos


@classified
def l_softmax(batch, i, own, margin, scale=1.0, annealing=0.0):
  table, x = batch.learned["weights"], batch.x[i]
  logits = np.array([w @ x for w in table])
  lengths = np.linalg.norm(table[own]) * np.linalg.norm(x)
  pulled = psi(np.arccos(logits[own] / lengths), margin)
  logits[own] = (annealing * logits[own] + lengths * pulled) / (1 + annealing)
  return scale * logits


@classified
def cosface(batch, i, own, margin, scale):
  cos = cosines(batch.x[i], batch.learned["weights"])
  cos[own] -= margin
  return scale * cos


@classified
def arcface(batch, i, own, margin, scale):
  return arcface_logits(
    cosines(batch.x[i], batch.learned["weights"]), own, margin, scale
  )


@classified
def arcface_subcenter(batch, i, own, margin, scale, num_centers=3):
  tables = batch.learned["weights"]
  assert tables.shape[1] == num_centers
  cos = np.array([np.max(cosines(batch.x[i], table)) for table in tables])
  return arcface_logits(cos, own, margin, scale)


def arcface_logits(cos, own, margin, scale):
  angle = np.arccos(cos[own])
  if angle <= np.pi - margin:
    cos[own] = np.cos(angle + margin)
  else:
    cos[own] = cos[own] - margin * np.sin(margin)
  return scale * cos


def p2sgrad(batch):
  for i, own in enumerate(batch.labels):
    for c, cos in enumerate(cosines(batch.x[i], batch.learned["weights"])):
      yield "squares", i, 1, (cos - (c == own)) ** 2


# --- two views ---------------------------------------------------------------


def instance(batch, gamma):
  return infonce(batch, temperature=1 / gamma)


def paired(batch):
  """Anchors: the first and second views of the items that are in both."""
  pairs = []
  for c in np.unique(batch.labels):
    anchors = np.flatnonzero(batch.labels == c)
    others = np.flatnonzero(batch.candidate_labels == c)
    others = others[1:] if batch.itself else others
    if len(others):
      pairs.append((anchors[0], others[0]))
  index = np.array(pairs, int).reshape(-1, 2)
  return index[:, 0], batch.x[index[:, 0]], batch.candidates[index[:, 1]]


def vicreg(batch, invariance, variance, covariance):
  anchors, first, second = paired(batch)
  if len(anchors) < 2:
    return
  v, c = [], []
  for z in (first, second):
    cov = np.cov(z.T, ddof=1)
    std = np.sqrt(np.diag(cov) + 1e-4)
    v.append(np.mean([hinge(1 - s) for s in std]))
    d = len(cov)
    c.append(
      sum(cov[j, k] ** 2 for j in range(d) for k in range(d) if j != k) / d
    )
  for i, a, b in zip(anchors, first, second, strict=True):
    yield "invariance", i, 1, invariance * np.mean((a - b) ** 2)
    yield "variance", i, 1, variance * (v[0] + v[1]) / 2
    yield "covariance", i, 1, covariance * (c[0] + c[1])


def barlow(batch, off_diagonal):
  anchors, first, second = paired(batch)
  if len(anchors) < 2:
    return
  first, second = (
    (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-6) for z in (first, second)
  )
  value = 0.0
  for j, a in enumerate(first.T):
    for k, b in enumerate(second.T):
      correlation = np.mean(a * b)
      if j == k:
        value += (1 - correlation) ** 2
      else:
        value += off_diagonal * correlation**2
  for i in anchors:
    yield "views", i, 1, value
