"""Losses of two views: the batch and the references, or two items of a class.

A label identifies a pair: it occurs once in each view, or twice in the batch. A
label that occurs more often is an error, and under jit makes the value NaN.
Items without a partner do not count.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metric_learning.distances import safe_sqrt
from metric_learning.intervals import NotNegative, Positive
from metric_learning.losses.arrangements import two_views
from metric_learning.losses.base import Context, Loss
from metric_learning.losses.search import CLASSIFIER_SCALE, SCALE, WEIGHT
from metric_learning.losses.softmax import softmax_terms
from metric_learning.rows import Parts, Points, Row, make_terms


def _first_meets_second(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  return two_views(params, points, references)


def instance_loss(row: Row, *, gamma: Positive = 64.0) -> Parts:
  """Instance loss: cross-entropy of γ·s_ij; i's class is its other view.

  Candidates are the items of the other view only, so that this is `infonce`
  with γ = 1/τ.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> instance_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Zheng et al. 2020 (arXiv 1711.05535). pytorch-metric-learning takes
  class labels as positions in the batch, and also compares each item with
  itself.
  """
  logits = -gamma * row.distances
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


# --- Statistics of the batch ------------------------------------------------


class _Pairs(NamedTuple):
  """Both views of each anchor, which anchors have both, and how many do.

  number: at least 2, since it is a divisor.
  """

  first: Float[Array, "n d"]
  second: Float[Array, "n d"]
  weight: Float[Array, " n"]
  number: Float[Array, ""]


def _partners(
  anchors: Points, candidates: Points
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
  """For each anchor, its first candidate of the same label, and 1 if it exists.

  The search is in sorted labels; rows of all anchors would be n * m numbers.
  """
  labels = candidates.labels + 0  # Booleans become integers.
  padding = jnp.iinfo(labels.dtype).max
  labels = jnp.where(candidates.weight > 0, labels, padding)
  order = jnp.argsort(labels, stable=True)
  place = jnp.searchsorted(labels[order], anchors.labels)
  index = order[jnp.minimum(place, labels.shape[0] - 1)]
  exists = candidates.weight[index] > 0
  exists &= (anchors.weight > 0) & (labels[index] == anchors.labels)
  return index, exists.astype(anchors.weight.dtype)


def _pairs(anchors: Points, candidates: Points) -> _Pairs:
  """Each anchor with its positive, if there are at least two such pairs."""
  index, weight = _partners(anchors, candidates)
  # A single pair has no variance.
  weight = jnp.where(jnp.sum(weight) > 1, weight, 0)
  first, second = anchors.embeddings, candidates.embeddings[index]
  # Without pairs all sums are 0, and 0 / 2 is 0.
  return _Pairs(first, second, weight, jnp.maximum(jnp.sum(weight), 2))


def _centered(view: Float[Array, "n d"], pairs: _Pairs) -> Float[Array, "n d"]:
  """The view minus its mean; zeros outside the pairs."""
  weight = pairs.weight[:, None]
  return weight * (view - jnp.sum(weight * view, axis=0) / pairs.number)


def _product(x: Array, y: Array) -> Array:
  return jnp.matmul(x.T, y, precision=jax.lax.Precision.HIGHEST)


def _off_diagonal(matrix: Float[Array, "d d"]) -> Float[Array, ""]:
  """Σ_{j≠k} m_jk²"""
  return jnp.sum(
    jnp.where(jnp.eye(matrix.shape[0], dtype=bool), 0, matrix) ** 2
  )


def _vicreg_statistics(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  pairs = _pairs(anchors, candidates)

  def spread(view: Array) -> tuple[Array, Array]:
    view = _centered(view, pairs)
    covariance = _product(view, view) / (pairs.number - 1)
    deviation = jnp.sqrt(jnp.diagonal(covariance) + 1e-4)
    floor = jnp.mean(jax.nn.relu(1 - deviation))
    return floor, _off_diagonal(covariance) / view.shape[1]

  (floor, correlated), (second_floor, second_correlated) = map(
    spread, (pairs.first, pairs.second)
  )
  squared = jnp.mean((pairs.first - pairs.second) ** 2, axis=1)
  return Context(
    own=(squared, pairs.weight),
    shared=((floor + second_floor) / 2, correlated + second_correlated),
  )


def vicreg_loss(
  row: Row,
  context: Context,
  *,
  invariance: NotNegative = 25.0,
  variance: NotNegative = 25.0,
  covariance: NotNegative = 1.0,
) -> Parts:
  """VICReg: λ·mean (z - z')² + μ·½(v(z) + v(z')) + ν·(c(z) + c(z')).

  v = mean_j [1 - √(var_j + 1e-4)]+ and c = Σ_{j≠k} cov_jk² / d. Variances and
  covariances are over the n pairs of the batch, divided by n - 1. With fewer
  than two pairs there is no term. The three summands are three parts.
  Embeddings are not normalized.

  >>> row = Row(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.array(1.0),
  ...           jnp.array(0))
  >>> context = Context(own=(jnp.array(0.1), jnp.array(1.0)),
  ...                   shared=(jnp.array(0.2), jnp.array(0.5)))
  >>> parts = vicreg_loss(row, context)  # 25 · .1, 25 · .2, .5
  >>> [round(float(part.total), 4) for part in parts.values()]
  [2.5, 5.0, 0.5]

  Source: Bardes, Ponce, LeCun, ICLR 2022 (arXiv 2105.04906), equation 6. The
  mean over dimensions of (z - z')² and the ½ are those of the authors' code.
  """
  (squared, weight), (floor, correlated) = context.own, context.shared
  return {
    "invariance": make_terms(invariance * squared, weight),
    "variance": make_terms(variance * floor, weight),
    "covariance": make_terms(covariance * correlated, weight),
  }


# Added to each standard deviation: a constant dimension has correlation 0.
_DEVIATION_FLOOR = 1e-6


def _cross_correlation(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  pairs = _pairs(anchors, candidates)

  def standardized(view: Array) -> Array:
    view = _centered(view, pairs)
    deviation = safe_sqrt(jnp.sum(view**2, axis=0) / pairs.number)
    return view / (deviation + _DEVIATION_FLOOR)

  first, second = standardized(pairs.first), standardized(pairs.second)
  correlation = _product(first, second) / pairs.number
  diagonal = jnp.sum((1 - jnp.diagonal(correlation)) ** 2)
  return Context(
    own=pairs.weight, shared=(diagonal, _off_diagonal(correlation))
  )


def barlow_loss(
  row: Row, context: Context, *, off_diagonal: NotNegative = 0.005
) -> Parts:
  """Barlow Twins: Σ_j (1 - C_jj)² + λ Σ_{j≠k} C_jk².

  C is the correlation of each dimension of one view with each dimension of the
  other view, over the pairs of the batch. With fewer than two pairs there is no
  term. The two sums are two parts.

  >>> row = Row(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), jnp.array(1.0),
  ...           jnp.array(0))
  >>> context = Context(own=jnp.array(1.0), shared=jnp.array([3.0, 2.0]))
  >>> parts = barlow_loss(row, context, off_diagonal=0.5)  # 3, ½ · 2
  >>> [float(part.total) for part in parts.values()]
  [3.0, 1.0]

  Source: Zbontar et al., ICML 2021 (arXiv 2103.03230), equations 1 and 2, with
  1e-6 added to each standard deviation.
  """
  diagonal, others = context.shared
  return {
    "diagonal": make_terms(diagonal, context.own),
    "off_diagonal": make_terms(off_diagonal * others, context.own),
  }


VIEW_LOSSES: dict[str, Loss] = {
  "instance": Loss(
    instance_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    pairing=_first_meets_second,
    two_views=True,
    search={"gamma": CLASSIFIER_SCALE},
    source="Zheng et al. 2020, arXiv 1711.05535",
  ),
  "vicreg": Loss(
    vicreg_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=(),
    pairing=_first_meets_second,
    two_views=True,
    context=_vicreg_statistics,
    search={"invariance": SCALE, "variance": SCALE},
    source="Bardes, Ponce, LeCun, ICLR 2022, arXiv 2105.04906, equation 6",
  ),
  "barlow": Loss(
    barlow_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=(),
    pairing=_first_meets_second,
    two_views=True,
    context=_cross_correlation,
    search={"off_diagonal": WEIGHT},
    source="Zbontar et al., ICML 2021, arXiv 2103.03230, equation 1",
  ),
}
