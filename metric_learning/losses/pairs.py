"""Pair losses: two scalar laws, attract(D) and repel(D).

A law is a function of distances alone. A row applies it to its candidates,
`pair_loss` to explicit pairs, and a figure draws it. Margins are in units of
the distance.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metric_learning.distances import METRICS
from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import (
  Cosine,
  NotNegative,
  Positive,
  Real,
  check_options,
)
from metric_learning.losses.base import (
  DISTANCES,
  SIMILARITIES,
  Context,
  Loss,
  keywords,
)
from metric_learning.losses.search import COSINE, MARGIN, Range
from metric_learning.rows import (
  Parts,
  Row,
  Terms,
  add_terms,
  make_terms,
  reduce_terms,
)
from metric_learning.signatures import kinds

Distances = Float[Array, "*m"]


def contrastive_law(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = True
) -> tuple[Distances, Distances]:
  """Contrastive loss of 2006: attract ½D², repel ½[m - D]+².

  `half=False` leaves the factor ½ out, which doubles the effective learning
  rate and moves no minimum.

  >>> [float(x) for x in contrastive_law(jnp.array(0.5), margin=2.0)]
  [0.125, 1.125]

  Source: Hadsell, Chopra, LeCun, CVPR 2006, equation 4, where Y = 0 means
  similar; here `same` does.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin - d) ** 2


def contrastive_2005_law(
  d: Distances, *, upper_bound: Positive | None = None
) -> tuple[Distances, Distances]:
  """Contrastive loss of 2005: attract (2/Q)·E², repel 2Q·exp(-2.77·E/Q).

  Q is the upper bound of the distance E, in its units. In an objective it
  follows from metric and normalisation (2 for L1 under L1 normalisation, 2√d
  for L1 and 2 for L2 on the unit sphere); where that bounds nothing, give it.

  >>> [round(float(x), 4) for x in contrastive_2005_law(jnp.array(1.0),
  ...                                                 upper_bound=2.0)]
  [1.0, 1.0013]

  Source: Chopra, Hadsell, LeCun, CVPR 2005; E is an L1 norm there.
  """
  if upper_bound is None:
    raise InputError("contrastive_2005 needs upper_bound, the largest distance")
  q = upper_bound
  return (2 / q) * d**2, 2 * q * jnp.exp(-2.77 * d / q)


def contrastive_linear_law(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """Linear hinges: attract [D - m_pos]+, repel [m_neg - D]+.

  >>> [float(x) for x in contrastive_linear_law(jnp.array(0.75),
  ...                                            positive_margin=0.5)]
  [0.25, 0.25]

  Source: Musgrave, Belongie, Lim 2020 (arXiv 2003.08505).
  """
  return jax.nn.relu(d - positive_margin), jax.nn.relu(negative_margin - d)


def contrastive_double_margin_law(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """Two margins, squared hinges: attract [D - m1]+², repel [m2 - D]+².

  >>> [float(x) for x in contrastive_double_margin_law(jnp.array(0.75),
  ...                                                  positive_margin=0.5)]
  [0.0625, 0.0625]

  Source: Lin et al. 2015 (arXiv 1501.04711).
  """
  attract, repel = contrastive_linear_law(
    d, positive_margin=positive_margin, negative_margin=negative_margin
  )
  return attract**2, repel**2


def snr_contrastive_law(
  d: Distances,
  *,
  positive_margin: NotNegative = 0.0,
  negative_margin: NotNegative = 1.0,
) -> tuple[Distances, Distances]:
  """Linear hinges of SNR: attract [D - m_pos]+, repel [m_neg - D]+.

  Anchor and candidate have roles: D = Var(x_a - x_b) / Var(x_a).

  >>> [float(x) for x in snr_contrastive_law(jnp.array(0.75),
  ...                                        positive_margin=0.5)]
  [0.25, 0.25]

  Source: Yuan et al., CVPR 2019 (arXiv 1904.02616), equation 9, without its
  zero-mean regulariser, as pytorch-metric-learning by default.
  """
  return contrastive_linear_law(
    d, positive_margin=positive_margin, negative_margin=negative_margin
  )


def contrastive_sq_margin_law(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = False
) -> tuple[Distances, Distances]:
  """Squared margin: attract D², repel [m² - D²]+.

  The slope of the repulsion is 2D: it vanishes where it is needed most.

  >>> [float(x) for x in contrastive_sq_margin_law(jnp.array(0.5))]
  [0.25, 0.75]

  Source: the "m squared" variant of similarity-learning texts.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin**2 - d**2)


def contrastive_caffe_legacy_law(
  d: Distances, *, margin: NotNegative = 1.0, half: bool = True
) -> tuple[Distances, Distances]:
  """Legacy mode of Caffe: attract ½D², repel ½[m - D²]+, m not squared.

  m is in units of D². The slope of the repulsion vanishes at D = 0.

  >>> [float(x) for x in contrastive_caffe_legacy_law(jnp.array(0.5))]
  [0.125, 0.375]

  Source: the contrastive loss layer of Caffe before April 2015, since then its
  `legacy_version`.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin - d**2)


def contrastive_inverse_law(
  d: Distances, *, floor: Positive = 1e-3, half: bool = True
) -> tuple[Distances, Distances]:
  """Inverse repulsion: attract ½D², repel 1 / max(D, δ).

  It never rests: the repulsion is positive at every distance. δ (`floor`) is
  in units of the distance and keeps coincident points finite. `half` acts on
  the attraction alone, as in the definition.

  >>> [float(x) for x in contrastive_inverse_law(jnp.array(0.5))]
  [0.125, 2.0]

  Source: no paper that we know. Texts on the contrastive loss name 1/D as what
  its margin avoids.
  """
  return (0.5 if half else 1.0) * d**2, 1 / jnp.maximum(d, floor)


def pair_bce_law(
  d: Distances, *, scale: Positive = 1.0, bias: Real = 0.0
) -> tuple[Distances, Distances]:
  """Binary cross-entropy of logit b - a·D: attract and repel.

  b is a threshold, in units of a·D.

  >>> [round(float(x), 4) for x in pair_bce_law(jnp.array(0.0))]
  [0.6931, 0.6931]

  Source: Koch, Zemel, Salakhutdinov 2015, whose printed form lacks the minus.
  """
  logit = bias - scale * d
  return jax.nn.softplus(-logit), jax.nn.softplus(logit)


PAIR_LAWS: dict[str, Callable[..., tuple[Array, Array]]] = {
  "contrastive_2005": contrastive_2005_law,
  "contrastive": contrastive_law,
  "contrastive_linear": contrastive_linear_law,
  "contrastive_double_margin": contrastive_double_margin_law,
  "contrastive_sq_margin": contrastive_sq_margin_law,
  "contrastive_caffe_legacy": contrastive_caffe_legacy_law,
  "contrastive_inverse": contrastive_inverse_law,
  "snr_contrastive": snr_contrastive_law,
  "pair_bce": pair_bce_law,
}


# --- Laws on rows -----------------------------------------------------------


def _joined(law):
  """The row loss of a law, same and different pairs in one part."""

  def terms(row: Row, **hyper) -> dict[str, Terms]:
    attract, repel = law(row.distances, **hyper)
    same = make_terms(attract, row.positives)
    return {"pair": add_terms(same, make_terms(repel, row.negatives))}

  return _named(terms, law)


def _split(law):
  """The row loss of a law, same and different pairs reduced apart."""

  def terms(row: Row, **hyper) -> dict[str, Terms]:
    attract, repel = law(row.distances, **hyper)
    return {
      "positive": make_terms(attract, row.positives),
      "negative": make_terms(repel, row.negatives),
    }

  return _named(terms, law)


def _named(terms, law):
  """Lends a row loss the signature of its law, where hyper-parameters live."""
  terms.__name__ = law.__name__.removesuffix("law") + "loss"
  terms.__doc__ = law.__doc__
  terms.__wrapped__ = law
  return terms


# --- Learned boundary -------------------------------------------------------


def margin_loss(
  row: Row,
  *,
  alpha: NotNegative = 0.2,
  beta: NotNegative = 1.2,
  nu: NotNegative = 0.0,
  learn_beta: bool = True,
  per_class: bool = False,
  over: str = "pairs",
) -> Parts:
  """Margin loss: [α + D_ip - β]+ and [α + β - D_in]+ around a boundary β.

  α and β are in units of the distance. β is learned from its initial value,
  one or one for each class 0..C-1 of the anchor (`per_class`). A part of its
  own is ν·β, a mean over the anchors that have a term. With `over="triplets"` a
  pair counts once for each triplet that it is in.

  >>> row = Row(jnp.array([1.5, 1.25]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> margin_loss(row, alpha=0.5, beta=1.25)["pair"].total  # .75 + .5
  Array(1.25, dtype=float32)

  Source: Wu, Manmatha, Smola, Krähenbühl, ICCV 2017 (arXiv 1706.07567),
  equations 5 and 7. pytorch-metric-learning counts over triplets; there ν·β_c
  is summed over triplets and divided by the active terms, here it is a mean.
  """
  boundary = beta if jnp.ndim(beta) == 0 else jnp.asarray(beta)[row.label]
  positives, negatives = row.positives, row.negatives
  if over == "triplets":
    positives, negatives = (
      positives * jnp.sum(negatives),
      negatives * jnp.sum(positives),
    )
  near = make_terms(jax.nn.relu(alpha + row.distances - boundary), positives)
  far = make_terms(jax.nn.relu(alpha + boundary - row.distances), negatives)
  terms = add_terms(near, far)
  weight = jnp.sum(positives) if over == "triplets" else terms.count > 0
  weight = jnp.asarray(weight, row.distances.dtype)
  # Active whatever its sign: the boundary of an anchor is always a term.
  penalty = jnp.where(weight > 0, weight * nu * boundary, 0)
  return {"pair": terms, "regularization": Terms(*(penalty, weight) * 2)}


def _init_boundaries(
  key, num_classes, dim, *, beta=1.2, learn_beta=True, per_class=False
):
  if not (learn_beta and per_class):
    return {}
  if num_classes is None:
    raise InputError(
      "margin with per_class=True learns a boundary for each class: call"
      " init(key, num_classes=…)."
    )
  return {"beta": jnp.full(num_classes, beta, float)}


def _check_over(hyper, metric, normalize, dim):
  check_choice("margin: over", hyper["over"], ("pairs", "triplets"))
  return hyper


# --- Laws of the whole batch ------------------------------------------------


def intra_pair_variance_loss(
  row: Row,
  context: Context,
  *,
  positive_epsilon: NotNegative = 0.01,
  negative_epsilon: NotNegative = 0.01,
) -> Parts:
  """Intra-pair variance: [(1 - ε_p)·s̄_p - s_ip]+², [s_in - (1 + ε_n)·s̄_n]+².

  s̄ are the mean cosines of all positive and of all negative pairs of the
  batch, with their gradient. A collapsed batch is a zero of this loss: use it
  as an addition to another.

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


def _mean_cosines(over_anchors, over_candidates, anchors, candidates):
  def cosines(row):
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
  """Threshold-consistent margin: mean of m+ - s_p over s_p <= m+, and so on.

  The other part is the mean of s_n - m- over s_n >= m-; each has its weight.
  Margins are cosines. An addition to another loss.

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


# --- Similarity by regression and classification ----------------------------


def _similarity(distances: Distances, similarity: str | None) -> Distances:
  """A similarity in [0, 1] (or the cosine itself) from distances."""
  if similarity == "exp":
    return jnp.exp(-distances)
  cosine = 1 - distances
  return cosine if similarity == "cosine" else (1 + cosine) / 2


def pair_regression_loss(
  row: Row, *, similarity: str | None = None
) -> dict[str, Terms]:
  """Regression of a similarity: (g - t)².

  g is (1 + cos)/2 for "cosine01", cos for "cosine", exp(-D) for "exp"; an
  objective takes the first under the cosine metric and the last under any
  other. t is the given similarity in [0, 1]. On rows it is P/(P + N), from the
  weights, and the pair weighs P + N: with labels t is 1 or 0.

  >>> row = Row(jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> pair_regression_loss(row)["pair"].total  # (1 - 1)² + (½ - 0)²
  Array(0.25, dtype=float32)

  Source: classical similarity learning by regression.
  """
  weight = row.positives + row.negatives
  target = row.positives / jnp.where(weight > 0, weight, 1)
  values = (_similarity(row.distances, similarity) - target) ** 2
  return {"pair": make_terms(values, weight)}


def _choose_similarity(hyper, metric, normalize, dim):
  """A cosine is read as one; any other distance through exp(-D)."""
  name = hyper["similarity"]
  if name is None:
    name = "cosine01" if metric == "cosine" else "exp"
  check_choice("similarity", name, ("cosine01", "exp", "cosine"))
  if metric != "cosine" and name != "exp":
    raise InputError(
      f"pair_regression with similarity={name!r} reads a cosine, and the"
      f" metric is {metric!r}: use similarity='exp' or metric='cosine'."
    )
  return {**hyper, "similarity": name}


def _bound(hyper, metric, normalize, dim):
  """Q from the space, where the space is bounded."""
  if hyper["upper_bound"] is not None:
    return hyper
  bound = METRICS[metric].bound(normalize, dim)
  if bound is None:
    raise InputError(
      f"contrastive_2005 needs upper_bound, the largest distance: {metric!r}"
      f" with normalize={normalize!r} has no bound of its own."
    )
  return {**hyper, "upper_bound": bound}


def _weigh_l1(hyper, metric, normalize, dim):
  """Koch's weights for each dimension belong to L1, and only there."""
  weighted = hyper["weighted"]
  if weighted and metric != "l1":
    raise InputError(
      f"pair_bce with weighted=True weighs an L1 distance, and the metric is"
      f" {metric!r}: use metric='l1' or weighted=False."
    )
  return {**hyper, "weighted": metric == "l1" if weighted is None else weighted}


def _init_weights(key, num_classes, dim, *, scale=1.0, weighted=None):
  if not weighted:
    return {}
  if dim is None:
    raise InputError(
      "pair_bce learns a weight for each dimension of L1:"
      " call init(key, embedding_dim=…)."
    )
  return {"log_weights": jnp.full(dim, jnp.log(scale))}


def _weigh(params, embeddings, *, weighted=None):
  """Σ α_j|x_j - y_j| is the L1 distance of α∘x and α∘y, α = exp(…) > 0."""
  if not weighted:
    return embeddings
  weights = jnp.exp(params["log_weights"])
  if weights.shape != embeddings.shape[-1:]:
    raise InputError(
      f"pair_bce learned {weights.shape[0]} weights, one for each dimension,"
      f" and the embeddings have {embeddings.shape[-1]}: call init with their"
      " embedding_dim."
    )
  return embeddings * weights


def _pair_bce_terms(
  row, *, scale: Positive = 1.0, bias: Real = 0.0, weighted: bool | None = None
):
  attract, repel = pair_bce_law(
    row.distances, scale=1.0 if weighted else scale, bias=bias
  )
  same = make_terms(attract, row.positives)
  return {"pair": add_terms(same, make_terms(repel, row.negatives))}


_pair_bce_terms.__doc__ = pair_bce_law.__doc__


def pair_loss(
  law: str,
  distances: Float[Array, " p"],
  *,
  same: Bool[Array, " p"] | None = None,
  targets: Float[Array, " p"] | None = None,
  reduction: str = "mean",
  **hyper: Any,
) -> Float[Array, "*p"]:
  """A pair loss on explicit pairs, such as a verification set.

  `same` is boolean and True for a similar pair: a bare 0/1 number is refused,
  since papers use both signs. `targets` are similarities in [0, 1], for
  "pair_regression" (whose distances are cosine ones unless similarity="exp").

  Raises:
    InputError: for an unknown law or hyper-parameter, for `same` that is not
      boolean, or if the law wants the other of `same` and `targets`.

  >>> d = jnp.array([0.5, 0.5])
  >>> pair_loss("contrastive_linear", d, same=jnp.array([True, False]))
  Array(1., dtype=float32)
  """
  check_choice("pair law", law, [*PAIR_LAWS, "pair_regression"])
  distances = jnp.asarray(distances)
  if law == "pair_regression":
    if targets is None:
      raise InputError("pair_regression needs targets=, similarities in [0, 1]")
    targets = jnp.asarray(targets, distances.dtype)
    entry: Callable[..., Any] = pair_regression_loss
    positives, negatives = targets, 1 - targets
  else:
    if same is None or jnp.asarray(same).dtype != bool:
      raise InputError(
        f"{law} needs same=, a boolean array with True for a similar pair; got"
        f" {'nothing' if same is None else jnp.asarray(same).dtype}."
      )
    same = jnp.asarray(same)
    entry = PAIR_LOSSES[law].terms
    positives, negatives = (
      side.astype(distances.dtype) for side in (same, ~same)
    )
  for name in hyper:
    check_choice(f"hyper-parameter of {law}", name, keywords(entry))
  check_options(law, kinds(entry), hyper)
  # Each pair is the one candidate of an anchor of its own.
  rows = Row(
    distances[:, None],
    positives[:, None],
    negatives[:, None],
    jnp.ones_like(distances),
    jnp.zeros(distances.shape, int),
  )
  parts = jax.vmap(lambda row: entry(row, **hyper))(rows)
  values = [reduce_terms(terms, reduction) for terms in parts.values()]
  return functools.reduce(jnp.add, values)


PAIR_LOSSES: dict[str, Loss] = {
  "contrastive_2005": Loss(
    _joined(contrastive_2005_law),
    metric="l1",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"upper_bound": 1},
    resolve=_bound,
    needs_positives=False,
    search={"upper_bound": Range(0.25, 4.0, log=True)},
    source="Chopra, Hadsell, LeCun, CVPR 2005",
  ),
  "contrastive": Loss(
    _joined(contrastive_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 1},
    needs_positives=False,
    search={"margin": MARGIN},
    source="Hadsell, Chopra, LeCun, CVPR 2006, equation 4",
  ),
  "contrastive_linear": Loss(
    _split(contrastive_linear_law),
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Musgrave, Belongie, Lim 2020, arXiv 2003.08505",
  ),
  "contrastive_double_margin": Loss(
    _joined(contrastive_double_margin_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Lin et al. 2015, arXiv 1501.04711",
  ),
  "snr_contrastive": Loss(
    _split(snr_contrastive_law),
    metric="snr",
    normalize="l2",
    reduction="mean_active",
    metrics=("snr",),
    scaled={"positive_margin": 1, "negative_margin": 1},
    needs_positives=False,
    search={"negative_margin": MARGIN, "positive_margin": MARGIN},
    source="Yuan et al., CVPR 2019, arXiv 1904.02616",
  ),
  "contrastive_sq_margin": Loss(
    _joined(contrastive_sq_margin_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 1},
    needs_positives=False,
    search={"margin": MARGIN},
    source="the m² - D² variant of similarity-learning texts",
  ),
  "contrastive_caffe_legacy": Loss(
    _joined(contrastive_caffe_legacy_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"margin": 2},
    needs_positives=False,
    search={"margin": Range(0.0, 4.0)},
    source="Caffe before April 2015, its legacy mode",
  ),
  "contrastive_inverse": Loss(
    _joined(contrastive_inverse_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled={"floor": 1},
    needs_positives=False,
    search={"floor": Range(1e-4, 1.0, log=True)},
    source="no paper that we know: 1/D in place of a margin",
  ),
  "margin": Loss(
    margin_loss,
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    static=("learn_beta", "per_class", "over"),
    learned={"beta": "real"},
    scaled={"alpha": 1, "beta": 1},
    resolve=_check_over,
    init=_init_boundaries,
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
  "pair_bce": Loss(
    _pair_bce_terms,
    metric="l1",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("weighted",),
    learned={"scale": "positive", "bias": "real"},
    scaled={"scale": -1},
    resolve=_weigh_l1,
    project=_weigh,
    init=_init_weights,
    needs_positives=False,
    source="Koch, Zemel, Salakhutdinov 2015",
  ),
  "pair_regression": Loss(
    pair_regression_loss,
    metric="cosine",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    static=("similarity",),
    resolve=_choose_similarity,
    needs_positives=False,
    source="classical similarity learning by regression",
  ),
}
