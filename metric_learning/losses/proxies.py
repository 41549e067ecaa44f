"""Classification losses: the candidates are one weight for each class.

They need labels 0..C-1, and learn a table. Angular margins are in radians (of
`arcface`), in cosine (of `cosface`), or an integer factor (of `sphereface`).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import l2_normalize, safe_sqrt
from metric_learning.errors import InputError
from metric_learning.losses.arrangements import class_table
from metric_learning.losses.base import SIMILARITIES, Context, Loss
from metric_learning.losses.softmax import softmax_terms
from metric_learning.rows import Parts, Points, Row, ratio

Number = float | Array


def init_table(key, num_classes, embedding_dim):
  """Class weights drawn from N(0, 1/d)."""
  if num_classes is None or embedding_dim is None:
    raise InputError(
      "this loss learns one weight for each class: call"
      " init(key, num_classes=…, embedding_dim=…)."
    )
  shape = (num_classes, embedding_dim)
  return {"weights": jax.random.normal(key, shape) / math.sqrt(embedding_dim)}


def _init_table_and_biases(key, num_classes, embedding_dim):
  params = init_table(key, num_classes, embedding_dim)
  return {**params, "biases": jnp.zeros(num_classes)}


def _meet_classes(params, points: Points, references: Points | None):
  """Anchors are the batch, candidates the classes."""
  _refuse(references)
  return class_table(params["weights"], points)


def _meet_unit_classes(params, points: Points, references: Points | None):
  """As above, with class weights of norm 1 whatever the embeddings are."""
  _refuse(references)
  return class_table(l2_normalize(params["weights"]), points)


def _meet_classes_with_biases(params, points, references: Points | None):
  """w·x + b is the product of [w, b] and [x, 1]."""
  _refuse(references)
  table = jnp.concatenate([params["weights"], params["biases"][:, None]], 1)
  ones = jnp.ones((points.embeddings.shape[0], 1), points.embeddings.dtype)
  extended = jnp.concatenate([points.embeddings, ones], axis=1)
  return class_table(table, points._replace(embeddings=extended))


def _refuse(references):
  if references is not None:
    raise InputError(
      "a classification loss compares with its class weights; it takes no"
      " references."
    )


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


def _margin_softmax(row: Row, others: Array, own: Array) -> Parts:
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
  return _margin_softmax(row, scale * cos, scale * (cos - margin))


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
  return _margin_softmax(row, scale * cos, scale * own)


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
  norm = context.own
  cos = ratio(-row.distances, jnp.broadcast_to(norm, row.distances.shape))
  angle = sphereface_angle(cos, margin)
  own = norm * (annealing * cos + angle) / (1 + annealing)
  return _margin_softmax(row, -scale * row.distances, scale * own)


def _norms(over_anchors, over_candidates, anchors, candidates) -> Context:
  return Context(own=safe_sqrt(jnp.sum(anchors.embeddings**2, axis=1)))


def _check_integer_margin(hyper, metric, normalize, dim):
  margin = hyper["margin"]
  if not isinstance(margin, int) or isinstance(margin, bool) or margin < 1:
    raise InputError(
      f"sphereface multiplies the angle by margin, an integer of at least 1;"
      f" got {margin!r}."
    )
  return hyper


PROXY_LOSSES: dict[str, Loss] = {
  "cross_entropy": Loss(
    cross_entropy_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    geometry="dot",
    arrange=_meet_classes_with_biases,
    init=_init_table_and_biases,
    source="the baseline of Boudiaf et al. 2020, arXiv 2003.08983",
  ),
  "norm_softmax": Loss(
    norm_softmax_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled=("temperature",),
    arrange=_meet_classes,
    init=init_table,
    source="Zhai and Wu 2018, arXiv 1811.12649, equation 2",
  ),
  "cosface": Loss(
    cosface_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    arrange=_meet_classes,
    init=init_table,
    source="Wang et al., CVPR 2018, arXiv 1801.09414, equation 4",
  ),
  "arcface": Loss(
    arcface_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    arrange=_meet_classes,
    init=init_table,
    source="Deng et al., CVPR 2019, arXiv 1801.07698, equation 3",
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
    resolve=_check_integer_margin,
    source="Liu et al., CVPR 2017, arXiv 1704.08063, equation 6",
  ),
}
