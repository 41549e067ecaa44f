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

from metric_learning.distances import largest_distance
from metric_learning.errors import InputError, check_choice
from metric_learning.losses.base import DISTANCES, SIMILARITIES, Loss, keywords
from metric_learning.rows import (
  Row,
  Terms,
  add_terms,
  make_terms,
  reduce_terms,
)

Distances = Float[Array, "*m"]


def contrastive_law(
  d: Distances, *, margin: float | Array = 1.0, half: bool = True
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
  d: Distances, *, upper_bound: float | Array | None = None
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
  positive_margin: float | Array = 0.0,
  negative_margin: float | Array = 1.0,
) -> tuple[Distances, Distances]:
  """Linear hinges: attract [D - m_pos]+, repel [m_neg - D]+.

  >>> [float(x) for x in contrastive_linear_law(jnp.array(0.75),
  ...                                            positive_margin=0.5)]
  [0.25, 0.25]

  Source: Musgrave, Belongie, Lim 2020 (arXiv 2003.08505).
  """
  return jax.nn.relu(d - positive_margin), jax.nn.relu(negative_margin - d)


def contrastive_sq_margin_law(
  d: Distances, *, margin: float | Array = 1.0, half: bool = False
) -> tuple[Distances, Distances]:
  """Squared margin: attract D², repel [m² - D²]+.

  The slope of the repulsion is 2D: it vanishes where it is needed most.

  >>> [float(x) for x in contrastive_sq_margin_law(jnp.array(0.5))]
  [0.25, 0.75]

  Source: the "m squared" variant of similarity-learning texts.
  """
  factor = 0.5 if half else 1.0
  return factor * d**2, factor * jax.nn.relu(margin**2 - d**2)


def contrastive_inverse_law(
  d: Distances, *, floor: float | Array = 1e-3, half: bool = True
) -> tuple[Distances, Distances]:
  """Inverse repulsion: attract ½D², repel 1 / max(D, δ).

  It never rests: the repulsion is positive at every distance. δ (`floor`) is
  in units of the distance and keeps coincident points finite. `half` acts on
  the attraction alone, as in the definition.

  >>> [float(x) for x in contrastive_inverse_law(jnp.array(0.5))]
  [0.125, 2.0]

  Source: the repulsion that the spring analogy of Hadsell et al. 2006, section
  2.2, argues against.
  """
  return (0.5 if half else 1.0) * d**2, 1 / jnp.maximum(d, floor)


def pair_bce_law(
  d: Distances, *, scale: float | Array = 1.0, bias: float | Array = 0.0
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
  "contrastive_sq_margin": contrastive_sq_margin_law,
  "contrastive_inverse": contrastive_inverse_law,
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
  bound = largest_distance(metric, normalize, dim)
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
  return embeddings * jnp.exp(params["log_weights"])


def _pair_bce_terms(row, *, scale=1.0, bias=0.0, weighted=None):
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
    scaled=("upper_bound",),
    resolve=_bound,
    source="Chopra, Hadsell, LeCun, CVPR 2005",
  ),
  "contrastive": Loss(
    _joined(contrastive_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled=("margin",),
    source="Hadsell, Chopra, LeCun, CVPR 2006, equation 4",
  ),
  "contrastive_linear": Loss(
    _split(contrastive_linear_law),
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled=("positive_margin", "negative_margin"),
    source="Musgrave, Belongie, Lim 2020, arXiv 2003.08505",
  ),
  "contrastive_sq_margin": Loss(
    _joined(contrastive_sq_margin_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled=("margin",),
    source="the m² - D² variant of similarity-learning texts",
  ),
  "contrastive_inverse": Loss(
    _joined(contrastive_inverse_law),
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    static=("half",),
    scaled=("floor",),
    source="Hadsell, Chopra, LeCun, CVPR 2006, section 2.2, refuted there",
  ),
  "pair_bce": Loss(
    _pair_bce_terms,
    metric="l1",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("weighted",),
    learned={"scale": "positive", "bias": "real"},
    resolve=_weigh_l1,
    project=_weigh,
    init=_init_weights,
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
    source="classical similarity learning by regression",
  ),
}
