"""Classification losses: a softmax over class weights, or a regression.

They need labels 0..C-1 and learn a table of class weights, which are the
candidates of each item. The margin of `arcface` is in radians, and that of
`cosface` is a cosine.
"""

import functools
from typing import Annotated, Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import safe_sqrt
from metric_learning.intervals import (
  CosineMargin,
  Interval,
  Natural,
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
from metric_learning.losses.base import SIMILARITIES, Loss
from metric_learning.losses.search import (
  ANGLE,
  CLASSIFIER_SCALE,
  COSINE,
  TEMPERATURE,
)
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  add_terms,
  make_terms,
  ratio,
  weighted_logsumexp,
)


def _init_table_and_biases(
  key: Array, num_classes: int | None, embedding_dim: int | None
) -> dict[str, Array]:
  params = init_table(key, num_classes, embedding_dim)
  return {**params, "biases": jnp.zeros(num_classes)}


def _meet_classes_with_biases(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Appends biases and ones: w·x + b is the product of [w, b] and [x, 1]."""
  refuse_references(references)
  table = jnp.concatenate([params["weights"], params["biases"][:, None]], 1)
  ones = jnp.ones((points.embeddings.shape[0], 1), points.embeddings.dtype)
  extended = jnp.concatenate([points.embeddings, ones], axis=1)
  return class_table(table, points._replace(embeddings=extended))


def class_softmax(
  row: Row, logits: Float[Array, " c"], label_smoothing: Number
) -> Parts:
  """Cross-entropy over the classes of a row, with label smoothing.

  With ε = `label_smoothing`, the target of class c is
  q_c = (1 - ε)·1[c = y] + ε/C, and the value is
  -Σ_c q_c log p_c = LSE(z) - z_y + ε(z_y - mean z).

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> z = jnp.log(jnp.array([3.0, 1.0]))  # p = ¾, ¼
  >>> terms = class_softmax(row, z, 0.5)["softmax"]
  >>> round(float(terms.total), 4)  # -¾ log ¾ - ¼ log ¼
  0.5623
  """
  weights = row.positives + row.negatives
  values = weighted_logsumexp(logits, weights) - logits
  # Three passes over all classes, which the usual ε = 0 does not need.
  if not isinstance(label_smoothing, int | float) or label_smoothing > 0:
    mean = ratio(
      jnp.sum(jnp.where(weights > 0, weights * logits, 0)), jnp.sum(weights)
    )
    values += label_smoothing * (logits - mean)
  return {"softmax": make_terms(values, row.positives)}


def product_logits(row: Row) -> Float[Array, " c"]:
  """w_c·x + b_c"""
  return -row.distances


def temperature_logits(
  row: Row, *, temperature: Positive = 1.0
) -> Float[Array, " c"]:
  """-D_c / τ"""
  return -row.distances / temperature


def scaled_logits(row: Row, *, scale: Positive = 1.0) -> Float[Array, " c"]:
  """-S·D_c, which is S·w_c·x for the dot product"""
  return -scale * row.distances


def cosine_logits(row: Row, *, scale: Positive = 1.0) -> Float[Array, " c"]:
  """S·cos_c"""
  return scale * (1 - row.distances)


def cross_entropy_loss(
  row: Row, *, label_smoothing: ShareBelowOne = 0.0
) -> Parts:
  """Softmax cross-entropy: LSE_c(w_c·x + b_c) - (w_y·x + b_y).

  The embedding is the input of this layer. Targets can be smoothed: see
  `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> cross_entropy_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: the baseline of Boudiaf et al. 2020 (arXiv 2003.08983).
  """
  return class_softmax(row, product_logits(row), label_smoothing)


def norm_softmax_loss(
  row: Row,
  *,
  temperature: Positive = 0.05,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """Normalized softmax: cross-entropy of cos_c / τ (of -D_c / τ in general).

  Class weights are normalized like the embeddings. Targets can be smoothed: see
  `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> norm_softmax_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Zhai and Wu 2018 (arXiv 1811.12649), equation 2.
  """
  logits = temperature_logits(row, temperature=temperature)
  return class_softmax(row, logits, label_smoothing)


def margin_softmax(
  row: Row, others: Array, own: Array, label_smoothing: Number
) -> Parts:
  """Cross-entropy with `own` as the logit of the item's class."""
  logits = jnp.where(row.positives > 0, own, others)
  return class_softmax(row, logits, label_smoothing)


def cosface_loss(
  row: Row,
  *,
  margin: CosineMargin = 0.35,
  scale: Positive = 64.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """CosFace: cross-entropy of S(cos_c - m·1[c = y]); m is a cosine.

  Targets can be smoothed: see `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> terms = cosface_loss(row, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Wang et al., CVPR 2018 (arXiv 1801.09414), equation 4.
  """
  cos = 1 - row.distances
  own_logit = scale * (cos - margin)
  return margin_softmax(row, scale * cos, own_logit, label_smoothing)


# The solution of cos m + m sin m = 1. With a larger margin, the tail of ArcFace
# begins above -1, where cos(θ + m) ends: the logit would jump up, so that an
# item would gain by moving away from its class.
_LARGEST_ARC = 2.3311
ArcMargin = Annotated[Number, Interval(0.0, _LARGEST_ARC, radians=True)]


def arcface_loss(
  row: Row,
  *,
  margin: ArcMargin = 0.5,
  scale: Positive = 64.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """ArcFace: own logit S·cos(θ + m), others S·cos_c; m is in radians.

  Past θ = π - m, where cos(θ + m) would rise again, the own logit is
  S(cosθ - m sin m). If m <= 2.331, it falls over the whole range of θ. Targets
  can be smoothed: see `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> terms = arcface_loss(row, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Deng et al., CVPR 2019 (arXiv 1801.07698), equation 3; the tail is
  that of the authors' code. cos(θ + m) is computed as cosθ cos m - sinθ sin m,
  because an arccos would have an infinite slope at ±1.
  """
  cos = 1 - row.distances
  sin = safe_sqrt(1 - cos**2)
  turned = cos * jnp.cos(margin) - sin * jnp.sin(margin)
  tail = cos - margin * jnp.sin(margin)
  own_cos = jnp.where(cos >= -jnp.cos(margin), turned, tail)
  return margin_softmax(row, scale * cos, scale * own_cos, label_smoothing)


def of_classes(
  row: Row, distances: Float[Array, " c"], num_centers: int
) -> Row:
  """Turns a row of K centers per class into a row of classes.

  The classes have the given distances.

  >>> row = Row(jnp.array([3.0, 2.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> of_classes(row, jnp.array([2.0]), 2).positives
  Array([1.], dtype=float32)
  """
  # All centers of a class have the same weights, so the first stands for all.
  first = lambda weights: weights.reshape(num_centers, -1)[0]
  return row._replace(
    distances=distances,
    positives=first(row.positives),
    negatives=first(row.negatives),
  )


def nearest_centers(row: Row, *, num_centers: Natural = 3) -> Row:
  """Turns a row of K centers per class into a row of their nearest centers.

  Ties take the first center.

  >>> row = Row(jnp.array([3.0, 2.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> nearest_centers(row, num_centers=2).distances
  Array([2.], dtype=float32)
  """
  # Selects one center. Equal centers would share the gradient of a minimum, and
  # could then never separate.
  nearest = functools.reduce(
    lambda a, b: jnp.where(b < a, b, a), row.distances.reshape(num_centers, -1)
  )
  return of_classes(row, nearest, num_centers)


def arcface_subcenter_loss(
  row: Row,
  *,
  margin: ArcMargin = 0.5,
  scale: Positive = 64.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """Sub-center ArcFace: ArcFace of max_k cos_ck, K centers of each class.

  The row holds classes, not centers: see `nearest_centers`. The margin is in
  radians, and targets can be smoothed, as in `arcface`.

  >>> row = Row(jnp.array([0.0, 2.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0, 0]),
  ...           jnp.array([0.0, 1.0, 0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> classes = nearest_centers(row, num_centers=2)  # both at cos 1
  >>> terms = arcface_subcenter_loss(classes, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Deng et al., ECCV 2020, "Sub-center ArcFace", section 3.2.
  """
  return arcface_loss(
    row, margin=margin, scale=scale, label_smoothing=label_smoothing
  )


def _init_subcenters(
  key: Array,
  num_classes: int | None,
  embedding_dim: int | None,
  *,
  num_centers: Natural = 3,
) -> dict[str, Array]:
  return init_table(key, num_classes, embedding_dim, num_centers)


def p2sgrad_loss(row: Row) -> Parts:
  """P2SGrad: (cos_c - 1[c = y])², with one term for each item and class.

  >>> row = Row(jnp.array([0.5, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> p2sgrad_loss(row)["squares"].total  # (½ - 1)² + 0²
  Array(0.25, dtype=float32)

  Source: Zhang et al., CVPR 2019 (arXiv 1905.02479). The paper gives a
  gradient; this is the loss with that gradient. The mean is over items and
  classes, as in pytorch-metric-learning; the paper sums over classes, which is
  C times as much.
  """
  same = make_terms(row.distances**2, row.positives)  # cos - 1 = -D
  different = make_terms((1 - row.distances) ** 2, row.negatives)
  return {"squares": add_terms(same, different)}


CLASSIFIER_LOSSES: dict[str, Loss] = {
  "cross_entropy": Loss(
    cross_entropy_loss,
    metric="cosine",
    normalize="none",
    reduction="mean",
    metrics=(),
    fixed_metric="dot",
    pairing=_meet_classes_with_biases,
    logits=product_logits,
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
    pairing=meet_classes,
    logits=temperature_logits,
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
    pairing=meet_classes,
    logits=cosine_logits,
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
    pairing=meet_classes,
    logits=cosine_logits,
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
    pairing=meet_classes,
    join=nearest_centers,
    logits=cosine_logits,
    init=_init_subcenters,
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
    pairing=meet_classes,
    logits=cosine_logits,
    init=init_table,
    needs_positives=False,
    source="Zhang et al., CVPR 2019, arXiv 1905.02479",
  ),
}
