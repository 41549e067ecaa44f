"""Losses of tuples: a pair against one item, or all items, of each other class.

A softmax over a positive and the negatives of its tuple.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from metric_learning.distances import safe_sqrt
from metric_learning.intervals import NotNegative, Positive, RightAngle
from metric_learning.losses.arrangements import first_pairs
from metric_learning.losses.base import SIMILARITIES, Context, Loss
from metric_learning.losses.search import ANGLE, CLASSIFIER_SCALE, WEIGHT
from metric_learning.losses.softmax import pair_terms, softmax_terms
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  make_terms,
  weighted_logsumexp,
)

DEGREES_5_73 = math.radians(5.73)


def npair_loss(
  row: Row, context: Context, *, regularization: NotNegative = 0.002
) -> Parts:
  """N-pair: log(1 + Σ_{j≠i} e^{x_i·x_j' - x_i·x_i'}), one pair of each class.

  The pair is the first two items of the class in the batch. The separate part
  "regularization" is λ (`regularization`) times the mean over pairs of
  ½(|x|² + |x'|²).

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> norms = Context(own=jnp.array(1.0), shared=jnp.array([3.0, 5.0]))
  >>> parts = npair_loss(row, norms, regularization=0.5)
  >>> [float(part.total) for part in parts.values()]  # log 2, ½(1 + 3)
  [0.6931471824645996, 2.0]

  Source: Sohn, NIPS 2016, equation 6 and section 3.2.3. Here λ multiplies ½|x|²
  of both points of a pair; the paper leaves this open. The loss is not
  symmetrized.
  """
  norms = regularization * (context.own + context.shared)
  return {
    "softmax": softmax_terms(-row.distances, row.positives, row.negatives),
    "regularization": make_terms(norms, row.positives),
  }


def _half_squares(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  half = lambda side: jnp.sum(side.embeddings**2, axis=1) / 2
  return Context(own=half(anchors), shared=half(candidates))


def tuplet_margin_loss(
  row: Row, *, margin: RightAngle = DEGREES_5_73, scale: Positive = 64.0
) -> Parts:
  """Tuplet margin: log(1 + Σ_{n in N(a)} e^{S(cosθ_an - cos(θ_ap - β))}).

  One term for each positive; the margin β is in radians. Without negatives, a
  pair is a term of value 0.

  >>> row = Row(jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> tuplet_margin_loss(row, margin=0.0)["softmax"].total  # log(1 + 2)
  Array(1.0986123, dtype=float32)

  Source: Yu and Tao, ICCV 2019. cos(θ - β) is computed as
  cosθ cos β + sinθ sin β, because an arccos would have an infinite slope at ±1.
  """
  cos = 1 - row.distances
  # This form of 1 - cos² does not subtract nearly equal numbers.
  sin = safe_sqrt(row.distances * (2 - row.distances))
  relaxed = cos * jnp.cos(margin) + sin * jnp.sin(margin)
  against = weighted_logsumexp(scale * cos, row.negatives)
  return {"softmax": pair_terms(scale * relaxed, against, row.positives)}


TUPLE_LOSSES: dict[str, Loss] = {
  "npair": Loss(
    npair_loss,
    metric="dot",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    pairing=first_pairs,
    one_pair=True,
    context=_half_squares,
    absolute="e^{-D} halves over a distance that no hyperparameter scales",
    search={"regularization": WEIGHT},
    source="Sohn, NIPS 2016, equation 6",
  ),
  "tuplet_margin": Loss(
    tuplet_margin_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    search={"margin": ANGLE, "scale": CLASSIFIER_SCALE},
    source="Yu and Tao, ICCV 2019",
  ),
}
