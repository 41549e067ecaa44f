"""Oracles of pair potentials, triplets and quadruplets; see `loss_oracles`."""

import numpy as np
from oracle_batches import hinge, softplus
from scipy.special import logsumexp

# --- potentials ---------------------------------------------------------------


def potential(attract, repel, parts=("pairs", "pairs")):
  """The oracle of a potential; both are functions of (distance, **hyper)."""

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
  """The histogram of v = D_ap - D_an at the edges, moved toward the batch."""
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
