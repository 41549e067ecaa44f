"""Softmax losses: the share of the positives among all candidates.

They use s = -D, so that every metric works. Under cosine, s = cos - 1, and the
losses do not depend on the shift by 1. Temperatures are in units of the
distance.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import METRICS
from metric_learning.intervals import (
  NotNegative,
  Positive,
  ShareBelowOne,
)
from metric_learning.losses.arrangements import (
  joined_views,
  two_views,
)
from metric_learning.losses.base import SIMILARITIES, Loss
from metric_learning.losses.search import (
  SCALE,
  TEMPERATURE,
  Range,
)
from metric_learning.rows import (
  Parts,
  Row,
  Terms,
  exists,
  make_terms,
  on_the_way,
  ratio,
  weighted_logsumexp,
)


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
  log_normalizer = weighted_logsumexp(logits, positives + negatives)
  return make_terms(log_normalizer - logits, positives)


def pair_terms(
  logits: Float[Array, " m"],
  against: Float[Array, ""],
  positives: Float[Array, " m"],
) -> Terms:
  """For each positive, log(1 + e^{against - logit}), without other positives.

  `against` is a log-sum-exp over negatives. Without negatives it is -inf, and
  each positive is a term of value 0.

  >>> pair_terms(jnp.zeros(2), jnp.log(2.0), jnp.array([1.0, 0.0])).total
  Array(1.0986123, dtype=float32)
  """
  return make_terms(jax.nn.softplus(against - logits), positives)


def infonce_loss(row: Row, *, temperature: Positive = 0.07) -> Parts:
  """InfoNCE: -log( e^{s_ii'/τ} / Σ_j e^{s_ij'/τ} ), candidates = other view.

  Each anchor has one positive. The views are batch and references, or the first
  and second item of each class; `symmetric` averages both directions. More than
  one positive is an error, and under jit makes the value NaN.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> infonce_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: van den Oord, Li, Vinyals 2018 (arXiv 1807.03748), equation 4.
  """
  logits = -row.distances / temperature
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


def ntxent_loss(row: Row, *, temperature: Positive = 0.5) -> Parts:
  """NT-Xent: InfoNCE over both views joined, 2N - 1 candidates.

  Each label occurs twice in the batch, or once in the batch and once in the
  references. More than one positive of an anchor is an error, and under jit
  makes the value NaN.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> ntxent_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Chen, Kornblith, Norouzi, Hinton 2020 (arXiv 2002.05709), equation 1.
  """
  return infonce_loss(row, temperature=temperature)


def infonce_per_pair_loss(row: Row, *, temperature: Positive = 0.07) -> Parts:
  """InfoNCE per pair: log(1 + Σ_{n in N(a)} e^{(s_an - s_ap)/τ}).

  Other positives of the anchor are not in the denominator. Without negatives, a
  pair is a term of value 0.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]),
  ...           jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> infonce_per_pair_loss(row)["softmax"].total  # 2 log 2
  Array(1.3862944, dtype=float32)

  Source: the form that pytorch-metric-learning (as NTXentLoss) and optax use.
  """
  logits = -row.distances / temperature
  against = weighted_logsumexp(logits, row.negatives)
  return {"softmax": pair_terms(logits, against, row.positives)}


def infonce_all_loss(row: Row, *, temperature: Positive = 0.07) -> Parts:
  """InfoNCE over all: LSE_{k≠a}(s_ak/τ) - s_ap/τ for each positive p.

  All other candidates are in the denominator, including positives. Here all
  pairs have equal weight; in `supcon` all anchors have.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]),
  ...           jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> infonce_all_loss(row)["softmax"].total  # 2 log 3
  Array(2.1972246, dtype=float32)

  Source: the inner term of Khosla et al. 2020 (arXiv 2004.11362), equation 2,
  averaged over pairs.
  """
  logits = -row.distances / temperature
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


def supcon_loss(row: Row, *, temperature: Positive = 0.1) -> Parts:
  """Supervised contrastive: mean over P(i) of LSE_{k≠i}(s/τ) - s_ip/τ.

  One term for each anchor that has a positive; its other positives are in the
  denominator.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0]),
  ...           jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> supcon_loss(row)["softmax"].total  # log 3
  Array(1.0986123, dtype=float32)

  Source: Khosla et al. 2020 (arXiv 2004.11362), equation 2 (L_out). The
  authors' code multiplies by τ/0.07 and averages over all anchors.
  """
  logits = -row.distances / temperature
  with on_the_way():
    pairs = softmax_terms(logits, row.positives, row.negatives)
  value = ratio(pairs.total, pairs.count)
  return {"softmax": make_terms(value, exists(row.positives))}


def dcl_loss(row: Row, *, temperature: Positive = 0.1) -> Parts:
  """Decoupled contrastive: -s_ap/τ + LSE_{N(a)}(s/τ) for each positive p.

  The positive is not in the denominator, so that a term can be negative.
  Without negatives there is no term.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> dcl_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Yeh et al. 2021 (arXiv 2110.06848), L_DC.
  """
  logits = -row.distances / temperature
  against = weighted_logsumexp(logits, row.negatives)
  has_negatives = exists(row.negatives)
  values = jnp.where(has_negatives > 0, against - logits, 0)
  return {"softmax": make_terms(values, has_negatives * row.positives)}


def debiased_loss(
  row: Row,
  *,
  temperature: Positive = 0.5,
  positive_prior: ShareBelowOne = 0.1,
  upper_bound: Positive | None = None,
) -> Parts:
  """Debiased contrastive: -log( e^{s_p/τ} / (e^{s_p/τ} + n g) ), n = #N.

  g = max( (mean_N e^{s/τ} - τ⁺ e^{s_p/τ}) / (1 - τ⁺), e^{-U/τ} ): the mean over
  negatives, without the share τ⁺ (`positive_prior`) of them that is of the
  anchor's class. U (`upper_bound`) is the largest possible distance, so that
  e^{-U/τ} is the smallest possible e^{s/τ}. An objective derives U from metric
  and normalization. If these do not bound the distance and you do not give U,
  g may be 0.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> round(float(debiased_loss(row)["softmax"].total), 4)  # log 3
  1.0986

  Source: Chuang et al. 2020 (arXiv 2007.00224), section 4, with one positive at
  a time. In the paper s = cos, and the floor is e^{-1/τ}; with s = cos - 1, the
  same floor is e^{-2/τ}.
  """
  return hard_negative_loss(
    row,
    temperature=temperature,
    positive_prior=positive_prior,
    upper_bound=upper_bound,
    concentration=0.0,
  )


def hard_negative_loss(
  row: Row,
  *,
  temperature: Positive = 0.5,
  positive_prior: ShareBelowOne = 0.1,
  concentration: NotNegative = 1.0,
  upper_bound: Positive | None = None,
) -> Parts:
  """Debiased contrastive, with weights e^{β s/τ} in the mean over negatives.

  β is `concentration`. β = 0 gives `debiased`; if τ⁺ is 0 too, it gives
  `infonce_per_pair`. All else is as in `debiased`.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> round(float(hard_negative_loss(row)["softmax"].total), 4)  # log 3
  1.0986

  Source: Robinson et al. 2021 (arXiv 2010.04592), section 3.
  """
  logits = -row.distances / temperature
  has_negatives = exists(row.negatives)
  log_weight = weighted_logsumexp(concentration * logits, row.negatives)
  log_total = weighted_logsumexp((1 + concentration) * logits, row.negatives)
  # log of mean_N e^{s/τ} / e^{s_p/τ}: everything is relative to the positive.
  mean = jnp.where(has_negatives > 0, log_total - log_weight, 0) - logits
  # The difference in g is positive only where the mean exceeds τ⁺; elsewhere it
  # has no logarithm.
  tiny = jnp.finfo(mean.dtype).tiny
  least = jnp.log(jnp.maximum(positive_prior, tiny))
  safe = jnp.where(mean > least, mean, 0)
  remainder = 1 - positive_prior * jnp.exp(-safe)
  surplus = (mean > least) & (remainder > 0)
  corrected = safe + jnp.log(jnp.where(surplus, remainder, 1))
  corrected = jnp.where(surplus, corrected, -jnp.inf)
  corrected -= jnp.log1p(-positive_prior)
  if upper_bound is not None:
    floor = (row.distances - upper_bound) / temperature
    corrected = jnp.maximum(corrected, floor)
  count = jnp.sum(row.negatives)
  against = corrected + jnp.log(jnp.where(count > 0, count, 1))
  positives = has_negatives * row.positives
  return {"softmax": make_terms(jax.nn.softplus(against), positives)}


def _floor_of_similarity(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  """Fills in the largest distance under metric and normalization, if any."""
  if hyper["upper_bound"] is not None:
    return hyper
  return {**hyper, "upper_bound": METRICS[metric].bound(normalize, dim)}


def nca_loss(
  row: Row, *, scale: Positive = 1.0, expected: bool = False
) -> Parts:
  """Neighborhood components: -log Σ_{j in P(i)} p_ij, p = softmax of -scale·D.

  One term for each anchor that has a positive. D is squared L2 by default, and
  `scale` is in units of 1/D. `expected` gives -Σ_{j in P(i)} p_ij, the original
  objective: the negative of the expected number of correct neighbors.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> nca_loss(row)["softmax"].total  # log 3
  Array(1.0986123, dtype=float32)

  Source: Goldberger et al., NIPS 2004, equations 3 (expected) and 6, negated.
  The default is a mean over anchors; the paper sums.
  """
  logits = -scale * row.distances
  same = weighted_logsumexp(logits, row.positives)
  log_normalizer = weighted_logsumexp(logits, row.positives + row.negatives)
  has_positives = exists(row.positives)
  value = jnp.where(has_positives > 0, log_normalizer - same, 0)
  if expected:
    value = -jnp.exp(-value)
  return {"softmax": make_terms(value, has_positives)}


def soft_nn_loss(row: Row, *, temperature: Positive = 1.0) -> Parts:
  """Soft nearest neighbors: -log( Σ_P e^{-D/τ} / Σ_{k≠i} e^{-D/τ} ).

  This is `nca` with scale 1/τ. D is squared L2 by default. τ is in units of D
  and is not learned.

  >>> row = Row(jnp.array([0.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> soft_nn_loss(row)["softmax"].total  # log 3
  Array(1.0986123, dtype=float32)

  Source: Salakhutdinov and Hinton 2007; Frosst, Papernot, Hinton 2019 (arXiv
  1902.01889), equation 1.
  """
  return nca_loss(row, scale=1 / temperature)


SOFTMAX_LOSSES: dict[str, Loss] = {
  "nca": Loss(
    nca_loss,
    metric="squared_l2",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("expected",),
    scaled={"scale": -1},
    search={"scale": SCALE},
    source="Goldberger et al., NIPS 2004, equation 6",
  ),
  "soft_nn": Loss(
    soft_nn_loss,
    metric="squared_l2",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="Frosst, Papernot, Hinton 2019, arXiv 1902.01889, equation 1",
  ),
  "infonce": Loss(
    infonce_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("symmetric",),
    scaled={"temperature": 1},
    pairing=two_views,
    two_views=True,
    search={"temperature": TEMPERATURE},
    source="van den Oord, Li, Vinyals 2018, arXiv 1807.03748, equation 4",
  ),
  "ntxent": Loss(
    ntxent_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    pairing=joined_views,
    two_views=True,
    search={"temperature": TEMPERATURE},
    source="Chen et al. 2020, arXiv 2002.05709, equation 1",
  ),
  "infonce_per_pair": Loss(
    infonce_per_pair_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="the pair form of InfoNCE with labels",
  ),
  "infonce_all": Loss(
    infonce_all_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="the pair terms of Khosla et al. 2020, arXiv 2004.11362",
  ),
  "supcon": Loss(
    supcon_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="Khosla et al. 2020, arXiv 2004.11362, equation 2",
  ),
  "dcl": Loss(
    dcl_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="Yeh et al. 2021, arXiv 2110.06848, L_DC",
  ),
  "debiased": Loss(
    debiased_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1, "upper_bound": 1},
    fill_defaults=_floor_of_similarity,
    search={"temperature": TEMPERATURE, "positive_prior": Range(0.0, 0.5)},
    source="Chuang et al. 2020, arXiv 2007.00224, section 4",
  ),
  "hard_negative": Loss(
    hard_negative_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1, "upper_bound": 1},
    fill_defaults=_floor_of_similarity,
    search={"temperature": TEMPERATURE, "concentration": Range(0.0, 2.0)},
    source="Robinson et al. 2021, arXiv 2010.04592, section 3",
  ),
}
