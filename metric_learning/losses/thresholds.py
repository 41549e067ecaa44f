"""Pair losses around a threshold that is learned or shared by the batch."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import Cosine, NotNegative
from metric_learning.losses.base import DISTANCES, Context, Loss
from metric_learning.losses.search import COSINE, MARGIN
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  Terms,
  add_terms,
  make_terms,
  reduce_terms,
)
from metric_learning.signatures import OneOf

_OVER = OneOf(("pairs", "triplets"))


def margin_loss(
  row: Row,
  *,
  alpha: NotNegative = 0.2,
  beta: NotNegative = 1.2,
  nu: NotNegative = 0.0,
  learn_beta: bool = True,
  per_class: bool = False,
  over: Annotated[str, _OVER] = "pairs",
) -> Parts:
  """Margin loss: [α + D_ip - β]+ and [α + β - D_in]+ around a threshold β.

  α and β are in units of the distance. β is learned, starting from the given
  value: a single one, or with `per_class` one for each class 0..C-1 of the
  anchor. The separate part "regularization" is ν·β, averaged over the anchors
  that have a term. With `over="triplets"`, a pair counts once for each triplet
  that contains it.

  >>> row = Row(jnp.array([1.5, 1.25]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> margin_loss(row, alpha=0.5, beta=1.25)["pair"].total  # .75 + .5
  Array(1.25, dtype=float32)

  Source: Wu, Manmatha, Smola, Krähenbühl, ICCV 2017 (arXiv 1706.07567),
  equations 5 and 7. pytorch-metric-learning counts over triplets. It sums ν·β_c
  over triplets and divides by the number of active terms; here it is a mean.
  """
  threshold = beta if jnp.ndim(beta) == 0 else jnp.asarray(beta)[row.label]
  positives, negatives = row.positives, row.negatives
  if over == "triplets":
    positives, negatives = (
      positives * jnp.sum(negatives),
      negatives * jnp.sum(positives),
    )
  near = make_terms(jax.nn.relu(alpha + row.distances - threshold), positives)
  far = make_terms(jax.nn.relu(alpha + threshold - row.distances), negatives)
  terms = add_terms(near, far)
  weight = jnp.sum(positives) if over == "triplets" else terms.count > 0
  weight = jnp.asarray(weight, row.distances.dtype)
  # The threshold of an anchor is always an active term, whatever its sign.
  penalty = jnp.where(weight > 0, weight * nu * threshold, 0)
  return {"pair": terms, "regularization": Terms(*(penalty, weight) * 2)}


def _init_thresholds(
  key: Array,
  num_classes: int | None,
  dim: int | None,
  *,
  beta: NotNegative = 1.2,
  learn_beta: bool = True,
  per_class: bool = False,
) -> dict[str, Array]:
  if not (learn_beta and per_class):
    return {}
  if num_classes is None:
    raise InputError(
      "margin with per_class=True learns a threshold for each class: call"
      " init(key, num_classes=…)."
    )
  return {"beta": jnp.full(num_classes, beta, float)}


def _check_over(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  check_choice("margin: over", hyper["over"], _OVER)
  return hyper


def intra_pair_variance_loss(
  row: Row,
  context: Context,
  *,
  positive_epsilon: NotNegative = 0.01,
  negative_epsilon: NotNegative = 0.01,
) -> Parts:
  """Intra-pair variance: [(1 - ε_p)·s̄_p - s_ip]+², [s_in - (1 + ε_n)·s̄_n]+².

  s̄_p and s̄_n are the mean cosines of all positive and of all negative pairs of
  the batch, and have a gradient. The loss is 0 on a collapsed batch, so use it
  only in addition to another loss.

  >>> row = Row(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> means = Context(shared=(jnp.array(1.0), jnp.array(0.0)))
  >>> parts = intra_pair_variance_loss(row, means, positive_epsilon=0.25)
  >>> [float(part.total) for part in parts.values()]  # (.75 - .5)², .5²
  [0.0625, 0.25]

  Source: Yu and Tao, ICCV 2019, equation 8.
  """
  s = 1 - row.distances
  positive, negative = context.shared
  near = jax.nn.relu((1 - positive_epsilon) * positive - s) ** 2
  far = jax.nn.relu(s - (1 + negative_epsilon) * negative) ** 2
  return {
    "positive": make_terms(near, row.positives),
    "negative": make_terms(far, row.negatives),
  }


def _mean_cosines(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  def cosines(row: Row) -> tuple[Terms, Terms]:
    s = 1 - row.distances
    return make_terms(s, row.positives), make_terms(s, row.negatives)

  sides = over_anchors(cosines)
  return Context(shared=tuple(reduce_terms(side, "mean") for side in sides))


def tcm_loss(
  row: Row,
  *,
  positive_weight: NotNegative = 1.0,
  negative_weight: NotNegative = 1.0,
  positive_margin: Cosine = 0.9,
  negative_margin: Cosine = 0.5,
) -> Parts:
  """Threshold-consistent margin: m+ - s_p if s_p <= m+, s_n - m- if m- <= s_n.

  Each of the two parts is a mean and has a weight (`positive_weight`,
  `negative_weight`). Margins are cosines. Use it in addition to another loss.

  >>> row = Row(jnp.array([0.5, 0.25]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> parts = tcm_loss(row, positive_margin=1.0)
  >>> [float(part.total) for part in parts.values()]  # 1 - .5, .75 - .5
  [0.5, 0.25]

  Source: Zhang et al. 2023 (arXiv 2307.04047), equation 4.
  """
  s = 1 - row.distances
  near = jnp.where(s <= positive_margin, row.positives, 0)
  far = jnp.where(s >= negative_margin, row.negatives, 0)
  return {
    "positive": make_terms(positive_weight * (positive_margin - s), near),
    "negative": make_terms(negative_weight * (s - negative_margin), far),
  }


THRESHOLD_LOSSES: dict[str, Loss] = {
  "margin": Loss(
    margin_loss,
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    static=("learn_beta", "per_class", "over"),
    learned={"beta": "real"},
    scaled={"alpha": 1, "beta": 1},
    fill_defaults=_check_over,
    init=_init_thresholds,
    needs_positives=False,
    search={"alpha": MARGIN, "beta": MARGIN},
    source="Wu et al., ICCV 2017, arXiv 1706.07567, equation 5",
  ),
  "intra_pair_variance": Loss(
    intra_pair_variance_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    context=_mean_cosines,
    needs_positives=False,
    search={"positive_epsilon": COSINE, "negative_epsilon": COSINE},
    source="Yu and Tao, ICCV 2019, equation 8",
  ),
  "tcm": Loss(
    tcm_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    needs_positives=False,
    search={"negative_margin": COSINE, "positive_margin": COSINE},
    source="Zhang et al. 2023, arXiv 2307.04047, equation 4",
  ),
}
