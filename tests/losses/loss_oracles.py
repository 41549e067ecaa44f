"""Every loss once more, as loops over its equation: NumPy and SciPy, float64.

Written from the definitions, not from the package, and fed with raw
embeddings: an oracle that took our distances could not see a wrong one. An
oracle yields terms `(part, anchor, weight, value)`; `loss` reduces each part
and adds the parts.
"""

import dataclasses

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import expit, logsumexp


def softplus(z):
  return np.logaddexp(0.0, z)


def hinge(z):
  return max(0.0, z)


# --- normalisation and distances ---------------------------------------------


def normalized(how, x):
  x = np.asarray(x, np.float64)
  if how == "none" or not len(x):
    return x
  length = np.linalg.norm(x, ord={"l1": 1, "l2": 2}[how], axis=1)
  return x / np.where(length == 0, 1, length)[:, None]


def distances(metric, x, y, factor=None):
  """Distance of each row of x to each row of y, by scipy or the definition."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if metric in ("mahalanobis", "squared_mahalanobis"):
    matrix = np.eye(x.shape[1]) if factor is None else factor.T @ factor
    matrix = cdist(x, y, "mahalanobis", VI=matrix)
    return matrix**2 if metric == "squared_mahalanobis" else matrix
  if metric == ("lp", {"p": 3}):
    return cdist(x, y, "minkowski", p=3)
  if metric == "angular":
    # arccos of the cosine loses half the digits of small angles.
    x, y = normalized("l2", x), normalized("l2", y)
    return 2 * np.arctan2(cdist(x, y), cdist(x, -y))
  if metric == "snr":
    noise = np.var(x[:, None] - y[None], axis=2)
    return noise / (np.var(x, axis=1)[:, None] + 1e-8)
  if metric == "dot":
    return -(x @ y.T)
  names = {
    "l1": "cityblock",
    "l2": "euclidean",
    "squared_l2": "sqeuclidean",
    "cosine": "cosine",
    "linf": "chebyshev",
  }
  return cdist(x, y, names[metric])


# --- what a loss is computed from --------------------------------------------


@dataclasses.dataclass
class Batch:
  """Rows: distances, positive and negative weights; and what lies behind."""

  metric: str
  x: np.ndarray  # [n, d], normalised
  labels: np.ndarray  # [n]
  candidates: np.ndarray  # [m, d], normalised
  candidate_labels: np.ndarray  # [m]
  itself: bool  # the candidates are the anchors
  normalize: str = "none"
  params: dict = dataclasses.field(default_factory=dict)
  affinity: np.ndarray | None = None
  state: dict | None = None
  # The batch and the numbers that give what has no gradient.
  constant: tuple | None = None

  def __post_init__(self):
    self.D = self.distances(self.x, self.candidates)
    n, m = self.D.shape
    self.P, self.N = np.zeros((n, m)), np.zeros((n, m))
    for i in range(n):
      for j in range(m):
        if self.itself and i == j:
          continue
        if self.affinity is not None:
          self.P[i, j] = self.affinity[i, j]
          self.N[i, j] = 1 - self.affinity[i, j]
        elif self.labels[i] == self.candidate_labels[j]:
          self.P[i, j] = 1
        else:
          self.N[i, j] = 1

  def of_candidates(self):
    """The candidates as a batch of their own."""
    return dataclasses.replace(
      self, x=self.candidates, labels=self.candidate_labels, itself=True
    )

  def mirrored(self):
    """The candidates as anchors, the anchors as their candidates."""
    return dataclasses.replace(
      self,
      x=self.candidates,
      labels=self.candidate_labels,
      candidates=self.x,
      candidate_labels=self.labels,
      affinity=None if self.affinity is None else self.affinity.T,
    )

  def joined(self):
    """Anchors and candidates as one batch."""
    x = np.concatenate([self.x, self.candidates])
    labels = np.concatenate([self.labels, self.candidate_labels])
    return dataclasses.replace(
      self,
      x=x,
      labels=labels,
      candidates=x,
      candidate_labels=labels,
      itself=True,
    )

  def distances(self, x, y):
    factor = self.params.get("metric", {}).get("factor")
    return distances(self.metric, x, y, factor=factor)

  @property
  def learned(self):
    return self.params["loss"]

  def rows(self):
    """Anchor, its distances, its positives and its negatives."""
    for i in range(len(self.D)):
      yield i, self.D[i], np.flatnonzero(self.P[i]), np.flatnonzero(self.N[i])


# --- potentials ---------------------------------------------------------------


def potential(attract, repel, parts=("pairs", "pairs")):
  """The oracle of a potential: both are functions of (distance, **hyper)."""

  def terms(batch, **hyper):
    for i, D, positives, negatives in batch.rows():
      for p in positives:
        yield parts[0], i, batch.P[i, p], attract(D[p], **hyper)
      for n in negatives:
        yield parts[1], i, batch.N[i, n], repel(D[n], **hyper)

  return terms


contrastive_2005 = potential(
  lambda D, upper_bound: 2 / upper_bound * D**2,
  lambda D, upper_bound: 2 * upper_bound * np.exp(-2.77 * D / upper_bound),
)
contrastive = potential(
  lambda D, margin, half=True: (0.5 if half else 1) * D**2,
  lambda D, margin, half=True: (0.5 if half else 1) * hinge(margin - D) ** 2,
)
contrastive_linear = potential(
  lambda D, positive_margin, negative_margin: hinge(D - positive_margin),
  lambda D, positive_margin, negative_margin: hinge(negative_margin - D),
  parts=("positive", "negative"),
)
contrastive_double_margin = potential(
  lambda D, positive_margin, negative_margin: hinge(D - positive_margin) ** 2,
  lambda D, positive_margin, negative_margin: hinge(negative_margin - D) ** 2,
)
snr_contrastive = contrastive_linear
contrastive_caffe_legacy = potential(
  lambda D, margin, half=True: (0.5 if half else 1) * D**2,
  lambda D, margin, half=True: (0.5 if half else 1) * hinge(margin - D**2),
)
contrastive_sq_margin = potential(
  lambda D, margin, half=False: (0.5 if half else 1) * D**2,
  lambda D, margin, half=False: (0.5 if half else 1) * hinge(margin**2 - D**2),
)
contrastive_inverse = potential(
  lambda D, floor, half=True: (0.5 if half else 1) * D**2,
  lambda D, floor, half=True: 1 / max(D, floor),
)


def margin(
  batch, alpha, nu, learn_beta=True, per_class=False, over="pairs", beta=1.2
):
  for i, D, positives, negatives in batch.rows():
    boundary = batch.learned["beta"] if learn_beta else beta
    if per_class:
      boundary = boundary[batch.labels[i]]
    triplets = 0
    for p in positives:
      partners = negatives if over == "triplets" else [None]
      for n in partners:
        weight = batch.P[i, p] * (1 if n is None else batch.N[i, n])
        triplets += weight
        yield "pairs", i, weight, hinge(alpha + D[p] - boundary)
    for n in negatives:
      partners = positives if over == "triplets" else [None]
      for p in partners:
        weight = batch.N[i, n] * (1 if p is None else batch.P[i, p])
        yield "pairs", i, weight, hinge(alpha + boundary - D[n])
    if over == "triplets" and triplets:
      yield "regularization", i, triplets, nu * boundary
    if over == "pairs" and (len(positives) or len(negatives)):
      yield "regularization", i, 1, nu * boundary


def intra_pair_variance(batch, positive_epsilon, negative_epsilon):
  s = 1 - batch.D
  for part, weights, sign, epsilon in (
    ("positive", batch.P, 1, positive_epsilon),
    ("negative", batch.N, -1, negative_epsilon),
  ):
    if weights.sum():
      center = (1 - sign * epsilon) * np.average(s, weights=weights)
      for i, j in np.argwhere(weights):
        yield part, i, weights[i, j], hinge(sign * (center - s[i, j])) ** 2


def tcm(
  batch, positive_weight, negative_weight, positive_margin, negative_margin
):
  for i, D, positives, negatives in batch.rows():
    for p in positives:
      if 1 - D[p] <= positive_margin:
        value = positive_weight * (positive_margin - (1 - D[p]))
        yield "positive", i, batch.P[i, p], value
    for n in negatives:
      if 1 - D[n] >= negative_margin:
        value = negative_weight * (1 - D[n] - negative_margin)
        yield "negative", i, batch.N[i, n], value


def pair_bce(batch, weighted=None, **_):
  """Binary cross-entropy of logit b − a·D, or b − Σ_j α_j |x_ij − x_kj|."""
  weighted = batch.metric == "l1" if weighted is None else weighted
  learned = batch.learned
  for i in range(len(batch.x)):
    for j in range(len(batch.candidates)):
      if weighted:
        alpha = np.exp(learned["log_weights"])
        D = np.sum(alpha * np.abs(batch.x[i] - batch.candidates[j]))
      else:
        D = np.exp(learned["log_scale"]) * batch.D[i, j]
      logit = learned["bias"] - D
      if batch.P[i, j]:
        yield "pairs", i, batch.P[i, j], softplus(-logit)
      if batch.N[i, j]:
        yield "pairs", i, batch.N[i, j], softplus(logit)


def pair_regression(batch, similarity="cosine01"):
  for i, D, _, _ in batch.rows():
    for j in range(len(D)):
      P, N = batch.P[i, j], batch.N[i, j]
      if P + N:
        s = 1 - D[j]
        g = {"cosine01": (1 + s) / 2, "cosine": s, "exp": np.exp(-D[j])}
        yield "pairs", i, P + N, (g[similarity] - P / (P + N)) ** 2


# --- triplets ----------------------------------------------------------------


def triplets(batch):
  for i, D, positives, negatives in batch.rows():
    for p in positives:
      for n in negatives:
        yield i, batch.P[i, p] * batch.N[i, n], D[p], D[n]


def triplet(batch, margin):
  for i, weight, D_ap, D_an in triplets(batch):
    yield "triplets", i, weight, hinge(D_ap - D_an + margin)


def triplet_semihard(batch, margin):
  for i, weight, D_ap, D_an in triplets(batch):
    if D_ap < D_an < D_ap + margin:
      yield "triplets", i, weight, hinge(D_ap - D_an + margin)


def triplet_batch_hard(batch, margin):
  for i, D, positives, negatives in batch.rows():
    if len(positives) and len(negatives):
      hardest = max(D[p] for p in positives) - min(D[n] for n in negatives)
      yield "anchors", i, 1, hinge(margin + hardest)


def triplet_soft(batch, margin):
  for i, weight, D_ap, D_an in triplets(batch):
    yield "triplets", i, weight, softplus(D_ap - D_an + margin)


def triplet_swap(batch, margin):
  between = batch.distances(batch.candidates, batch.candidates)
  for i, D, positives, negatives in batch.rows():
    for p in positives:
      for n in negatives:
        D_pn = 0.0 if p == n else between[p, n]
        weight = batch.P[i, p] * batch.N[i, n]
        yield "triplets", i, weight, hinge(D[p] - min(D[n], D_pn) + margin)


def triplet_ratio(batch):
  for i, weight, D_ap, D_an in triplets(batch):
    far, near = np.exp([D_ap, D_an]) / np.sum(np.exp([D_ap, D_an]))
    yield "triplets", i, weight, far**2 + (1 - near) ** 2


def triplet_histogram(batch, before, low, high, momentum, num_bins=10):
  """The histogram of v = D_ap - D_an at the edges, moved towards the batch."""
  found = np.zeros(num_bins + 1)
  for _, weight, D_ap, D_an in triplets(batch):
    place = np.clip((D_ap - D_an - low) / (high - low), 0, 1) * num_bins
    for edge in range(num_bins + 1):
      found[edge] += weight * hinge(1 - abs(place - edge))
  if not found.sum():
    return before
  found /= found.sum()
  if not np.any(before):
    return found
  return (1 - momentum) * before + momentum * found


def triplet_dynamic_soft(batch, low, high, momentum, num_bins=10):
  still, numbers = batch.constant
  edges = (numbers["low"], numbers["high"], numbers["momentum"], num_bins)
  after = triplet_histogram(still, batch.state["histogram"], *edges)
  low, high, *_ = edges
  for now, then in zip(triplets(batch), triplets(still), strict=True):
    i, weight, D_ap, D_an = now
    share = (then[2] - then[3] - low) / (high - low)
    below = int(np.floor(np.clip(share, 0, 1) * num_bins))
    yield "triplets", i, weight, after[: below + 1].sum() * (D_ap - D_an)


def quadruplet(batch, margin, second_margin):
  for part, i, weight, D_ap, D in [
    ("triplets", i, weight, D_ap, margin - D_an)
    for i, weight, D_ap, D_an in triplets(batch)
  ]:
    yield part, i, weight, hinge(D_ap + D)
  between = batch.distances(batch.candidates, batch.candidates)
  # What pads is no candidate: it is neither positive nor negative of any.
  kept = np.flatnonzero((batch.P + batch.N).any(axis=0))
  for i, D, positives, _ in batch.rows():
    for p in positives:
      for n in kept:
        for other in kept:
          classes = {batch.labels[i], *batch.candidate_labels[[n, other]]}
          if len(classes) == 3:
            value = hinge(D[p] - between[n, other] + second_margin)
            yield "pairs", i, batch.P[i, p], value


def angular(batch, angle):
  between = 1 - batch.distances(batch.candidates, batch.candidates)
  s, t = 1 - batch.D, np.tan(angle) ** 2
  for i, _, positives, negatives in batch.rows():
    for p in positives:
      value = 0.0
      if len(negatives):
        z = 4 * t * (s[i] + between[p]) - 2 * (1 + t) * s[i, p]
        value = softplus(logsumexp(z[negatives], b=batch.N[i, negatives]))
      yield "pairs", i, batch.P[i, p], value


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
  """One pair per class: its first two items, or its first of both sides."""
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
  """Anchors are one view, candidates the other view only."""
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
  """Both views in one batch, each item against all others."""
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
  """All relative to e^{s_p/τ}, so that nothing overflows."""
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
      """Of (violation, the same as a constant, candidate)."""
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


# --- classification ----------------------------------------------------------


def classified(logits_of):
  """Cross-entropy of the logits of each item, one per class, to a target."""

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
  """Anchors, first and second view of what is in both."""
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


ORACLES = {
  name: globals()[name]
  for name in (
    "contrastive_2005",
    "contrastive",
    "contrastive_linear",
    "contrastive_double_margin",
    "snr_contrastive",
    "contrastive_sq_margin",
    "contrastive_caffe_legacy",
    "contrastive_inverse",
    "margin",
    "intra_pair_variance",
    "tcm",
    "pair_bce",
    "pair_regression",
    "triplet",
    "triplet_semihard",
    "triplet_batch_hard",
    "triplet_soft",
    "triplet_swap",
    "triplet_ratio",
    "triplet_dynamic_soft",
    "quadruplet",
    "angular",
    "lifted_hard",
    "lifted",
    "lifted_generalized",
    "tuplet_margin",
    "npair",
    "nca",
    "soft_nn",
    "nce",
    "infonce",
    "ntxent",
    "infonce_per_pair",
    "infonce_all",
    "supcon",
    "dcl",
    "debiased",
    "hard_negative",
    "multi_similarity",
    "circle",
    "ranked_list",
    "siglip",
    "histogram",
    "fastap",
    "smooth_ap",
    "pnp",
    "cross_entropy",
    "norm_softmax",
    "proxy_nca",
    "proxy_nca_pp",
    "proxy_anchor",
    "soft_triple",
    "center",
    "manifold",
    "l_softmax",
    "sphereface",
    "cosface",
    "arcface",
    "arcface_subcenter",
    "p2sgrad",
    "instance",
    "vicreg",
    "barlow",
  )
}

# Losses whose anchors are the classes.
CLASS_ANCHORS = ("proxy_anchor",)


# --- reductions --------------------------------------------------------------


def reduced(reduction, terms, n):
  """Reduces terms (anchor, weight, value); zero where there is none."""
  if reduction == "none":
    values = np.zeros(n)
    for i in range(n):
      values[i] = reduced("mean", [t for t in terms if t[0] == i], n)
    return values
  if reduction == "per_anchor_mean":
    anchors = sorted({i for i, weight, _ in terms if weight > 0})
    means = [
      reduced("mean", [t for t in terms if t[0] == i], n) for i in anchors
    ]
    return float(np.mean(means)) if means else 0.0
  if reduction == "mean_active":
    terms = [t for t in terms if t[2] > 0]
  total = sum(weight * value for _, weight, value in terms)
  count = sum(weight for _, weight, _ in terms)
  if reduction == "sum":
    return total
  return total / count if count else 0.0


def terms(
  name,
  embeddings,
  labels,
  *,
  metric,
  normalize,
  hyper,
  params=None,
  where=None,
  references=None,
  reference_labels=None,
  affinity=None,
  state=None,
  constant=None,
):
  """The terms (anchor, weight, value) of each part of the loss `name`.

  A loss with a geometry of its own has the metric None. `constant` is another
  (hyper, params, embeddings), of which the loss takes what has no gradient:
  with it fixed, a difference quotient is the gradient.
  """
  embeddings, labels = np.asarray(embeddings), np.asarray(labels)
  kept = np.arange(len(labels)) if where is None else np.flatnonzero(where)
  itself = references is None
  if affinity is not None:
    affinity = np.asarray(affinity)[kept]
    affinity = affinity[:, kept] if itself else affinity

  def batch_of(embeddings, params):
    x = normalized(normalize, np.asarray(embeddings)[kept])
    return Batch(
      metric=metric or "l2",
      x=x,
      labels=labels[kept],
      candidates=x if itself else normalized(normalize, references),
      candidate_labels=labels[kept] if itself else np.asarray(reference_labels),
      itself=itself,
      normalize=normalize,
      params=params or {},
      affinity=affinity,
      state=state,
    )

  batch = batch_of(embeddings, params)
  if constant is None:
    batch.constant = batch, hyper
  else:
    batch.constant = batch_of(constant[2], constant[1]), constant[0]
  parts = {}
  for part, anchor, weight, value in ORACLES[name](batch, **hyper):
    # Anchors that were joined to the batch keep their place behind it.
    if anchor < len(kept) and name not in CLASS_ANCHORS:
      anchor = kept[anchor]
    parts.setdefault(part, []).append((anchor, weight, value))
  return parts


def loss(name, embeddings, labels, *, reduction, **options):
  """The value of the loss `name` of raw embeddings; see `terms`."""
  n = len(labels)
  if name in CLASS_ANCHORS:
    n = len(options["params"]["loss"]["weights"])
  parts = terms(name, embeddings, labels, **options).values()
  zero = np.zeros(n) if reduction == "none" else 0.0
  return sum((reduced(reduction, part, n) for part in parts), zero)


def numeric_slope(function, point, direction, step=1e-6):
  """Central difference of a scalar function of arrays along a direction."""
  ends = [
    function(*(x + sign * v for x, v in zip(point, direction, strict=True)))
    for sign in (step, -step)
  ]
  return (ends[0] - ends[1]) / (2 * step)
