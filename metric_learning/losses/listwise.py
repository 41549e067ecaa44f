"""Listwise losses: an anchor, its positives and all its negatives at once.

The softmax family and lifted structure are in separate files.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError
from metric_learning.intervals import (
  Cosine,
  NotNegative,
  Number,
  Positive,
  Real,
  Share,
)
from metric_learning.losses.base import DISTANCES, SIMILARITIES, Loss
from metric_learning.losses.lifted import LIFTED_LOSSES
from metric_learning.losses.search import (
  CLASSIFIER_SCALE,
  COSINE,
  MARGIN,
  SCALE,
  TEMPERATURE,
)
from metric_learning.losses.softmax import SOFTMAX_LOSSES, softmax_terms
from metric_learning.losses.tuples import TUPLE_LOSSES
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
from metric_learning.signatures import OneOf

# --- Weighted sums over positives and negatives ------------------------------


def multi_similarity_loss(
  row: Row,
  *,
  alpha: Positive = 2.0,
  beta: Positive = 50.0,
  base: Cosine = 0.5,
) -> Parts:
  """Multi-similarity: log(1 + Σ_P e^{-α(s-λ)})/α + log(1 + Σ_N e^{β(s-λ)})/β.

  One term for each anchor; a side without candidates adds 0. The base λ is a
  cosine.

  >>> row = Row(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> multi_similarity_loss(row, alpha=1.0, beta=1.0)["anchor"].total  # 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Wang et al., CVPR 2019 (arXiv 1904.06627), without its miner.
  """
  above = 1 - row.distances - base
  pull = weighted_logsumexp(-alpha * above, row.positives)
  push = weighted_logsumexp(beta * above, row.negatives)
  value = jax.nn.softplus(pull) / alpha + jax.nn.softplus(push) / beta
  return {"anchor": make_terms(value, exists(row.weight))}


def circle_loss(
  row: Row, *, margin: Share = 0.4, gamma: Positive = 80.0
) -> Parts:
  """Circle: log(1 + Σ_N e^{γ a_n (s - m)} · Σ_P e^{-γ a_p (s - 1 + m)}).

  a_p = [1 + m - s]+ and a_n = [s + m]+ have no gradient. One term for each
  anchor that has positives and negatives; the margin is a cosine.

  >>> row = Row(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> circle_loss(row, margin=0.5)["anchor"].total  # log(1 + 1)
  Array(0.6931472, dtype=float32)

  Source: Sun et al., CVPR 2020 (arXiv 2002.10857), equation 6 with O_p = 1 + m,
  O_n = -m, Δ_p = 1 - m, Δ_n = m.
  """
  s = 1 - row.distances
  from_positive = jax.lax.stop_gradient(jax.nn.relu(1 + margin - s))
  from_negative = jax.lax.stop_gradient(jax.nn.relu(s + margin))
  pull = weighted_logsumexp(
    -gamma * from_positive * (s - 1 + margin), row.positives
  )
  push = weighted_logsumexp(gamma * from_negative * (s - margin), row.negatives)
  both = exists(row.positives) * exists(row.negatives)
  value = jax.nn.softplus(jnp.where(both > 0, pull + push, 0))
  return {"anchor": make_terms(value, both)}


def _mean_violation(
  violations: Array, weights: Array, temperature: Number
) -> Float[Array, ""]:
  """Mean of the violations v > 0, whose weights e^{T v} have no gradient."""
  violated = (violations > 0) & (weights > 0)
  exponents = jnp.where(violated, temperature * violations, -jnp.inf)
  top = jnp.max(exponents, initial=-jnp.inf)
  shifted = exponents - jnp.where(jnp.isneginf(top), 0, top)
  weights = jax.lax.stop_gradient(weights * jnp.exp(shifted))
  total = jnp.sum(jnp.where(violated, weights * violations, 0))
  return ratio(total, jnp.sum(weights))


def ranked_list_loss(
  row: Row,
  *,
  margin: NotNegative = 0.4,
  center: NotNegative = 1.0,
  positive_temperature: NotNegative = 0.0,
  negative_temperature: NotNegative = 10.0,
  balance: Share = 0.5,
) -> Parts:
  """Ranked list: (1 - λ)·mean of [D_ap - (α - m)]+ + λ·mean of [α - D_an]+.

  The threshold is α = c + m/2 for negatives and α - m = c - m/2 for positives,
  both at m/2 from the `center` c. The means are over violations v > 0, with
  weights e^{T v} that have no gradient; a mean over no violations is 0. One
  term for each anchor. The margin m and the center are in units of the
  distance, the temperatures T are in units of 1/D, and λ is `balance`.

  >>> row = Row(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> terms = ranked_list_loss(row, margin=0.5)["anchor"]  # α = 1.25
  >>> terms.total  # ½(1 - .75) + ½(1.25 - 1)
  Array(0.25, dtype=float32)

  Source: Wang et al., CVPR 2019 (arXiv 1903.03238), with c = 1. Unlike in
  pytorch-metric-learning, a negative at distance 0 counts, and the weights have
  no gradient.
  """
  pull = _mean_violation(
    row.distances - (center - margin / 2), row.positives, positive_temperature
  )
  push = _mean_violation(
    center + margin / 2 - row.distances, row.negatives, negative_temperature
  )
  value = (1 - balance) * pull + balance * push
  return {"anchor": make_terms(value, exists(row.weight))}


# --- Binary classification of single candidates -----------------------------


def siglip_loss(
  row: Row,
  *,
  scale: Positive = 10.0,
  bias: Real = -10.0,
  similarity: Annotated[str, OneOf(("cosine", "dot"))] | None = None,
) -> Parts:
  """Sigmoid loss: Σ_j -log σ(z_j (t·s_j + b)), z = 1 for positives, else -1.

  One term for each anchor, which is the sum over its candidates. The scale t
  (its logarithm) and the bias b are learned. The `similarity` is "cosine"
  (s = 1 - D) or "dot" (s = -D); an objective takes that of its metric.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> siglip_loss(row)["anchor"].total  # t + b = 0: 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Zhai et al., ICCV 2023 (arXiv 2303.15343), section 3.2.
  """
  shift = 0 if similarity == "dot" else 1
  logits = scale * (shift - row.distances) + bias
  with on_the_way():
    same = make_terms(jax.nn.softplus(-logits), row.positives)
    different = make_terms(jax.nn.softplus(logits), row.negatives)
  value = same.total + different.total
  return {"anchor": make_terms(value, exists(row.weight))}


def _similarity_of_metric(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  similarity = hyper["similarity"] or metric
  if similarity != metric:
    raise InputError(
      f"siglip with similarity={similarity!r} needs metric={similarity!r}; got"
      f" metric={metric!r}."
    )
  return {**hyper, "similarity": similarity}


def nce_terms(
  data: Float[Array, " p"],
  noise: Float[Array, " k"],
  data_weights: Float[Array, " p"],
  noise_weights: Float[Array, " k"],
) -> Terms:
  """-log σ(l_p) - Σ_k log(1 - σ(l_k)) of each datum p.

  The sum over all noise samples k is divided equally among the data.
  """
  with on_the_way():
    noise_total = make_terms(jax.nn.softplus(noise), noise_weights).total
  share = ratio(noise_total, jnp.sum(data_weights))
  return make_terms(jax.nn.softplus(-data) + share, data_weights)


def nce_from_logits(
  data: Float[Array, " n"], noise: Float[Array, "n k"]
) -> Float[Array, ""]:
  """Noise-contrastive estimation: mean of -log σ(l) - Σ_k log(1 - σ(l̃_k)).

  The logits are l(u) = log p(u) - log(k q(u)), with k noise samples per datum.

  >>> nce_from_logits(jnp.zeros(3), jnp.zeros((3, 1)))  # p = q, k = 1: 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Gutmann and Hyvärinen, JMLR 2012, negated; there k is called ν, the
  ratio of noise to data. Their paper at AISTATS 2010 has as much noise as data.
  """
  terms = nce_terms(
    data, noise.ravel(), jnp.ones_like(data), jnp.ones_like(noise.ravel())
  )
  return ratio(terms.total, terms.count)


def nce_loss(
  row: Row, *, temperature: Positive = 1.0, log_partition: Real = 0.0
) -> Parts:
  """Noise-contrastive estimation of which candidates belong to an anchor.

  The model is log p(u) = -D/τ - log Z, where log Z is learned
  (`log_partition`). Positives are data, and negatives are noise, with q = 1/m
  for m candidates and k = #N/#P. One term for each (anchor, positive), with its
  k noise samples.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> nce_loss(row, log_partition=0.6931472)["nce"].total  # p = q: 2 log 2
  Array(1.3862944, dtype=float32)

  Source: Gutmann and Hyvärinen, JMLR 2012. We chose to separate data from noise
  by labels. The estimator itself is `nce_from_logits`.
  """
  number = lambda weights: jnp.sum(weights)
  positives, negatives = number(row.positives), number(row.negatives)
  noise_rate = ratio(negatives, positives) / jnp.maximum(
    positives + negatives, jnp.finfo(row.distances.dtype).tiny
  )
  has_noise = noise_rate > 0
  offset = log_partition + jnp.log(jnp.where(has_noise, noise_rate, 1))
  logits = -row.distances / temperature - offset
  terms = nce_terms(logits, logits, row.positives, row.negatives)
  # Without noise there is nothing to distinguish the data from.
  return {"nce": jax.tree.map(lambda x: jnp.where(has_noise, x, 0), terms)}


LISTWISE_LOSSES: dict[str, Loss] = {
  **LIFTED_LOSSES,
  **SOFTMAX_LOSSES,
  **TUPLE_LOSSES,
  "multi_similarity": Loss(
    multi_similarity_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    needs_positives=False,
    search={"beta": SCALE, "base": COSINE},
    source="Wang et al., CVPR 2019, arXiv 1904.06627",
  ),
  "circle": Loss(
    circle_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    search={"margin": COSINE, "gamma": CLASSIFIER_SCALE},
    source="Sun et al., CVPR 2020, arXiv 2002.10857, equation 6",
  ),
  "ranked_list": Loss(
    ranked_list_loss,
    metric="l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    scaled={
      "margin": 1,
      "center": 1,
      "positive_temperature": -1,
      "negative_temperature": -1,
    },
    needs_positives=False,
    search={"margin": MARGIN, "negative_temperature": SCALE},
    source="Wang et al., CVPR 2019, arXiv 1903.03238",
  ),
  "siglip": Loss(
    siglip_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine", "dot"),
    static=("similarity",),
    learned={"scale": "positive", "bias": "real"},
    fill_defaults=_similarity_of_metric,
    needs_positives=False,
    source="Zhai et al., ICCV 2023, arXiv 2303.15343",
  ),
  "nce": Loss(
    nce_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    learned={"log_partition": "real"},
    scaled={"temperature": 1},
    search={"temperature": TEMPERATURE},
    source="Gutmann and Hyvärinen, JMLR 2012",
  ),
}

__all__ = ["LISTWISE_LOSSES", "nce_from_logits", "softmax_terms"]
