"""Pair losses by name, and `pair_loss` for explicit pairs."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import check_options
from metric_learning.losses.base import Loss, keywords
from metric_learning.losses.contrastive import (
  CONTRASTIVE_LOSSES,
  contrastive_2005_potential,
  contrastive_caffe_legacy_potential,
  contrastive_double_margin_potential,
  contrastive_inverse_potential,
  contrastive_linear_potential,
  contrastive_potential,
  contrastive_sq_margin_potential,
  snr_contrastive_potential,
)
from metric_learning.losses.similarities import (
  SIMILARITY_LOSSES,
  pair_bce_potential,
  pair_regression_loss,
)
from metric_learning.losses.thresholds import THRESHOLD_LOSSES
from metric_learning.rows import Row, reduce_terms
from metric_learning.signatures import kinds

PAIR_LOSSES: dict[str, Loss] = {
  **CONTRASTIVE_LOSSES,
  **THRESHOLD_LOSSES,
  **SIMILARITY_LOSSES,
}

# Attraction and repulsion of one pair, `d -> (attract, repel)`.
PAIR_POTENTIALS: dict[str, Callable[..., tuple[Array, Array]]] = {
  "contrastive_2005": contrastive_2005_potential,
  "contrastive": contrastive_potential,
  "contrastive_linear": contrastive_linear_potential,
  "contrastive_double_margin": contrastive_double_margin_potential,
  "contrastive_sq_margin": contrastive_sq_margin_potential,
  "contrastive_caffe_legacy": contrastive_caffe_legacy_potential,
  "contrastive_inverse": contrastive_inverse_potential,
  "snr_contrastive": snr_contrastive_potential,
  "pair_bce": pair_bce_potential,
}


def pair_loss(
  name: str,
  distances: Float[Array, " p"],
  *,
  same: Bool[Array, " p"] | None = None,
  targets: Float[Array, " p"] | None = None,
  reduction: str = "mean",
  **hyper: Any,
) -> Float[Array, "*p"]:
  """A pair loss on explicit pairs, such as a verification set.

  `same` is boolean and True for a similar pair. The numbers 0 and 1 are
  refused, since papers disagree on which of them means similar. `targets` are
  similarities in [0, 1], for "pair_regression" (whose distances are cosine
  distances unless similarity="exp").

  Raises:
    InputError: for an unknown loss or hyperparameter, for `same` that is not
      boolean, or if the loss needs `targets` instead of `same` or the reverse.

  >>> d = jnp.array([0.5, 0.5])
  >>> pair_loss("contrastive_linear", d, same=jnp.array([True, False]))
  Array(1., dtype=float32)
  """
  check_choice("pair loss", name, [*PAIR_POTENTIALS, "pair_regression"])
  distances = jnp.asarray(distances)
  if name == "pair_regression":
    if targets is None:
      raise InputError("pair_regression needs targets=, similarities in [0, 1]")
    targets = jnp.asarray(targets, distances.dtype)
    entry: Callable[..., Any] = pair_regression_loss
    positives, negatives = targets, 1 - targets
  else:
    if same is None or jnp.asarray(same).dtype != bool:
      raise InputError(
        f"{name} needs same=, a boolean array with True for a similar pair; got"
        f" {'nothing' if same is None else jnp.asarray(same).dtype}."
      )
    same = jnp.asarray(same)
    entry = PAIR_LOSSES[name].terms
    positives, negatives = (
      side.astype(distances.dtype) for side in (same, ~same)
    )
  for key in hyper:
    check_choice(f"hyperparameter of {name}", key, keywords(entry))
  check_options(name, kinds(entry), hyper)
  # Each pair becomes an anchor with a single candidate.
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
