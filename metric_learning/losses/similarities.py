"""Pair losses that learn a similarity by classification or by regression."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import Positive, Real
from metric_learning.losses.base import DISTANCES, SIMILARITIES, Loss
from metric_learning.rows import Row, Terms, add_terms, make_terms
from metric_learning.signatures import OneOf

Distances = Float[Array, "*m"]


def pair_bce_potential(
  d: Distances, *, scale: Positive = 1.0, bias: Real = 0.0
) -> tuple[Distances, Distances]:
  """Binary cross-entropy of logit b - a·D: attract and repel.

  b is a threshold, in units of a·D.

  >>> [round(float(x), 4) for x in pair_bce_potential(jnp.array(0.0))]
  [0.6931, 0.6931]

  Source: Koch, Zemel, Salakhutdinov 2015, whose printed equation lacks the
  minus sign.
  """
  logit = bias - scale * d
  return jax.nn.softplus(-logit), jax.nn.softplus(logit)


def _weigh_l1(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  """Koch's weights of dimensions are the default for L1; others refuse them."""
  weighted = hyper["weighted"]
  if weighted and metric != "l1":
    raise InputError(
      f"pair_bce with weighted=True needs an L1 distance, but the metric is"
      f" {metric!r}: use metric='l1' or weighted=False."
    )
  return {**hyper, "weighted": metric == "l1" if weighted is None else weighted}


def _init_weights(
  key: Array,
  num_classes: int | None,
  dim: int | None,
  *,
  scale: Positive = 1.0,
  weighted: bool | None = None,
) -> dict[str, Array]:
  if not weighted:
    return {}
  if dim is None:
    raise InputError(
      "pair_bce learns a weight for each dimension of L1:"
      " call init(key, embedding_dim=…)."
    )
  return {"log_weights": jnp.full(dim, jnp.log(scale))}


def _weigh(
  params: Any, embeddings: Array, *, weighted: bool | None = None
) -> Array:
  """Σ α_j|x_j - y_j| is the L1 distance of α∘x and α∘y, α = exp(…) > 0."""
  if not weighted:
    return embeddings
  weights = jnp.exp(params["log_weights"])
  if weights.shape != embeddings.shape[-1:]:
    raise InputError(
      f"pair_bce learned {weights.shape[0]} weights, one for each dimension,"
      f" but the embeddings have {embeddings.shape[-1]} dimensions: call init"
      " with their embedding_dim."
    )
  return embeddings * weights


def _pair_bce_terms(
  row: Row,
  *,
  scale: Positive = 1.0,
  bias: Real = 0.0,
  weighted: bool | None = None,
) -> dict[str, Terms]:
  attract, repel = pair_bce_potential(
    row.distances, scale=1.0 if weighted else scale, bias=bias
  )
  same = make_terms(attract, row.positives)
  return {"pair": add_terms(same, make_terms(repel, row.negatives))}


_pair_bce_terms.__doc__ = pair_bce_potential.__doc__


_SIMILARITIES = OneOf(("cosine01", "exp", "cosine"))


def _similarity(distances: Distances, similarity: str | None) -> Distances:
  """A similarity in [0, 1] (or the cosine itself) from distances."""
  if similarity == "exp":
    return jnp.exp(-distances)
  cosine = 1 - distances
  return cosine if similarity == "cosine" else (1 + cosine) / 2


def pair_regression_loss(
  row: Row, *, similarity: Annotated[str, _SIMILARITIES] | None = None
) -> dict[str, Terms]:
  """Regression of a similarity: (g - t)².

  g is (1 + cos)/2 for "cosine01", cos for "cosine", and exp(-D) for "exp". By
  default, an objective uses "cosine01" under the cosine metric and "exp" under
  any other. t is the target similarity in [0, 1]. In a row, a candidate with
  positive weight P and negative weight N has the target P/(P + N) and the
  weight P + N; with labels, t is 1 or 0.

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


def _choose_similarity(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  """The default is "cosine01" under the cosine metric, and "exp" otherwise."""
  name = hyper["similarity"]
  if name is None:
    name = "cosine01" if metric == "cosine" else "exp"
  check_choice("similarity", name, _SIMILARITIES)
  if metric != "cosine" and name != "exp":
    raise InputError(
      f"pair_regression with similarity={name!r} needs a cosine, but the"
      f" metric is {metric!r}: use similarity='exp' or metric='cosine'."
    )
  return {**hyper, "similarity": name}


SIMILARITY_LOSSES: dict[str, Loss] = {
  "pair_bce": Loss(
    _pair_bce_terms,
    metric="l1",
    normalize="none",
    reduction="mean",
    metrics=SIMILARITIES,
    static=("weighted",),
    learned={"scale": "positive", "bias": "real"},
    scaled={"scale": -1},
    fill_defaults=_weigh_l1,
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
    absolute="e^{-D} halves over a distance that no hyperparameter scales",
    fill_defaults=_choose_similarity,
    needs_positives=False,
    source="classical similarity learning by regression",
  ),
}
