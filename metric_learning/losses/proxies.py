"""Proxy losses: one or more learned points stand for each class.

They need labels 0..C-1. Proxies are normalized like the embeddings.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.distances import pairwise
from metric_learning.errors import InputError
from metric_learning.intervals import (
  CosineMargin,
  Natural,
  NotNegative,
  Number,
  OpenShare,
  Positive,
  Share,
  ShareBelowOne,
)
from metric_learning.losses.arrangements import (
  class_table,
  init_table,
  meet_classes,
  refuse_references,
)
from metric_learning.losses.base import SIMILARITIES, Context, Loss
from metric_learning.losses.classifiers import (
  class_softmax,
  cosface_loss,
  cosine_logits,
  of_classes,
  scaled_logits,
  temperature_logits,
)
from metric_learning.losses.regularizers import sparse_centers
from metric_learning.losses.search import (
  COSINE,
  SCALE,
  TEMPERATURE,
  WEIGHT,
  Range,
)
from metric_learning.losses.softmax import softmax_terms
from metric_learning.rows import (
  Parts,
  Points,
  Row,
  exists,
  make_terms,
  weighted_logsumexp,
)


def proxy_nca_loss(
  row: Row, *, scale: Positive = 1.0, include_positive: bool = False
) -> Parts:
  """Proxy-NCA: D(x, w_y) + log Σ_{c≠y} e^{-D(x, w_c)}, D = scale · distance.

  The default distance is squared L2. By default the sum leaves out the item's
  own proxy: the value can be negative, and a single class gives no term.
  `include_positive` adds the own proxy to the sum.

  >>> row = Row(jnp.array([1.0, 3.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> proxy_nca_loss(row)["softmax"].total  # 1 - 3
  Array(-2., dtype=float32)

  Source: Movshovitz-Attias et al., ICCV 2017 (arXiv 1703.07464), with one proxy
  for each class. pytorch-metric-learning includes the own proxy.
  """
  logits = -scale * row.distances
  if include_positive:
    terms = softmax_terms(logits, row.positives, row.negatives)
    return {"softmax": terms}
  against = weighted_logsumexp(logits, row.negatives)
  values = jnp.where(against > -jnp.inf, against, 0) - logits
  positives = exists(row.negatives) * row.positives
  return {"softmax": make_terms(values, positives)}


def proxy_nca_pp_loss(
  row: Row,
  *,
  temperature: Positive = 1 / 9,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """ProxyNCA++: cross-entropy of -D(x, w_c) / T over all proxies.

  The default distance is squared L2. Targets can be smoothed: see
  `class_softmax`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> proxy_nca_pp_loss(row)["softmax"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Teh, DeVries, Taylor, ECCV 2020 (arXiv 2004.01113). Its pooling, its
  sampling and its higher learning rate of proxies are not part of the loss.
  """
  logits = temperature_logits(row, temperature=temperature)
  return class_softmax(row, logits, label_smoothing)


def _log_one_plus_sum(
  logits: Float[Array, " m"], weights: Float[Array, " m"]
) -> Float[Array, ""]:
  """log(1 + Σ_j w_j e^{z_j}); 0 if no weight is positive."""
  total = weighted_logsumexp(logits, weights)
  has_terms = total > -jnp.inf
  return jnp.where(
    has_terms, jax.nn.softplus(jnp.where(has_terms, total, 0)), 0
  )


def proxy_anchor_loss(
  row: Row, *, alpha: Positive = 32.0, margin: Share = 0.1
) -> Parts:
  """Proxy-Anchor: the anchor is a proxy, the candidates are the batch.

  There are two parts: the mean of log(1 + Σ_{i in c} e^{-α(s_ic - δ)}) over the
  classes in the batch, and the mean of log(1 + Σ_{i not in c} e^{α(s_ic + δ)})
  over all classes. δ is a cosine. The reduction "none" gives a value for each
  class.

  >>> row = Row(jnp.array([0.9, 1.1]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> parts = proxy_anchor_loss(row, alpha=10.0)  # s = .1 and -.1: twice log 2
  >>> [round(float(part.total), 4) for part in parts.values()]
  [0.6931, 0.6931]

  Source: Kim et al., CVPR 2020 (arXiv 2003.13911), equation 4. The weight that
  a miner gives an item multiplies its exponential; in pytorch-metric-learning
  the weight is in the exponent.
  """
  cos = 1 - row.distances
  pull = _log_one_plus_sum(-alpha * (cos - margin), row.positives)
  push = _log_one_plus_sum(alpha * (cos + margin), row.negatives)
  return {
    "positive": make_terms(pull, exists(row.positives)),
    "negative": make_terms(push, jnp.ones_like(push)),
  }


def _classes_meet_batch(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Anchors are the class weights, and candidates are the batch."""
  items, classes = meet_classes(params, points, references)
  return classes, items


def soft_centers(
  row: Row, *, gamma: Positive = 0.1, num_centers: Natural = 10
) -> Row:
  """Turns a row of K centers per class into a row of classes at 1 - S_c.

  S_c = Σ_k softmax_k(s_ck / γ) s_ck: the nearer a center, the more it counts.

  >>> row = Row(jnp.array([1.0, 3.0]), jnp.ones(2), jnp.zeros(2),
  ...           jnp.array(1.0), jnp.array(0))
  >>> soft_centers(row, gamma=1e9, num_centers=2).distances
  Array([2.], dtype=float32)
  """
  distances = row.distances.reshape(num_centers, -1)
  share = jax.nn.softmax(-distances / gamma, axis=0)
  return of_classes(row, jnp.sum(share * distances, axis=0), num_centers)


def soft_triple_loss(
  row: Row,
  context: Context,
  *,
  scale: Positive = 20.0,
  margin: CosineMargin = 0.01,
  regularization: NotNegative = 0.0,
  label_smoothing: ShareBelowOne = 0.0,
) -> Parts:
  """SoftTriple: cross-entropy of λ(S_c - δ·1[c = y]), K centers of a class.

  The row holds classes at the distances 1 - S_c: see `soft_centers`. δ is a
  cosine. Targets can be smoothed: see `class_softmax`. The separate part
  "regularization" is `regularization` times `sparse_centers`, which lets
  centers merge.

  >>> row = Row(jnp.ones(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> parts = soft_triple_loss(row, Context(shared=jnp.array(0.5)), margin=0.0,
  ...                          regularization=4.0)
  >>> [round(float(part.total), 4) for part in parts.values()]  # log 2, 4 · ½
  [0.6931, 2.0]

  Source: Qian et al., ICCV 2019 (arXiv 1909.05235), section 3. The regularizer
  is off by default, as in pytorch-metric-learning.
  """
  return {
    **cosface_loss(
      row, margin=margin, scale=scale, label_smoothing=label_smoothing
    ),
    "regularization": make_terms(
      regularization * context.shared, exists(row.positives)
    ),
  }


def _spread_of_centers(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  *,
  num_centers: Natural = 10,
) -> Context:
  table = candidates.embeddings
  centers = table.reshape(num_centers, -1, table.shape[1])
  return Context(shared=sparse_centers(jnp.moveaxis(centers, 0, 1)))


def _init_centers(
  key: Array,
  num_classes: int | None,
  embedding_dim: int | None,
  *,
  num_centers: Natural = 10,
) -> dict[str, Array]:
  return init_table(key, num_classes, embedding_dim, num_centers)


# --- Centers that follow their classes --------------------------------------


def _start_centers(
  num_classes: int | None, embedding_dim: int | None
) -> dict[str, Array]:
  if num_classes is None or embedding_dim is None:
    raise InputError(
      "the loss center keeps a center for each class: call"
      " init_state(num_classes=…, embedding_dim=…)."
    )
  return {"centers": jnp.zeros((num_classes, embedding_dim))}


def _meet_centers(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  refuse_references(references)
  return class_table(params["centers"], points)


def _follow_classes(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  state: dict[str, Array],
  *,
  rate: Share = 0.5,
) -> Context:
  """Moves each center towards the items of its class."""
  centers = state["centers"]
  # A traced label may be outside the table; it moves no center.
  index = jnp.where(anchors.weight > 0, anchors.labels, centers.shape[0])
  counts = jnp.zeros(centers.shape[0], centers.dtype)
  counts = counts.at[index].add(anchors.weight, mode="drop")
  items = jax.lax.stop_gradient(anchors.embeddings).astype(centers.dtype)
  sums = jnp.zeros_like(centers).at[index].add(items, mode="drop")
  pull = counts[:, None] * centers - sums
  moved = centers - rate * pull / (1 + counts)[:, None]
  return Context(state={"centers": moved})


def center_loss(
  row: Row, context: Context, *, weight: NotNegative = 0.003
) -> Parts:
  """Center loss: ½λ·|x - μ_y|², to be added to a classification loss.

  Centers are state, not parameters. Each batch subtracts `rate` times
  Σ_{i in c} (μ_c - x_i) / (1 + n_c) from μ_c, where n_c is the number of items
  of the class in the batch.

  >>> row = Row(jnp.array([4.0, 9.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> center_loss(row, Context(), weight=0.5)["center"].total  # ½ · ½ · 4
  Array(1., dtype=float32)

  Source: Wen et al., ECCV 2016, equations 2 and 4.
  """
  return {"center": make_terms(weight / 2 * row.distances, row.positives)}


# --- Manifold similarity ----------------------------------------------------


def _meet_meta_classes(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """Anchors are the batch, candidates are the proxies; labels are mod K."""
  refuse_references(references)
  table = params["weights"]
  labels = jnp.mod(points.labels, jnp.asarray(table.shape[0]))
  return class_table(table, points._replace(labels=labels))


def _diffused_similarity(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  *,
  alpha: OpenShare = 0.8,
) -> Context:
  """Two similarities of items and proxies, from the random walk F.

  They are the entries of F, and the cosines between its rows: see
  `manifold_loss`.
  """
  items = anchors.labels.shape[0]
  nodes = jnp.concatenate([anchors.embeddings, candidates.embeddings])
  weight = jnp.concatenate([anchors.weight, candidates.weight])
  similarity = jnp.exp(2 * jax.nn.relu(1 - pairwise("cosine", nodes, nodes)))
  pair_weight = weight[:, None] * weight[None, :]
  pair_weight *= 1 - jnp.eye(weight.shape[0])
  similarity = pair_weight * similarity
  degree = jnp.sum(similarity, axis=1)
  linked = degree > 0
  root = jnp.where(linked, jax.lax.rsqrt(jnp.where(linked, degree, 1)), 0)
  step = root[:, None] * similarity * root[None, :]
  identity = jnp.eye(step.shape[0], dtype=step.dtype)
  diffusion = (1 - alpha) * jnp.linalg.inv(identity - alpha * step)
  cosines = 1 - pairwise("cosine", diffusion[:items], diffusion[items:])
  return Context(own=(diffusion[:items, items:], cosines))


def _log_one_plus_violations(
  similarity: Float[Array, " m"], row: Row, margin: Number
) -> Float[Array, ""]:
  """log(1 + Σ_n e^{v_n}) over v_n = s_n - s_own + margin >= 0."""
  own_similarity = jnp.sum(jnp.where(row.positives > 0, similarity, 0))
  violation = similarity - own_similarity + margin
  weights = jnp.where(violation >= 0, row.negatives, 0)
  return _log_one_plus_sum(violation, weights)


def manifold_loss(
  row: Row,
  context: Context,
  *,
  margin: NotNegative = 5e-4,
  context_weight: NotNegative = 1.0,
) -> Parts:
  """Manifold similarity to K proxies: log(1 + Σ_n e^{F_n - F_own + m}).

  F = (1 - α)(I - α S̄)⁻¹ over items and proxies, with S = e^{2[cos]+} off the
  diagonal and S̄ = D^-½ S D^-½. Only violations F_n - F_own + m >= 0 count, so
  the value jumps where a violation begins. The part "context" is
  `context_weight` times the same loss of the cosines between rows of F. The
  proxy of an item is its label mod K. The loss inverts a matrix of n + K rows,
  which needs O((n + K)²) memory whatever the `block_size`.

  >>> row = Row(jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]),
  ...           jnp.array(1.0), jnp.array(0))
  >>> context = Context(own=(jnp.array([0.3, 0.3]), jnp.array([0.9, 0.5])))
  >>> parts = manifold_loss(row, context, margin=0.0)  # log 2, none
  >>> [round(float(part.total), 4) for part in parts.values()]
  [0.6931, 0.0]

  Source: Aziere and Todorovic, CVPR 2019, with the details of
  pytorch-metric-learning. That library draws the proxy of each item at random
  in each call; the paper groups classes.
  """
  diffusion, cosines = context.own
  intrinsic = _log_one_plus_violations(diffusion, row, margin)
  contextual = _log_one_plus_violations(cosines, row, margin)
  in_batch = exists(row.positives)
  return {
    "intrinsic": make_terms(intrinsic, in_batch),
    "context": make_terms(context_weight * contextual, in_batch),
  }


def _init_proxies(
  key: Array,
  num_classes: int | None,
  embedding_dim: int | None,
  *,
  num_proxies: Natural = 50,
) -> dict[str, Array]:
  return init_table(key, num_proxies, embedding_dim)


PROXY_LOSSES: dict[str, Loss] = {
  "proxy_nca": Loss(
    proxy_nca_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("include_positive",),
    scaled={"scale": -1},
    pairing=meet_classes,
    logits=scaled_logits,
    init=init_table,
    needs_positives=False,
    search={"scale": SCALE},
    source="Movshovitz-Attias et al., ICCV 2017, arXiv 1703.07464",
  ),
  "proxy_nca_pp": Loss(
    proxy_nca_pp_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=SIMILARITIES,
    scaled={"temperature": 1},
    pairing=meet_classes,
    logits=temperature_logits,
    init=init_table,
    needs_positives=False,
    search={"temperature": TEMPERATURE},
    source="Teh, DeVries, Taylor, ECCV 2020, arXiv 2004.01113",
  ),
  "proxy_anchor": Loss(
    proxy_anchor_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    pairing=_classes_meet_batch,
    class_anchors=True,
    init=init_table,
    needs_positives=False,
    search={"margin": COSINE, "alpha": SCALE},
    source="Kim et al., CVPR 2020, arXiv 2003.13911, equation 4",
  ),
  "soft_triple": Loss(
    soft_triple_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=("cosine",),
    static=("num_centers",),
    pairing=meet_classes,
    join=soft_centers,
    logits=cosine_logits,
    context=_spread_of_centers,
    init=_init_centers,
    needs_positives=False,
    search={"scale": SCALE, "margin": COSINE},
    source="Qian et al., ICCV 2019, arXiv 1909.05235, section 3",
  ),
  "center": Loss(
    center_loss,
    metric="squared_l2",
    normalize="none",
    reduction="mean",
    metrics=(),
    pairing=_meet_centers,
    context=_follow_classes,
    state=_start_centers,
    needs_positives=False,
    search={"weight": WEIGHT},
    source="Wen et al., ECCV 2016, equations 2 and 4",
  ),
  "manifold": Loss(
    manifold_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=(),
    static=("num_proxies",),
    pairing=_meet_meta_classes,
    context=_diffused_similarity,
    init=_init_proxies,
    needs_positives=False,
    search={"margin": WEIGHT, "context_weight": Range(0.0, 2.0)},
    source="Aziere and Todorovic, CVPR 2019",
  ),
}
