"""Classification losses whose margin m, an integer, multiplies the angle θ."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import l2_normalize, safe_sqrt
from metric_learning.intervals import (
  Natural,
  NotNegative,
  Number,
  Positive,
  ShareBelowOne,
)
from metric_learning.losses.arrangements import (
  class_table,
  init_table,
  meet_classes,
  refuse_references,
)
from metric_learning.losses.base import Context, Loss
from metric_learning.losses.classifiers import (
  margin_softmax,
  scaled_logits,
)
from metric_learning.losses.search import (
  CLASSIFIER_SCALE,
  Grid,
)
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  ratio,
)


def _meet_unit_classes(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Candidates are class weights of norm 1, however embeddings are normalized.

  Anchors are the batch.
  """
  refuse_references(references)
  return class_table(l2_normalize(params["weights"]), points)


def sphereface_angle(
  cos: Float[Array, "*n"], margin: int
) -> Float[Array, "*n"]:
  """ψ(θ) = (-1)^k cos(mθ) - 2k for θ in [kπ/m, (k+1)π/m]; it decreases.

  >>> [round(float(x), 4) for x in sphereface_angle(jnp.array([1, 0, -1.0]), 4)]
  [1.0, -3.0, -7.0]
  """
  # cos(mθ) is the Chebyshev polynomial T_m of cosθ.
  before, multiple = jnp.ones_like(cos), cos
  for _ in range(margin - 1):
    before, multiple = multiple, 2 * cos * multiple - before
  edges = [math.cos(j * math.pi / margin) for j in range(1, margin)]
  k = sum((cos < edge).astype(cos.dtype) for edge in edges) + 0 * cos
  sign = 1 - 2 * jnp.mod(k, 2)
  return jax.lax.stop_gradient(sign) * multiple - 2 * jax.lax.stop_gradient(k)


def sphereface_loss(
  row: Row,
  context: Context,
  *,
  margin: Natural = 4,
  scale: Positive = 1.0,
  annealing: NotNegative = 0.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """SphereFace: own logit |x|·ψ(θ), others |x|·cos_c, with unit class weights.

  ψ(θ) = (-1)^k cos(mθ) - 2k, where the margin m is an integer (static). With
  `annealing` λ, the own logit is |x|·(λ cosθ + ψ(θ)) / (1 + λ). Targets can be
  smoothed: see `class_softmax`.

  >>> row = Row(jnp.array([-2.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> terms = sphereface_loss(row, Context(own=jnp.array(2.0)))["softmax"]
  >>> round(float(terms.total), 4)  # log(1 + e⁻²), since ψ(0) = 1
  0.1269

  Source: Liu et al., CVPR 2017 (arXiv 1704.08063), equation 6; the annealing is
  that of Liu et al. 2016 (arXiv 1612.02295), section 5.1.
  """
  norms = jnp.broadcast_to(context.own, row.distances.shape)
  return _angle_softmax(row, norms, margin, scale, annealing, label_smoothing)


def l_softmax_loss(
  row: Row,
  context: Context,
  *,
  margin: Natural = 4,
  scale: Positive = 1.0,
  annealing: NotNegative = 0.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """L-Softmax: own logit |x||w_y|·ψ(θ), others x·w_c, without normalization.

  ψ, the integer margin, the annealing and the smoothing are those of
  `sphereface`. The two losses are equal if the class weights have norm 1.

  >>> row = Row(jnp.array([-6.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> norms = Context(own=jnp.array(2.0), shared=jnp.array([3.0, 1.0]))
  >>> terms = l_softmax_loss(row, norms)["softmax"]
  >>> round(float(terms.total), 5)  # log(1 + e⁻⁶), since ψ(0) = 1
  0.00248

  Source: Liu et al., ICML 2016 (arXiv 1612.02295), equations 4 and 6.
  """
  norms = context.own * context.shared
  return _angle_softmax(row, norms, margin, scale, annealing, label_smoothing)


def _angle_softmax(
  row: Row,
  norms: Array,
  margin: int,
  scale: Number,
  annealing: Number,
  label_smoothing: Number,
) -> Parts:
  """Cross-entropy with logits w_c·x; the own logit is |x||w|·ψ(θ), annealed."""
  cos = ratio(-row.distances, norms)
  psi = sphereface_angle(cos, margin)
  own_product = norms * (annealing * cos + psi) / (1 + annealing)
  logits = scaled_logits(row, scale=scale)
  return margin_softmax(row, logits, scale * own_product, label_smoothing)


def _norms(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
) -> Context:
  norm = lambda side: safe_sqrt(jnp.sum(side.embeddings**2, axis=1))
  return Context(own=norm(anchors), shared=norm(candidates))


INTEGER_MARGIN_LOSSES: dict[str, Loss] = {
  "l_softmax": Loss(
    l_softmax_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    fixed_metric="dot",
    static=("margin",),
    pairing=meet_classes,
    context=_norms,
    logits=scaled_logits,
    init=init_table,
    needs_positives=False,
    search={"margin": Grid((1, 2, 3, 4)), "scale": CLASSIFIER_SCALE},
    source="Liu et al., ICML 2016, arXiv 1612.02295, equations 4 and 6",
  ),
  "sphereface": Loss(
    sphereface_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    fixed_metric="dot",
    static=("margin",),
    pairing=_meet_unit_classes,
    context=_norms,
    logits=scaled_logits,
    init=init_table,
    needs_positives=False,
    search={"margin": Grid((1, 2, 3, 4)), "scale": CLASSIFIER_SCALE},
    source="Liu et al., CVPR 2017, arXiv 1704.08063, equation 6",
  ),
}
