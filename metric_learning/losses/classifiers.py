"""Classification losses: a softmax over class weights, or a regression.

They need labels 0..C-1, and learn a table: the candidates of an item are the
classes. Margins are in radians (of `arcface`) or in cosine (of `cosface`).
"""

import functools
from typing import Annotated

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


def _init_table_and_biases(key, num_classes, embedding_dim):
  params = init_table(key, num_classes, embedding_dim)
  return {**params, "biases": jnp.zeros(num_classes)}


def _meet_classes_with_biases(params, points, references: Points | None):
  """w·x + b is the product of [w, b] and [x, 1]."""
  refuse_references(references)
  table = jnp.concatenate([params["weights"], params["biases"][:, None]], 1)
  ones = jnp.ones((points.embeddings.shape[0], 1), points.embeddings.dtype)
  extended = jnp.concatenate([points.embeddings, ones], axis=1)
  return class_table(table, points._replace(embeddings=extended))


def class_softmax(
  row: Row, logits: Float[Array, " c"], label_smoothing: Number
) -> Parts:
  """Cross-entropy of the classes of a row, whose target is smoothed.

  With ε the target of class c is q_c = (1 - ε)·1[c = y] + ε/C, and the value
  -Σ_c q_c log p_c = LSE(z) - z_y + ε(z_y - mean z).

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> z = jnp.log(jnp.array([3.0, 1.0]))  # p = ¾, ¼
  >>> terms = class_softmax(row, z, 0.5)["softmax"]
  >>> round(float(terms.total), 4)  # -¾ log ¾ - ¼ log ¼
  0.5623
  """
  weights = row.positives + row.negatives
  everyone = weighted_logsumexp(logits, weights)
  mean = ratio(
    jnp.sum(jnp.where(weights > 0, weights * logits, 0)), jnp.sum(weights)
  )
  values = everyone - logits + label_smoothing * (logits - mean)
  return {"softmax": make_terms(values, row.positives)}


def product_logits(row: Row) -> Float[Array, " c"]:
  """The products of the item and the classes, with their biases."""
  return -row.distances


def temperature_logits(
  row: Row, *, temperature: Positive = 1.0
) -> Float[Array, " c"]:
  """-D_c / τ"""
  return -row.distances / temperature


def scaled_logits(row: Row, *, scale: Positive = 1.0) -> Float[Array, " c"]:
  """S times the cosine, or times the product."""
  return -scale * row.distances


def cosine_logits(row: Row, *, scale: Positive = 1.0) -> Float[Array, " c"]:
  """S·cos_c"""
  return scale * (1 - row.distances)


def cross_entropy_loss(
  row: Row, *, label_smoothing: ShareBelowOne = 0.0
) -> Parts:
  """Softmax cross-entropy: LSE_c(w_c·x + b_c) - (w_y·x + b_y).

  The features before this head are the embedding. Targets can be smoothed: see
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

  Class weights are normalized as the embeddings are. Targets can be smoothed:
  see `class_softmax`.

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
  """Cross-entropy in which the own class has a logit of its own."""
  logits = jnp.where(row.positives > 0, own, others)
  return class_softmax(row, logits, label_smoothing)


def cosface_loss(
  row: Row,
  *,
  margin: CosineMargin = 0.35,
  scale: Positive = 64.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """CosFace: cross-entropy of S(cos_c - m·1[c = y]); m is in cosine.

  Targets can be smoothed: see `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> terms = cosface_loss(row, margin=0.0)["softmax"]
  >>> round(float(terms.total), 4)  # log 2
  0.6931

  Source: Wang et al., CVPR 2018 (arXiv 1801.09414), equation 4.
  """
  cos = 1 - row.distances
  own = scale * (cos - margin)
  return margin_softmax(row, scale * cos, own, label_smoothing)


# cos m + m sin m = 1. Of a larger margin the tail of ArcFace begins above the
# -1 at which cos(θ + m) ends: an item far from its class would gain by it.
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

  Past θ = π - m, where cos(θ + m) would rise again, it is S(cosθ - m sin m),
  which falls all the way if m <= 2.331. Targets can be smoothed: see
  `class_softmax`.

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
  return margin_softmax(row, scale * cos, scale * own, label_smoothing)


def of_classes(
  row: Row, distances: Float[Array, " c"], num_centers: int
) -> Row:
  """A row of centers, K of each class, as a row of classes at these distances.

  >>> row = Row(jnp.array([3.0, 2.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> of_classes(row, jnp.array([2.0]), 2).positives
  Array([1.], dtype=float32)
  """
  # What an item is to one center of a class, it is to all of them.
  first = lambda weights: weights.reshape(num_centers, -1)[0]
  return row._replace(
    distances=distances,
    positives=first(row.positives),
    negatives=first(row.negatives),
  )


def nearest_centers(row: Row, *, num_centers: Natural = 3) -> Row:
  """A row of classes from one of K centers each: a class is its nearest.

  Ties take the first center.

  >>> row = Row(jnp.array([3.0, 2.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> nearest_centers(row, num_centers=2).distances
  Array([2.], dtype=float32)
  """
  # Selected: the gradient of a minimum would be shared among equal centers,
  # which could then never part.
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

  The row is one of classes: see `nearest_centers`. The margin is in radians,
  and targets can be smoothed, as in `arcface`.

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
