"""The angular loss, from inner products among three points."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.intervals import AcuteAngle
from metric_learning.losses.base import Loss
from metric_learning.losses.over_positives import over_positive_rows
from metric_learning.losses.search import Range
from metric_learning.rows import (
  Parts,
  Row,
  Terms,
  make_terms,
  weighted_logsumexp,
)

FORTY_DEGREES = math.radians(40)


@over_positive_rows
def _pair_terms(
  positive_distance: Array, row: Row, positive_row: Array, angle: Array
) -> Terms:
  """log(1 + Σ_n e^{z_n}) of one positive; inner products are 1 - distance."""
  tangent = jnp.tan(angle) ** 2
  across = (1 - row.distances) + (1 - positive_row)
  within = 1 - positive_distance
  logits = 4 * tangent * across - 2 * (1 + tangent) * within
  push = weighted_logsumexp(logits, row.negatives)
  has_negatives = push > -jnp.inf
  value = jax.nn.softplus(jnp.where(has_negatives, push, 0))
  value = jnp.where(has_negatives, value, 0)
  return make_terms(value, jnp.ones_like(positive_distance))


def angular_loss(
  rows: Row,
  embeddings: Array,
  distance: Callable[[Array, Array], Array],
  *,
  angle: AcuteAngle = FORTY_DEGREES,
) -> Parts:
  """Angular: log(1 + Σ_n exp(4t(x_a + x_p)·x_n - 2(1 + t)x_a·x_p)), t = tan²α.

  One term for each positive pair; α (`angle`) is in radians. Inner products are
  cosines. Without negatives, a pair is a term of value 0. Reverse mode only.

  >>> from metric_learning.distances import pairwise
  >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])  # x_a = x_p = (1, 0)
  >>> rows = Row(jnp.array([[0.0, 1.0]]), jnp.array([[1.0, 0.0]]),
  ...            jnp.array([[0.0, 1.0]]), jnp.ones(1), jnp.zeros(1, int))
  >>> cosine = lambda x, y: pairwise("cosine", x, y)
  >>> angular_loss(rows, x, cosine, angle=0.0)["pair"].total  # log(1 + e⁻²)
  Array([0.126928], dtype=float32)

  Source: Wang et al., ICCV 2017 (arXiv 1708.01682), equations 7 and 8.
  pytorch-metric-learning does not normalize x_n; here all points have norm 1.
  """
  return {"pair": _pair_terms(rows, embeddings, distance, angle)}


ANGULAR_LOSSES: dict[str, Loss] = {
  "angular": Loss(
    angular_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    batched=True,
    search={"angle": Range(math.radians(5), math.radians(85))},
    source="Wang et al., ICCV 2017, arXiv 1708.01682, equation 8",
  ),
}
