"""Listwise losses: an anchor, its positives and all its negatives at once.

Softmax losses read s = -D, so that every metric serves; under cosine that is
s = cos - 1, and they are invariant to the shift. Temperatures are in units of
the distance.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.losses.arrangements import (
  first_pairs,
  joined_views,
  two_views,
)
from metric_learning.losses.base import (
  DISTANCES,
  SIMILARITIES,
  Context,
  Loss,
)
from metric_learning.rows import (
  Parts,
  Row,
  Terms,
  make_terms,
  ratio,
  weighted_logsumexp,
)

Number = float | Array


def _exists(weights: Float[Array, " m"]) -> Float[Array, ""]:
  """1 where an anchor has any such candidate, else 0."""
  return jnp.any(weights > 0).astype(weights.dtype)


# --- Softmax over candidates ------------------------------------------------


def softmax_terms(
  logits: Float[Array, " m"],
  positives: Float[Array, " m"],
  negatives: Float[Array, " m"],
) -> Terms:
  """For each positive, -log of its share among all candidates.

  >>> one, none = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
  >>> softmax_terms(jnp.zeros(2), one, none).total  # log 2
  Array(0.6931472, dtype=float32)
  """
  everyone = weighted_logsumexp(logits, positives + negatives)
  return make_terms(everyone - logits, positives)


def infonce_loss(row: Row, *, temperature: Number = 0.07) -> Parts:
  """InfoNCE: -log( e^{s_ii'/τ} / Σ_j e^{s_ij'/τ} ), candidates = other view.

  One positive in a row. The views are batch and references, or the first and
  second item of each class; `symmetric` averages both directions. A batch in
  which a row would have more positives is an error outside jit.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> infonce_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: van den Oord, Li, Vinyals 2018 (arXiv 1807.03748), equation 4.
  """
  logits = -row.distances / temperature
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


def ntxent_loss(row: Row, *, temperature: Number = 0.5) -> Parts:
  """NT-Xent: InfoNCE over both views joined, 2N - 1 candidates.

  Each label stands twice, or once in the batch and once in the references. A
  batch in which a row would have more positives is an error outside jit.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> ntxent_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Chen, Kornblith, Norouzi, Hinton 2020 (arXiv 2002.05709), equation 1.
  """
  return infonce_loss(row, temperature=temperature)


def infonce_per_pair_loss(row: Row, *, temperature: Number = 0.07) -> Parts:
  """InfoNCE per pair: log(1 + Σ_{n in N(a)} e^{(s_an - s_ap)/τ}).

  Other positives of the anchor are not in the denominator. Without negatives
  a pair counts with value 0.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]),
  ...           jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> infonce_per_pair_loss(row)["softmax"].total  # 2 log 2
  Array(1.3862944, dtype=float32)

  Source: the form that pytorch-metric-learning (as NTXentLoss) and optax use.
  """
  logits = -row.distances / temperature
  against = weighted_logsumexp(logits, row.negatives)
  some = jnp.any(row.negatives > 0)
  values = jax.nn.softplus(jnp.where(some, against - logits, 0))
  return {"softmax": make_terms(jnp.where(some, values, 0), row.positives)}


def supcon_loss(row: Row, *, temperature: Number = 0.1) -> Parts:
  """Supervised contrastive: mean over P(i) of LSE_{k≠i}(s/τ) - s_ip/τ.

  One term for each anchor that has a positive; other positives stay in the
  denominator.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]),
  ...           jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> supcon_loss(row)["softmax"].total  # log 3
  Array(1.0986123, dtype=float32)

  Source: Khosla et al. 2020 (arXiv 2004.11362), equation 2 (L_out). The
  authors' code multiplies by τ/0.07 and averages over all anchors.
  """
  logits = -row.distances / temperature
  pairs = softmax_terms(logits, row.positives, row.negatives)
  value = ratio(pairs.total, pairs.count)
  return {"softmax": make_terms(value, _exists(row.positives))}


def npair_loss(
  row: Row, context: Context, *, regularization: Number = 0.002
) -> Parts:
  """N-pair: log(1 + Σ_{j≠i} e^{x_i·x_j' - x_i·x_i'}), one pair of each class.

  The pair is the first two items of the class in the batch. A part of its own
  is λ times the mean over pairs of ½(|x|² + |x'|²).

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> norms = Context(own=jnp.array(1.0), shared=jnp.array([3.0, 5.0]))
  >>> parts = npair_loss(row, norms, regularization=0.5)
  >>> [float(part.total) for part in parts.values()]  # log 2, ½(1 + 3)
  [0.6931471824645996, 2.0]

  Source: Sohn, NIPS 2016, equation 6 and section 3.2.3. λ multiplies ½|x|² of
  both ends, which the paper leaves open. Not symmetrised.
  """
  norms = regularization * (context.own + context.shared)
  return {
    "softmax": softmax_terms(-row.distances, row.positives, row.negatives),
    "regularization": make_terms(norms, row.positives),
  }


def _half_squares(over_anchors, over_candidates, anchors, candidates):
  half = lambda side: jnp.sum(side.embeddings**2, axis=1) / 2
  return Context(own=half(anchors), shared=half(candidates))


def nce_terms(
  data: Float[Array, " p"],
  noise: Float[Array, " k"],
  data_weights: Float[Array, " p"],
  noise_weights: Float[Array, " k"],
) -> Terms:
  """Σ_p -log σ(l_p) - Σ_k log(1 - σ(l_k)), counted over the data."""
  signal = make_terms(jax.nn.softplus(-data), data_weights)
  against = make_terms(jax.nn.softplus(noise), noise_weights).total
  some = signal.count > 0
  total = jnp.where(some, signal.total + against, 0)
  return dataclasses.replace(signal, total=total, active_total=total)


def nce_from_logits(
  data: Float[Array, " n"], noise: Float[Array, "n k"]
) -> Float[Array, ""]:
  """Noise-contrastive estimation: mean of -log σ(l) - Σ_k log(1 - σ(l̃_k)).

  The logits are l(u) = log p(u) - log(k q(u)), k noise samples for each datum.

  >>> nce_from_logits(jnp.zeros(3), jnp.zeros((3, 1)))  # p = q, k = 1: 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Gutmann and Hyvärinen, AISTATS 2010, equations 3 and 4, negated.
  """
  terms = nce_terms(
    data, noise.ravel(), jnp.ones_like(data), jnp.ones_like(noise.ravel())
  )
  return ratio(terms.total, terms.count)


def nce_loss(
  row: Row, *, temperature: Number = 1.0, log_partition: Number = 0.0
) -> Parts:
  """Noise-contrastive estimation of which candidates belong to an anchor.

  log p(u) = -D/τ - log Z with log Z learned (`log_partition`); the positives
  are data, the negatives noise with q = 1/m (m candidates) and k = #N/#P. One
  term for each (anchor, positive), each with its k noise samples.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> nce_loss(row, log_partition=0.6931472)["nce"].total  # p = q: 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Gutmann and Hyvärinen, AISTATS 2010, equation 4, with labels for data
  and noise: a choice made here. The estimator itself is `nce_from_logits`.
  """
  number = lambda weights: jnp.sum(weights)
  positives, negatives = number(row.positives), number(row.negatives)
  noise_rate = ratio(negatives, positives) / jnp.maximum(
    positives + negatives, jnp.finfo(row.distances.dtype).tiny
  )
  some = noise_rate > 0
  offset = log_partition + jnp.log(jnp.where(some, noise_rate, 1))
  logits = -row.distances / temperature - offset
  terms = nce_terms(logits, logits, row.positives, row.negatives)
  # Without noise there is nothing to tell the data from.
  return {"nce": jax.tree.map(lambda x: jnp.where(some, x, 0), terms)}


# --- Lifted structure -------------------------------------------------------


def _hardest(row: Row, margin: Number) -> Float[Array, ""]:
  """max over N of ε - D, at the lowest index; -inf without negatives."""
  negative = row.negatives > 0
  near = jnp.argmin(jnp.where(negative, row.distances, jnp.inf))
  return jnp.where(jnp.any(negative), margin - row.distances[near], -jnp.inf)


def _all_negatives(row: Row, margin: Number) -> Float[Array, ""]:
  """log Σ over N of e^{ε - D}; -inf without negatives."""
  return weighted_logsumexp(margin - row.distances, row.negatives)


def _hardest_of_candidates(
  over_anchors, over_candidates, anchors, candidates, *, margin: Number = 1.0
) -> Context:
  return Context(shared=over_candidates(lambda row: _hardest(row, margin)))


def _all_of_candidates(
  over_anchors, over_candidates, anchors, candidates, *, margin: Number = 1.0
) -> Context:
  return Context(
    shared=over_candidates(lambda row: _all_negatives(row, margin))
  )


def _lifted_terms(row, push, positive_margin) -> Parts:
  some = push > -jnp.inf
  hinge = jax.nn.relu(
    row.distances - positive_margin + jnp.where(some, push, 0)
  )
  return {"pair": make_terms(hinge**2 / 2, jnp.where(some, row.positives, 0))}


def lifted_hard_loss(
  row: Row,
  context: Context,
  *,
  margin: Number = 1.0,
  positive_margin: Number = 0.0,
) -> Parts:
  """Lifted structure: ½[D_ij + max(ε - D_ik, ε - D_jl)]+² over k, l.

  k ranges over N(i), l over N(j); one term for each ordered positive pair, so
  that a mean is the one over unordered pairs and a sum is twice it.

  >>> row = Row(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> context = Context(shared=jnp.array([0.0, -jnp.inf]))
  >>> lifted_hard_loss(row, context)["pair"].total  # ½(1 + max(-1, 0))²
  Array(0.5, dtype=float32)

  Source: Oh Song et al., CVPR 2016 (arXiv 1511.06452), equation 3; the positive
  margin, subtracted from D_ij, is an addition.
  """
  push = jnp.maximum(_hardest(row, margin), context.shared)
  return _lifted_terms(row, push, positive_margin)


def lifted_loss(
  row: Row,
  context: Context,
  *,
  margin: Number = 1.0,
  positive_margin: Number = 0.0,
) -> Parts:
  """Smooth lifted structure: ½[D_ij + log(Σ_k e^{ε-D_ik} + Σ_l e^{ε-D_jl})]+².

  An upper bound of `lifted_hard`, with the same pairs.

  >>> row = Row(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> context = Context(shared=jnp.array([-jnp.inf, -jnp.inf]))
  >>> lifted_loss(row, context)["pair"].total  # ½(1 + log e⁰)²
  Array(0.5, dtype=float32)

  Source: Oh Song et al., CVPR 2016 (arXiv 1511.06452), equation 4; the positive
  margin, subtracted from D_ij, is an addition.
  """
  own, theirs = _all_negatives(row, margin), context.shared
  both = (own > -jnp.inf) & (theirs > -jnp.inf)
  # logaddexp of two -inf is -inf with gradient NaN.
  push = jnp.where(
    both,
    jnp.logaddexp(jnp.where(both, own, 0), jnp.where(both, theirs, 0)),
    jnp.maximum(own, theirs),
  )
  return _lifted_terms(row, push, positive_margin)


LISTWISE_LOSSES: dict[str, Loss] = {
  "lifted_hard": Loss(
    lifted_hard_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin", "positive_margin"),
    context=_hardest_of_candidates,
    source="Oh Song et al., CVPR 2016, equation 3",
  ),
  "lifted": Loss(
    lifted_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin", "positive_margin"),
    context=_all_of_candidates,
    source="Oh Song et al., CVPR 2016, equation 4",
  ),
  "npair": Loss(
    npair_loss,
    metric="dot",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    arrange=first_pairs,
    context=_half_squares,
    source="Sohn, NIPS 2016, equation 6",
  ),
  "nce": Loss(
    nce_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    learned={"log_partition": "real"},
    scaled=("temperature",),
    source="Gutmann and Hyvärinen, AISTATS 2010, equation 4",
  ),
  "infonce": Loss(
    infonce_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("symmetric",),
    scaled=("temperature",),
    arrange=two_views,
    source="van den Oord, Li, Vinyals 2018, arXiv 1807.03748, equation 4",
  ),
  "ntxent": Loss(
    ntxent_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled=("temperature",),
    arrange=joined_views,
    source="Chen et al. 2020, arXiv 2002.05709, equation 1",
  ),
  "infonce_per_pair": Loss(
    infonce_per_pair_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled=("temperature",),
    source="the pair form of InfoNCE with labels",
  ),
  "supcon": Loss(
    supcon_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled=("temperature",),
    source="Khosla et al. 2020, arXiv 2004.11362, equation 2",
  ),
}
