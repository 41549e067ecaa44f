"""Oracles of structured and listwise losses; see `loss_oracles`."""

import numpy as np
from oracle_batches import hinge, softplus
from scipy.special import logsumexp

# --- structured and listwise -------------------------------------------------


def lifted_terms(batch, margin, positive_margin, join):
  """J_ij: the negatives of j are candidates; with an affinity, anchors."""
  theirs = batch
  if not batch.itself:
    by_class = batch.affinity is None
    theirs = batch.of_candidates() if by_class else batch.mirrored()
  for i, D, positives, _ in batch.rows():
    for j in positives:
      repelled = [
        (rows.N[a, k], margin - rows.D[a, k])
        for rows, a in ((batch, i), (theirs, j))
        for k in np.flatnonzero(rows.N[a])
      ]
      if repelled:
        J = D[j] - positive_margin + join(*np.transpose(repelled))
        yield "pairs", i, batch.P[i, j], 0.5 * hinge(J) ** 2


def lifted_hard(batch, margin, positive_margin=0.0):
  return lifted_terms(
    batch, margin, positive_margin, lambda weights, values: np.max(values)
  )


def lifted(batch, margin, positive_margin=0.0):
  return lifted_terms(
    batch,
    margin,
    positive_margin,
    lambda weights, values: logsumexp(values, b=weights),
  )


def lifted_generalized(batch, positive_margin, negative_margin):
  for i, D, positives, negatives in batch.rows():
    if len(positives) and len(negatives):
      pull = [batch.P[i, p] * np.exp(D[p] - positive_margin) for p in positives]
      push = [batch.N[i, n] * np.exp(negative_margin - D[n]) for n in negatives]
      yield "anchors", i, 1, hinge(np.log(sum(pull)) + np.log(sum(push)))


def tuplet_margin(batch, margin, scale):
  for i, D, positives, negatives in batch.rows():
    for p in positives:
      angle = np.arccos(np.clip(1 - D[p], -1, 1))
      total = sum(
        batch.N[i, n] * np.exp(scale * (1 - D[n] - np.cos(angle - margin)))
        for n in negatives
      )
      yield "pairs", i, batch.P[i, p], np.log1p(total)


def npair(batch, regularization):
  """One pair per class: its first two items, or the first of each side."""
  pairs, alone = [], []
  for c in np.unique(batch.candidate_labels):
    anchors = np.flatnonzero(batch.labels == c)
    positives = np.flatnonzero(batch.candidate_labels == c)
    positives = positives[1:] if batch.itself else positives
    if len(anchors) and len(positives):
      pairs.append((anchors[0], positives[0]))
    elif len(positives):  # a class of the references alone: a negative
      alone.append(positives[0])
  s = -batch.D
  others = [j for _, j in pairs] + alone
  for i, own in pairs:
    total = sum(np.exp(s[i, j] - s[i, own]) for j in others if j != own)
    yield "pairs", i, 1, np.log1p(total)
    norms = np.sum(batch.x[i] ** 2) + np.sum(batch.candidates[own] ** 2)
    yield "regularization", i, 1, regularization * 0.5 * norms


def nca(batch, scale, expected=False):
  for i, D, positives, negatives in batch.rows():
    weights = batch.P[i] + batch.N[i]
    if len(positives):
      everyone = np.union1d(positives, negatives)
      log_all = logsumexp(-scale * D[everyone], b=weights[everyone])
      log_same = logsumexp(-scale * D[positives], b=batch.P[i, positives])
      if expected:
        yield "anchors", i, 1, -np.exp(log_same - log_all)
      else:
        yield "anchors", i, 1, log_all - log_same


def soft_nn(batch, temperature):
  for i, D, positives, negatives in batch.rows():
    if len(positives):
      same = sum(batch.P[i, p] * np.exp(-D[p] / temperature) for p in positives)
      rest = sum(batch.N[i, n] * np.exp(-D[n] / temperature) for n in negatives)
      yield "anchors", i, 1, -np.log(same / (same + rest))


def nce(batch, temperature, **_):
  """Data: positives; noise: negatives, q = 1/m, k = #N/#P."""
  log_partition = batch.learned["log_partition"]
  for i, D, positives, negatives in batch.rows():
    data, noise = batch.P[i].sum(), batch.N[i].sum()
    if data and noise:
      k, q = noise / data, 1 / (data + noise)
      logit = -D / temperature - log_partition - np.log(k * q)
      against = sum(batch.N[i, n] * softplus(logit[n]) for n in negatives)
      for p in positives:
        yield "pairs", i, batch.P[i, p], softplus(-logit[p]) + against / data


def one_positive(D, positives, others, temperature):
  """Cross-entropy of the only positive among the candidates."""
  (p,) = positives
  return logsumexp(-D[others] / temperature) + D[p] / temperature


def ranks(labels):
  """How many earlier items of the batch have the label of each item."""
  return np.array([np.sum(labels[:i] == c) for i, c in enumerate(labels)], int)


def infonce(batch, temperature, symmetric=False):
  """Anchors are in one view, and candidates only in the other view."""
  if batch.itself:
    first = np.flatnonzero(ranks(batch.labels) == 0)
    second = np.flatnonzero(ranks(batch.labels) == 1)
    x, y = batch.x[first], batch.x[second]
    x_labels, y_labels = batch.labels[first], batch.labels[second]
  else:
    first, second = np.arange(len(batch.x)), np.arange(len(batch.candidates))
    x, y = batch.x, batch.candidates
    x_labels, y_labels = batch.labels, batch.candidate_labels
  directions = [(first, x, x_labels, y, y_labels)]
  if symmetric:
    directions.append((second, y, y_labels, x, x_labels))
  for index, anchors, anchor_labels, others, other_labels in directions:
    D = batch.distances(anchors, others)
    for row, i in enumerate(index):
      positives = np.flatnonzero(other_labels == anchor_labels[row])
      if len(positives):
        everyone = np.arange(len(others))
        yield (
          "rows",
          i,
          1,
          one_positive(D[row], positives, everyone, temperature),
        )


def ntxent(batch, temperature):
  """Both views in one batch; each item against all other items."""
  batch = batch if batch.itself else batch.joined()
  for i, D, positives, negatives in batch.rows():
    if len(positives):
      everyone = np.union1d(positives, negatives)
      yield "rows", i, 1, one_positive(D, positives, everyone, temperature)


def infonce_per_pair(batch, temperature):
  for i, D, positives, negatives in batch.rows():
    for p in positives:
      value = 0.0
      if len(negatives):
        noise = logsumexp(-D[negatives] / temperature, b=batch.N[i, negatives])
        value = softplus(noise + D[p] / temperature)
      yield "pairs", i, batch.P[i, p], value


def infonce_all(batch, temperature):
  for i, D, positives, negatives in batch.rows():
    everyone = np.union1d(positives, negatives)
    weights = batch.P[i] + batch.N[i]
    for p in positives:
      whole = logsumexp(-D[everyone] / temperature, b=weights[everyone])
      yield "pairs", i, batch.P[i, p], whole + D[p] / temperature


def dcl(batch, temperature):
  for i, D, positives, negatives in batch.rows():
    for p in positives if len(negatives) else ():
      noise = logsumexp(-D[negatives] / temperature, b=batch.N[i, negatives])
      yield "pairs", i, batch.P[i, p], noise + D[p] / temperature


def hard_negative(
  batch, temperature, positive_prior, upper_bound, concentration
):
  """All terms relative to e^{s_p/τ}, so that nothing overflows."""
  if upper_bound is None and batch.metric == "cosine":
    upper_bound = 2.0
  for i, D, positives, negatives in batch.rows():
    for p in positives if len(negatives) else ():
      weights = batch.N[i, negatives] * np.exp(
        -concentration * (D[negatives] - min(D[negatives])) / temperature
      )
      share = np.exp((D[p] - D[negatives]) / temperature)
      mean = np.average(share, weights=weights)
      g = (mean - positive_prior) / (1 - positive_prior)
      floor = 0.0
      if upper_bound is not None:
        floor = np.exp((D[p] - upper_bound) / temperature)
      n = sum(batch.N[i, negatives])
      yield "pairs", i, batch.P[i, p], np.log1p(n * max(g, floor))


def debiased(batch, **hyper):
  return hard_negative(batch, concentration=0.0, **hyper)


def supcon(batch, temperature):
  for i, D, positives, negatives in batch.rows():
    if len(positives):
      weights = batch.P[i] + batch.N[i]
      everyone = np.union1d(positives, negatives)
      whole = logsumexp(-D[everyone] / temperature, b=weights[everyone])
      values = [whole + D[p] / temperature for p in positives]
      value = np.average(values, weights=batch.P[i, positives])
      yield "anchors", i, 1, value


# --- weighted sums over positives and negatives ------------------------------


def multi_similarity(batch, alpha, beta, base):
  for i, D, positives, negatives in batch.rows():
    s = 1 - D
    pull = sum(
      batch.P[i, p] * np.exp(-alpha * (s[p] - base)) for p in positives
    )
    push = sum(batch.N[i, n] * np.exp(beta * (s[n] - base)) for n in negatives)
    yield "anchors", i, 1, np.log1p(pull) / alpha + np.log1p(push) / beta


def circle(batch, margin, gamma):
  still, numbers = batch.constant
  for i, D, positives, negatives in batch.rows():
    if len(positives) and len(negatives):
      s, fixed, m = 1 - D, 1 - still.D[i], numbers["margin"]
      pull = [-hinge(1 + m - fixed[p]) * (s[p] - 1 + margin) for p in positives]
      push = [hinge(fixed[n] + m) * (s[n] - margin) for n in negatives]
      exponent = logsumexp(gamma * np.array(pull), b=batch.P[i, positives])
      exponent += logsumexp(gamma * np.array(push), b=batch.N[i, negatives])
      yield "anchors", i, 1, softplus(exponent)


def ranked_list(
  batch,
  margin,
  center,
  positive_temperature,
  negative_temperature,
  balance,
):
  still, numbers = batch.constant

  def edges(margin, center):
    outer = center + margin / 2
    return outer - margin, outer

  inner, outer = edges(margin, center)
  fixed_inner, fixed_outer = edges(numbers["margin"], numbers["center"])
  for i, D, positives, negatives in batch.rows():
    fixed = still.D[i]

    def mean(violated, weights, temperature):
      """The mean of (violation, the same as a constant, candidate)."""
      heaviest = max((c for _, c, _ in violated), default=0)
      total = count = 0.0
      for violation, constant, j in violated:
        weight = weights[j] * np.exp(temperature * (constant - heaviest))
        total, count = total + weight * violation, count + weight
      return total / count if count else 0.0

    pull = mean(
      [
        (D[p] - inner, fixed[p] - fixed_inner, p)
        for p in positives
        if D[p] > inner
      ],
      batch.P[i],
      numbers["positive_temperature"],
    )
    push = mean(
      [
        (outer - D[n], fixed_outer - fixed[n], n)
        for n in negatives
        if D[n] < outer
      ],
      batch.N[i],
      numbers["negative_temperature"],
    )
    yield "anchors", i, 1, (1 - balance) * pull + balance * push


def siglip(batch, **_):
  t, b = np.exp(batch.learned["log_scale"]), batch.learned["bias"]
  for i, D, positives, negatives in batch.rows():
    s = -D if batch.metric == "dot" else 1 - D
    total = sum(batch.P[i, p] * softplus(-(t * s[p] + b)) for p in positives)
    total += sum(batch.N[i, n] * softplus(t * s[n] + b) for n in negatives)
    yield "anchors", i, 1, total
