"""Ranking losses: the order of an anchor's candidates, made differentiable.

They use s = -D, so that every metric works. Temperatures are in units of the
distance. The histogram losses need the range of the distance.
"""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import METRICS
from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import (
  Natural,
  Number,
  Positive,
  check_rising,
)
from metric_learning.losses.base import SIMILARITIES, Context, Loss
from metric_learning.losses.histograms import Range, soft_histogram
from metric_learning.losses.over_positives import over_positives
from metric_learning.losses.search import BINS, WEIGHT
from metric_learning.rows import (
  Parts,
  Row,
  Terms,
  exists,
  make_terms,
  on_the_way,
  ratio,
)
from metric_learning.signatures import OneOf

# --- Soft histograms --------------------------------------------------------


def histogram_loss(row: Row, context: Context) -> Parts:
  """Histogram: Σ_r h⁻_r Σ_{q≥r} h⁺_q, an estimate of P(D⁻ <= D⁺).

  h⁺ and h⁻ are soft histograms of the distances of all positive and of all
  negative pairs of the batch. They sum to 1 and have `num_bins` equal bins on
  `value_range`, the range of the distance. An objective derives the range from
  metric and normalization: (0, 2) for cosine, which is s in [-1, 1]. The loss
  has one value for a batch, whatever the reduction: every anchor has this
  value, with equal weights that sum to 1. Without positives or without
  negatives there is no term.

  >>> row = Row(jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> batch = _histogram_of_batch(
  ...   lambda f: jax.tree.map(lambda x: x[None], f(row)), None, None, None,
  ...   num_bins=2, value_range=(0.0, 4.0))
  >>> histogram_loss(row, batch)["batch"].total  # (½, ½, 0) and (0, ½, ½)
  Array(0.25, dtype=float32)

  Source: Ustinova and Lempitsky, NIPS 2016 (arXiv 1611.00822), equations 2 to 4
  with s = -D, over all positive and negative pairs of the batch.
  """
  value, share = context.shared
  return {"batch": make_terms(value, share * row.weight)}


def _histogram_of_batch(
  over_anchors: Callable[..., Any],
  over_candidates: Any,
  anchors: Any,
  candidates: Any,
  *,
  num_bins: Natural = 100,
  value_range: Range | None = None,
) -> Context:
  def of_row(row: Row) -> tuple[Array, ...]:
    weights = row.positives, row.negatives
    return *(
      soft_histogram(row.distances, w, num_bins, value_range) for w in weights
    ), row.weight

  positive, negative, weight = (jnp.sum(x, 0) for x in over_anchors(of_row))
  number = jnp.sum(positive), jnp.sum(negative)
  beyond = jnp.cumsum(positive[::-1])[::-1]
  value = ratio(ratio(jnp.sum(negative * beyond), number[0]), number[1])
  both = (number[0] > 0) & (number[1] > 0)
  share = ratio(both.astype(weight.dtype), weight)
  return Context(shared=(value, share))


def fastap_loss(
  row: Row, *, num_bins: Natural = 10, value_range: Range | None = None
) -> Parts:
  """FastAP: 1 - (1/#P) Σ_b h⁺_b H⁺_b / H_b, average precision by histogram.

  h⁺ is the soft histogram of the positives over the edges of `num_bins` equal
  bins on `value_range`, the range of the distance. H⁺ and H are the cumulative
  histograms of the positives and of all candidates. An objective derives the
  range from metric and normalization. One term for each anchor that has a
  positive.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> fastap_loss(row, value_range=(0.0, 4.0))["anchor"].total  # 1 - ½
  Array(0.5, dtype=float32)

  Source: Cakir et al., CVPR 2019, with D² on the unit sphere.
  """
  positive, negative = (
    soft_histogram(row.distances, weights, num_bins, value_range)
    for weights in (row.positives, row.negatives)
  )
  hits = jnp.cumsum(positive)
  precision = ratio(hits, hits + jnp.cumsum(negative))
  value = 1 - ratio(jnp.sum(positive * precision), jnp.sum(row.positives))
  return {"anchor": make_terms(value, exists(row.positives))}


def _range_of_distance(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  """Fills in the range of the distance under metric and normalization."""
  value_range = hyper["value_range"]
  if value_range is None:
    bound = METRICS[metric].bound(normalize, dim)
    if bound is None:
      raise InputError(
        f"a histogram needs value_range, the range of the distance: {metric!r}"
        f" with normalize={normalize!r} has no known bound."
      )
    value_range = (0.0, bound)
  check_rising("value_range", value_range)
  return {**hyper, "value_range": tuple(value_range)}


# --- Soft ranks -------------------------------------------------------------


@over_positives
def _lost_precision(
  positive_distance: Array, row: Row, temperature: Array
) -> Terms:
  """1 - R_P / R of one positive."""
  nearer = jax.nn.sigmoid((positive_distance - row.distances) / temperature)
  among_positives = 1 + jnp.sum(row.positives * nearer)
  ahead = jnp.sum(row.negatives * nearer)
  value = ahead / (among_positives + ahead)
  return make_terms(value, jnp.ones_like(positive_distance))


def _with_self(row: Row) -> Row:
  """Adds the anchor as a positive at distance 0, if it has another positive."""
  self_weight = exists(row.positives)[None]
  return row._replace(
    distances=jnp.pad(row.distances, (1, 0)),
    positives=jnp.concatenate([self_weight, row.positives]),
    negatives=jnp.pad(row.negatives, (1, 0)),
  )


def smooth_ap_loss(
  row: Row, *, temperature: Positive = 0.01, include_self: bool = False
) -> Parts:
  """Smooth-AP: 1 - (1/#P) Σ_p R_P(p)/R(p), average precision by soft ranks.

  R_P = 1 + Σ_{q in P, q≠p} σ((s_q - s_p)/τ), R = R_P + Σ_N σ((s_n - s_p)/τ).
  One term for each anchor that has a positive. `include_self` counts the anchor
  itself as one more positive, at distance 0. A row of m candidates needs O(m)
  memory, in the gradient too. Reverse mode only.

  >>> row = Row(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> round(float(smooth_ap_loss(row)["anchor"].total), 6)  # 1 - 1/1.5
  0.333333

  Source: Brown et al., ECCV 2020 (arXiv 2007.12163). pytorch-metric-learning
  includes the anchor itself, and requires classes of equal size.
  """
  if include_self:
    row = _with_self(row)
  with on_the_way():
    sums = _lost_precision(row, temperature)
  value = ratio(sums.total, sums.count)
  return {"anchor": make_terms(value, exists(row.positives))}


VARIANTS = OneOf(("O", "Ds", "Dq", "Iu", "Ib"))


def penalty(
  rank: Float[Array, ""], variant: str, alpha: Number, b: Number
) -> Float[Array, ""]:
  """f(R) of `pnp`, for R negatives before a positive.

  >>> [round(float(penalty(jnp.array(1.0), v, 1.0, 2.0)), 4) for v in VARIANTS]
  [1.0, 0.6931, 0.5, 1.3863, 0.2253]
  """
  if variant == "O":
    return rank
  if variant == "Ds":
    return jnp.log1p(rank)
  if variant == "Dq":
    return 1 - (1 + rank) ** -alpha
  if variant == "Iu":
    return (1 + rank) * jnp.log1p(rank)
  return (b * rank - jnp.log1p(b * rank)) / b**2


def _penalties(variant: str) -> Callable[..., Terms]:
  @over_positives
  def of_positive(
    positive_distance: Array,
    row: Row,
    temperature: Array,
    alpha: Array,
    b: Array,
  ) -> Terms:
    nearer = jax.nn.sigmoid((positive_distance - row.distances) / temperature)
    rank = jnp.sum(row.negatives * nearer)
    value = penalty(rank, variant, alpha, b)
    return make_terms(value, jnp.ones_like(positive_distance))

  return of_positive


_PENALTIES = {variant: _penalties(variant) for variant in VARIANTS}


def pnp_loss(
  row: Row,
  *,
  temperature: Positive = 0.01,
  variant: Annotated[str, VARIANTS] = "O",
  alpha: Positive = 1.0,
  b: Positive = 2.0,
  include_self: bool = False,
) -> Parts:
  """Penalized negatives before a positive: mean over p of f(R_p).

  R_p = Σ_N σ((s_n - s_p)/τ), and `variant` selects f. O: R. Ds: log(1 + R). Dq:
  1 - (1 + R)^-α. Iu: (1 + R) log(1 + R). Ib: (bR - log(1 + bR))/b². One term
  for each anchor that has a positive. `include_self` counts the anchor itself
  as one more positive, at distance 0. A row of m candidates needs O(m) memory,
  in the gradient too. Reverse mode only.

  >>> row = Row(jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> pnp_loss(row)["anchor"].total  # ½ + ½
  Array(1., dtype=float32)

  Source: Li et al. 2021 (arXiv 2102.04640). pytorch-metric-learning includes
  the anchor itself.
  """
  if include_self:
    row = _with_self(row)
  with on_the_way():
    sums = _PENALTIES[variant](row, temperature, alpha, b)
  value = ratio(sums.total, sums.count)
  return {"anchor": make_terms(value, exists(row.positives))}


def _check_self(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  if hyper["include_self"] and metric == "dot":
    raise InputError(
      "include_self assumes that an anchor is at distance 0 from itself, which"
      " is false under metric='dot': use another metric, or"
      " include_self=False."
    )
  return hyper


def _check_variant(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  check_choice("variant of pnp", hyper["variant"], VARIANTS)
  return _check_self(hyper, metric, normalize, dim)


RANKING_LOSSES: dict[str, Loss] = {
  "histogram": Loss(
    histogram_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("num_bins", "value_range"),
    scaled={"value_range": 1},
    context=_histogram_of_batch,
    fill_defaults=_range_of_distance,
    search={"num_bins": BINS},
    source="Ustinova and Lempitsky, NIPS 2016, arXiv 1611.00822",
  ),
  "fastap": Loss(
    fastap_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("num_bins", "value_range"),
    scaled={"value_range": 1},
    fill_defaults=_range_of_distance,
    search={"num_bins": BINS},
    source="Cakir et al., CVPR 2019",
  ),
  "smooth_ap": Loss(
    smooth_ap_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("include_self",),
    scaled={"temperature": 1},
    fill_defaults=_check_self,
    search={"temperature": WEIGHT},
    source="Brown et al., ECCV 2020, arXiv 2007.12163",
  ),
  "pnp": Loss(
    pnp_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("variant", "include_self"),
    scaled={"temperature": 1},
    fill_defaults=_check_variant,
    search={"temperature": WEIGHT},
    source="Li et al. 2021, arXiv 2102.04640",
  ),
}
