"""Oracles of ranking losses; see `loss_oracles`."""

import numpy as np
from scipy.special import expit

# --- ranking -----------------------------------------------------------------


def triangles(values, weights, num_bins, value_range):
  """Weight at each edge of the bins: a triangle around each edge."""
  edges = np.linspace(*value_range, num_bins + 1)
  width = edges[1] - edges[0]
  total = np.zeros(num_bins + 1)
  for value, weight in zip(np.clip(values, *value_range), weights, strict=True):
    for r, edge in enumerate(edges):
      total[r] += weight * max(0.0, 1 - abs(value - edge) / width)
  return total


def histogram(batch, value_range, num_bins=100):
  if not (batch.P.any() and batch.N.any()):
    return
  positive, negative = (
    triangles(batch.D[W > 0], W[W > 0], num_bins, value_range) / W.sum()
    for W in (batch.P, batch.N)
  )
  value = 0.0
  for r in range(num_bins + 1):
    for q in range(r, num_bins + 1):
      value += negative[r] * positive[q]
  for i in range(len(batch.D)):
    yield "batch", i, 1 / len(batch.D), value


def fastap(batch, value_range, num_bins=10):
  for i, D, positives, _ in batch.rows():
    if len(positives):
      same, rest = (
        triangles(D[W > 0], W[W > 0], num_bins, value_range)
        for W in (batch.P[i], batch.N[i])
      )
      value = 0.0
      for b in range(num_bins + 1):
        if same[b]:
          hits = same[: b + 1].sum()
          value += same[b] * hits / (hits + rest[: b + 1].sum())
      yield "anchors", i, 1, 1 - value / batch.P[i].sum()


def positives_met(batch, i, D, positives, include_self):
  """Distances and weights of the positives, and of the anchor itself."""
  met = [(D[p], batch.P[i, p]) for p in positives]
  return [*met, (0.0, 1.0)] if met and include_self else met


def smooth_ap(batch, temperature, include_self=False):
  for i, D, positives, negatives in batch.rows():
    met = positives_met(batch, i, D, positives, include_self)
    precisions = []
    for at, (own, _) in enumerate(met):
      hits = 1 + sum(
        weight * expit((own - other) / temperature)
        for before, (other, weight) in enumerate(met)
        if before != at
      )
      misses = sum(
        batch.N[i, n] * expit((own - D[n]) / temperature) for n in negatives
      )
      precisions.append(hits / (hits + misses))
    if met:
      mean = np.average(precisions, weights=[weight for _, weight in met])
      yield "anchors", i, 1, 1 - mean


PENALTIES = {
  "O": lambda R, alpha, b: R,
  "Ds": lambda R, alpha, b: np.log(1 + R),
  "Dq": lambda R, alpha, b: 1 - (1 + R) ** -alpha,
  "Iu": lambda R, alpha, b: (1 + R) * np.log(1 + R),
  "Ib": lambda R, alpha, b: (b * R - np.log(1 + b * R)) / b**2,
}


def pnp(batch, temperature, alpha, b, variant="O", include_self=False):
  for i, D, positives, negatives in batch.rows():
    met = positives_met(batch, i, D, positives, include_self)
    if met:
      values = []
      for own, _ in met:
        R = sum(
          batch.N[i, n] * expit((own - D[n]) / temperature) for n in negatives
        )
        values.append(PENALTIES[variant](R, alpha, b))
      weights = [weight for _, weight in met]
      yield "anchors", i, 1, np.average(values, weights=weights)
