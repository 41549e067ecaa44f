"""Classification losses: a softmax over class weights, or a regression.

They need labels 0..C-1, and learn a table: the candidates of an item are the
classes. Angular margins are in radians (of `arcface`), in cosine (of
`cosface`), or an integer factor (of `l_softmax` and `sphereface`).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import l2_normalize, safe_sqrt
from metric_learning.errors import InputError
from metric_learning.losses.arrangements import (
  class_table,
  init_table,
  meet_classes,
  refuse_references,
)
from metric_learning.losses.base import SIMILARITIES, Context, Loss
from metric_learning.losses.search import (
  ANGLE,
  CLASSIFIER_SCALE,
  COSINE,
  TEMPERATURE,
  Grid,
)
from metric_learning.losses.softmax import softmax_terms
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  add_terms,
  make_terms,
  ratio,
)

Number = float | Array


def _init_table_and_biases(key, num_classes, embedding_dim):
  params = init_table(key, num_classes, embedding_dim)
  return {**params, "biases": jnp.zeros(num_classes)}


def _meet_unit_classes(params, points: Points, references: Points | None):
  """Candidates of norm 1, whatever the normalisation of the embeddings is."""
  refuse_references(references)
  return class_table(l2_normalize(params["weights"]), points)


def _meet_classes_with_biases(params, points, references: Points | None):
  """w·x + b is the product of [w, b] and [x, 1]."""
  refuse_references(references)
  table = jnp.concatenate([params["weights"], params["biases"][:, None]], 1)
  ones = jnp.ones((points.embeddings.shape[0], 1), points.embeddings.dtype)
  extended = jnp.concatenate([points.embeddings, ones], axis=1)
  return class_table(table, points._replace(embeddings=extended))


def cross_entropy_loss(row: Row) -> Parts:
  """Softmax cross-entropy: LSE_c(w_c·x + b_c) - (w_y·x + b_y).

  The features before this head are the embedding.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> cross_entropy_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: the baseline of Boudiaf et al. 2020 (arXiv 2003.08983).
  """
  terms = softmax_terms(-row.distances, row.positives, row.negatives)
  return {"softmax": terms}


def norm_softmax_loss(row: Row, *, temperature: Number = 0.05) -> Parts:
  """Normalised softmax: cross-entropy of cos_c / τ (of -D_c / τ in general).

  Class weights are normalised as the embeddings are.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> norm_softmax_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Zhai and Wu 2018 (arXiv 1811.12649), equation 2.
  """
  logits = -row.distances / temperature
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


def margin_softmax(row: Row, others: Array, own: Array) -> Parts:
  """Cross-entropy in which the own class has a logit of its own."""
  logits = jnp.where(row.positives > 0, own, others)
  return {"softmax": softmax_terms(logits, row.positives, row.negatives)}


def cosface_loss(
  row: Row, *, margin: Number = 0.35, scale: Number = 64.0
) -> Parts:
  """CosFace: cross-entropy of S(cos_c - m·1[c = y]); m is in cosine.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> terms = cosface_loss(row, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Wang et al., CVPR 2018 (arXiv 1801.09414), equation 4.
  """
  cos = 1 - row.distances
  return margin_softmax(row, scale * cos, scale * (cos - margin))


def arcface_loss(
  row: Row, *, margin: Number = 0.5, scale: Number = 64.0
) -> Parts:
  """ArcFace: own logit S·cos(θ + m), others S·cos_c; m is in radians.

  Past θ = π - m, where cos(θ + m) would rise again, it is S(cosθ - m sin m).

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> terms = arcface_loss(row, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Deng et al., CVPR 2019 (arXiv 1801.07698), equation 3; the tail is of
  the authors' code. cos(θ + m) = cosθ cos m - sinθ sin m, without an arccos,
  whose slope is infinite at ±1.
  """
  cos = 1 - row.distances
  sin = safe_sqrt(1 - cos**2)
  turned = cos * jnp.cos(margin) - sin * jnp.sin(margin)
  tail = cos - margin * jnp.sin(margin)
  own = jnp.where(cos >= -jnp.cos(margin), turned, tail)
  return margin_softmax(row, scale * cos, scale * own)


def nearest_centers(row: Row, num_centers: int) -> Row:
  """A row of classes from one of K centres each: a class is its nearest.

  >>> row = Row(jnp.array([3.0, 2.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> nearest_centers(row, 2).distances
  Array([2.], dtype=float32)
  """
  distances, positives, negatives = (
    x.reshape(num_centers, -1) for x in row[:3]
  )
  # Selected: the gradient of a minimum would be shared among equal centres,
  # which could then never part.
  nearest = functools.reduce(lambda a, b: jnp.where(b < a, b, a), distances)
  return row._replace(
    distances=nearest, positives=positives[0], negatives=negatives[0]
  )


def arcface_subcenter_loss(
  row: Row,
  *,
  margin: Number = 0.5,
  scale: Number = 64.0,
  num_centers: int = 3,
) -> Parts:
  """Sub-centre ArcFace: ArcFace of max_k cos_ck, K centres of each class.

  The margin is in radians, as in `arcface`; ties take the first centre.

  >>> row = Row(jnp.array([0.0, 2.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0, 0]),
  ...           jnp.array([0.0, 1.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> terms = arcface_subcenter_loss(row, margin=0.0, num_centers=2)["softmax"]
  >>> round(float(terms.total), 4)  # both classes at cos 1: log 2
  0.6931

  Source: Deng et al., ECCV 2020, "Sub-center ArcFace", section 3.2.
  """
  classes = nearest_centers(row, num_centers)
  return arcface_loss(classes, margin=margin, scale=scale)


def _init_subcenters(key, num_classes, embedding_dim, *, num_centers=3):
  return init_table(key, num_classes, embedding_dim, num_centers)


def p2sgrad_loss(row: Row) -> Parts:
  """P2SGrad: (cos_c - 1[c = y])², a term for each item and class.

  >>> row = Row(jnp.array([0.5, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> p2sgrad_loss(row)["squares"].total  # (½ - 1)² + 0²
  Array(0.25, dtype=float32)

  Source: Zhang et al., CVPR 2019 (arXiv 1905.02479), which gives the gradient;
  this is the loss that has it. The mean is over items and classes, as in
  pytorch-metric-learning; the paper's sum over classes is C times it.
  """
  own = make_terms(row.distances**2, row.positives)  # cos - 1 = -D
  others = make_terms((1 - row.distances) ** 2, row.negatives)
  return {"squares": add_terms(own, others)}


def sphereface_angle(
  cos: Float[Array, "*n"], margin: int
) -> Float[Array, "*n"]:
  """ψ(θ) = (-1)^k cos(mθ) - 2k for θ in [kπ/m, (k+1)π/m]: it only falls.

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
  margin: int = 4,
  scale: Number = 1.0,
  annealing: Number = 0.0,
) -> Parts:
  """SphereFace: logits |x|·cos_c, own |x|·ψ(θ), with unit class weights.

  ψ(θ) = (-1)^k cos(mθ) - 2k, m an integer (static). With `annealing` λ the own
  logit is |x|·(λ cosθ + ψ(θ)) / (1 + λ).

  >>> row = Row(jnp.array([-2.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> terms = sphereface_loss(row, Context(own=jnp.array(2.0)))["softmax"]
  >>> round(float(terms.total), 4)  # log(1 + e⁻²), since ψ(0) = 1
  0.1269

  Source: Liu et al., CVPR 2017 (arXiv 1704.08063), equation 6; the annealing is
  of Liu et al. 2016 (arXiv 1612.02295), section 5.1.
  """
  norms = jnp.broadcast_to(context.own, row.distances.shape)
  return _angle_softmax(row, norms, margin, scale, annealing)


def l_softmax_loss(
  row: Row,
  context: Context,
  *,
  margin: int = 4,
  scale: Number = 1.0,
  annealing: Number = 0.0,
) -> Parts:
  """L-Softmax: logits x·w_c, own |x||w_y|·ψ(θ), nothing normalised.

  ψ, the integer margin and the annealing are those of `sphereface`, which this
  is when class weights have norm 1.

  >>> row = Row(jnp.array([-6.0, 0.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> norms = Context(own=jnp.array(2.0), shared=jnp.array([3.0, 1.0]))
  >>> terms = l_softmax_loss(row, norms)["softmax"]
  >>> round(float(terms.total), 5)  # log(1 + e⁻⁶), since ψ(0) = 1
  0.00248

  Source: Liu et al., ICML 2016 (arXiv 1612.02295), equations 4 and 6.
  """
  norms = context.own * context.shared
  return _angle_softmax(row, norms, margin, scale, annealing)


def _angle_softmax(row: Row, norms, margin, scale, annealing) -> Parts:
  """Cross-entropy of products, the own one |x||w|·ψ(θ), annealed."""
  cos = ratio(-row.distances, norms)
  angle = sphereface_angle(cos, margin)
  own = norms * (annealing * cos + angle) / (1 + annealing)
  return margin_softmax(row, -scale * row.distances, scale * own)


def _norms(over_anchors, over_candidates, anchors, candidates) -> Context:
  norm = lambda side: safe_sqrt(jnp.sum(side.embeddings**2, axis=1))
  return Context(own=norm(anchors), shared=norm(candidates))


def check_integer(loss: str, name: str):
  """A `resolve` that refuses all but an integer of at least 1."""

  def check(hyper, metric, normalize, dim):
    value = hyper[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
      raise InputError(
        f"{loss}: {name} must be an integer of at least 1, got {value!r}."
      )
    return hyper

  return check


CLASSIFIER_LOSSES: dict[str, Loss] = {
  "cross_entropy": Loss(
    cross_entropy_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    geometry="dot",
    arrange=_meet_classes_with_biases,
    init=_init_table_and_biases,
    needs_positives=False,
    source="the baseline of Boudiaf et al. 2020, arXiv 2003.08983",
  ),
  "norm_softmax": Loss(
    norm_softmax_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    arrange=meet_classes,
    init=init_table,
    needs_positives=False,
    search={"temperature": TEMPERATURE},
    source="Zhai and Wu 2018, arXiv 1811.12649, equation 2",
  ),
  "cosface": Loss(
    cosface_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    arrange=meet_classes,
    init=init_table,
    needs_positives=False,
    search={"margin": COSINE, "scale": CLASSIFIER_SCALE},
    source="Wang et al., CVPR 2018, arXiv 1801.09414, equation 4",
  ),
  "arcface": Loss(
    arcface_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    arrange=meet_classes,
    init=init_table,
    needs_positives=False,
    search={"margin": ANGLE, "scale": CLASSIFIER_SCALE},
    source="Deng et al., CVPR 2019, arXiv 1801.07698, equation 3",
  ),
  "arcface_subcenter": Loss(
    arcface_subcenter_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    static=("num_centers",),
    arrange=meet_classes,
    init=_init_subcenters,
    resolve=check_integer("arcface_subcenter", "num_centers"),
    needs_positives=False,
    search={"margin": ANGLE, "scale": CLASSIFIER_SCALE},
    source="Deng et al., ECCV 2020, section 3.2",
  ),
  "p2sgrad": Loss(
    p2sgrad_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    arrange=meet_classes,
    init=init_table,
    needs_positives=False,
    source="Zhang et al., CVPR 2019, arXiv 1905.02479",
  ),
  "l_softmax": Loss(
    l_softmax_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    geometry="dot",
    static=("margin",),
    arrange=meet_classes,
    context=_norms,
    init=init_table,
    resolve=check_integer("l_softmax", "margin"),
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
    geometry="dot",
    static=("margin",),
    arrange=_meet_unit_classes,
    context=_norms,
    init=init_table,
    resolve=check_integer("sphereface", "margin"),
    needs_positives=False,
    search={"margin": Grid((1, 2, 3, 4)), "scale": CLASSIFIER_SCALE},
    source="Liu et al., CVPR 2017, arXiv 1704.08063, equation 6",
  ),
}
