"""Triplet losses. All triplets of a batch, without an array of triplets.

Margins are in units of the distance: of D² under `squared_l2`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.losses.base import DISTANCES, Loss
from metric_learning.losses.over_positives import over_positives
from metric_learning.rows import Row, Terms, make_terms

Number = float | Array


@over_positives
def _hinge(own, row, margin, low, high):
  """[D_p - D_n + α]+ over the n with low < D_n - D_p < high."""
  gap = row.distances - own
  chosen = jnp.where((low < gap) & (gap < high), row.negatives, 0)
  return make_terms(jax.nn.relu(margin - gap), chosen)


def triplet_loss(row: Row, *, margin: Number = 0.2) -> dict[str, Terms]:
  """Triplet loss over all triplets ("batch all"): [D_ap - D_an + α]+.

  Every p in P(a) meets every n in N(a); neither value nor gradient stores
  triplets. Reverse mode only.

  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_loss(row, margin=0.5)["triplet"].total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)

  Source: Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet), equation 3, where
  α = .2 is for squared L2 on the unit sphere; "batch all" of Hermans, Beyer,
  Leibe 2017. FaceNet itself mines; see `triplet_semihard`.
  """
  return {"triplet": _hinge(row, margin, -jnp.inf, jnp.inf)}


def triplet_semihard_loss(
  row: Row, *, margin: Number = 0.2
) -> dict[str, Terms]:
  """Triplet loss over semi-hard triplets: D_ap < D_an < D_ap + α, strictly.

  The negative is farther than the positive, and within the margin.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_semihard_loss(row, margin=0.5)["triplet"].total  # 1 - 1.25 + .5
  Array(0.25, dtype=float32)

  Source: Schroff et al., CVPR 2015, section 3.2. All semi-hard negatives of a
  pair count, not one that is drawn.
  """
  return {"triplet": _hinge(row, margin, 0.0, margin)}


def triplet_batch_hard_loss(
  row: Row, *, margin: Number = 0.2
) -> dict[str, Terms]:
  """Triplet loss of the hardest: [α + max_p D_ap - min_n D_an]+ per anchor.

  Ties take the lowest index, whose distance alone has a gradient.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_batch_hard_loss(row, margin=0.5)["triplet"].total
  Array(0.75, dtype=float32)

  Source: Hermans, Beyer, Leibe 2017 (arXiv 1703.07737), equation 5; a mean over
  anchors, where the paper sums.
  """
  positive = row.positives > 0
  negative = row.negatives > 0
  far = jnp.argmax(jnp.where(positive, row.distances, -jnp.inf))
  near = jnp.argmin(jnp.where(negative, row.distances, jnp.inf))
  exists = jnp.any(positive) & jnp.any(negative)
  value = jax.nn.relu(margin + row.distances[far] - row.distances[near])
  return {"triplet": make_terms(value, exists.astype(value.dtype))}


TRIPLET_LOSSES: dict[str, Loss] = {
  "triplet": Loss(
    triplet_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, equation 3",
  ),
  "triplet_semihard": Loss(
    triplet_semihard_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, section 3.2",
  ),
  "triplet_batch_hard": Loss(
    triplet_batch_hard_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled=("margin",),
    source="Hermans, Beyer, Leibe 2017, arXiv 1703.07737, equation 5",
  ),
}
