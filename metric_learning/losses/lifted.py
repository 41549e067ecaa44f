"""Lifted structure losses: a positive pair against the negatives of both ends.

Margins are in units of the distance.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.intervals import NotNegative, Number
from metric_learning.losses.base import DISTANCES, Context, Loss
from metric_learning.losses.search import MARGIN
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  exists,
  make_terms,
  nearest,
  weighted_logsumexp,
)


def _hardest(row: Row, margin: Number) -> Float[Array, ""]:
  """max over N of ε - D, or -inf without negatives; ties take the first."""
  negative = row.negatives > 0
  near = nearest(row.distances, negative)
  return jnp.where(jnp.any(negative), margin - row.distances[near], -jnp.inf)


def _all_negatives(row: Row, margin: Number) -> Float[Array, ""]:
  """log Σ over N of e^{ε - D}; -inf without negatives."""
  return weighted_logsumexp(margin - row.distances, row.negatives)


def _hardest_of_candidates(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  *,
  margin: NotNegative = 1.0,
) -> Context:
  return Context(shared=over_candidates(lambda row: _hardest(row, margin)))


def _all_of_candidates(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  *,
  margin: NotNegative = 1.0,
) -> Context:
  return Context(
    shared=over_candidates(lambda row: _all_negatives(row, margin))
  )


def _lifted_terms(row: Row, push: Array, positive_margin: Number) -> Parts:
  has_negatives = push > -jnp.inf
  push = jnp.where(has_negatives, push, 0)
  hinge = jax.nn.relu(row.distances - positive_margin + push)
  positives = jnp.where(has_negatives, row.positives, 0)
  return {"pair": make_terms(hinge**2 / 2, positives)}


def lifted_hard_loss(
  row: Row,
  context: Context,
  *,
  margin: NotNegative = 1.0,
  positive_margin: NotNegative = 0.0,
) -> Parts:
  """Lifted structure: ½[D_ij + max(ε - D_ik, ε - D_jl)]+² over k, l.

  k ranges over N(i), and l ranges over N(j). There is one term for each ordered
  positive pair, so that a mean equals the mean over unordered pairs, and a sum
  is twice the sum over unordered pairs. With references, l ranges over the
  references. With an affinity, l ranges over the anchors, because an affinity
  does not compare references with each other.

  >>> row = Row(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> context = Context(shared=jnp.array([0.0, -jnp.inf]))
  >>> lifted_hard_loss(row, context)["pair"].total  # ½(1 + max(-1, 0))²
  Array(0.5, dtype=float32)

  Source: Oh Song et al., CVPR 2016 (arXiv 1511.06452), equation 3. The positive
  margin, which is subtracted from D_ij, is our addition.
  """
  push = jnp.maximum(_hardest(row, margin), context.shared)
  return _lifted_terms(row, push, positive_margin)


def lifted_loss(
  row: Row,
  context: Context,
  *,
  margin: NotNegative = 1.0,
  positive_margin: NotNegative = 0.0,
) -> Parts:
  """Smooth lifted structure: ½[D_ij + log(Σ_k e^{ε-D_ik} + Σ_l e^{ε-D_jl})]+².

  An upper bound of `lifted_hard`, with the same pairs.

  >>> row = Row(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> context = Context(shared=jnp.array([-jnp.inf, -jnp.inf]))
  >>> lifted_loss(row, context)["pair"].total  # ½(1 + log e⁰)²
  Array(0.5, dtype=float32)

  Source: Oh Song et al., CVPR 2016 (arXiv 1511.06452), equation 4. The positive
  margin, which is subtracted from D_ij, is our addition.
  """
  first, second = _all_negatives(row, margin), context.shared
  both = (first > -jnp.inf) & (second > -jnp.inf)
  # logaddexp of two -inf is -inf with gradient NaN.
  push = jnp.where(
    both,
    jnp.logaddexp(jnp.where(both, first, 0), jnp.where(both, second, 0)),
    jnp.maximum(first, second),
  )
  return _lifted_terms(row, push, positive_margin)


def lifted_generalized_loss(
  row: Row,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> Parts:
  """Generalized lifted structure: [LSE_P(D - m_pos) + LSE_N(m_neg - D)]+.

  One term for each anchor that has positives and negatives.

  >>> row = Row(jnp.array([1.0, 1.5]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> lifted_generalized_loss(row)["anchor"].total  # 1 + (1 - 1.5)
  Array(0.5, dtype=float32)

  Source: Hermans, Beyer, Leibe 2017 (arXiv 1703.07737), L_LG. The default is a
  mean over anchors; the paper sums. The positive margin is our addition.
  """
  pull = weighted_logsumexp(row.distances - positive_margin, row.positives)
  push = weighted_logsumexp(negative_margin - row.distances, row.negatives)
  both = exists(row.positives) * exists(row.negatives)
  value = jax.nn.relu(jnp.where(both > 0, pull + push, 0))
  return {"anchor": make_terms(value, both)}


_SOFT = "log Σ e^{ε - D} is soft over a distance of 1, which is never scaled"

LIFTED_LOSSES: dict[str, Loss] = {
  "lifted_hard": Loss(
    lifted_hard_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"margin": 1, "positive_margin": 1},
    context=_hardest_of_candidates,
    mirrored=True,
    recomputes_distances=True,
    search={"margin": MARGIN},
    source="Oh Song et al., CVPR 2016, equation 3",
  ),
  "lifted": Loss(
    lifted_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"margin": 1, "positive_margin": 1},
    absolute=_SOFT,
    context=_all_of_candidates,
    mirrored=True,
    recomputes_distances=True,
    search={"margin": MARGIN},
    source="Oh Song et al., CVPR 2016, equation 4",
  ),
  "lifted_generalized": Loss(
    lifted_generalized_loss,
    metric="l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"positive_margin": 1, "negative_margin": 1},
    absolute=_SOFT,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Hermans, Beyer, Leibe 2017, arXiv 1703.07737, L_LG",
  ),
}
