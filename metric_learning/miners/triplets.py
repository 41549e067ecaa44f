"""Miners that choose triplets of a row."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import (
  NotNegative,
  Positive,
  RightAngle,
)
from metric_learning.miners.chosen import (
  Angle,
  Drawn,
  Gap,
  with_triplets,
)
from metric_learning.miners.pairs import one_hot
from metric_learning.rows import Context, Points, Row
from metric_learning.signatures import OneOf

_TYPES = OneOf(("all", "hard", "semihard", "easy"))


def check_type(*, triplets: Annotated[str, _TYPES] = "all") -> None:
  """Raises an InputError for an unknown kind of triplets."""
  check_choice("triplets of the miner triplet_margin", triplets, _TYPES)


def triplet_margin(
  row: Row,
  *,
  margin: NotNegative = 0.2,
  triplets: Annotated[str, _TYPES] = "all",
) -> Row:
  """Triplets selected by g = D_an - D_ap and a margin m.

  all: g <= m. hard: g <= 0. semihard: 0 < g <= m. easy: g > m.

  Source: Schroff, Kalenichenko, Philbin, CVPR 2015, section 3.2.
  """
  check_type(triplets=triplets)
  dtype = row.distances.dtype
  margin = jnp.asarray(margin, dtype)
  zero, infinity = jnp.asarray(0, dtype), jnp.asarray(jnp.inf, dtype)
  low = {"semihard": zero, "easy": margin}.get(triplets, -infinity)
  high = {"hard": zero, "easy": infinity}.get(triplets, margin)
  return with_triplets(row, Gap(row.positives, row.negatives, low, high))


def positions(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any] | None,
  anchors: Points,
  candidates: Points,
  key: Array | None,
) -> Context:
  """For `packaged`: the position of each anchor in the batch."""
  return Context(own=jnp.arange(anchors.labels.shape[0]))


def packaged(row: Row, context: Context) -> Row:
  """Items (0, 1, 2), (3, 4, 5), … are triplets, whatever their labels."""
  first, index = context.own, jnp.arange(row.distances.shape[0])
  # Padding, and places beyond the end, are neither positive nor negative.
  usable = (row.positives + row.negatives > 0) & (first % 3 == 0)
  in_triplet = (index == first + 1) | (index == first + 2)
  complete = jnp.sum(usable & in_triplet) == 2
  positives = one_hot(first + 1, complete, row.distances)
  return with_triplets(row, Drawn(positives, jnp.full_like(index, first + 2)))


def keys(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any] | None,
  anchors: Points,
  candidates: Points,
  key: Array | None,
) -> Context:
  """A random key for each anchor, and the dimension of the embeddings."""
  if key is None:
    raise InputError(
      "this miner draws at random: call the objective with key=…"
    )
  n, dim = anchors.labels.shape[0], candidates.embeddings.shape[1]
  return Context(own=jax.random.key_data(jax.random.split(key, n)), shared=dim)


def distance_weighted(
  row: Row,
  context: Context,
  *,
  cutoff: Positive = 0.5,
  upper: Positive = 1.4,
) -> Row:
  """One negative per positive, drawn with weight 1/q(D), q the density of D.

  log w = (2 - d)·log D' - (d - 3)/2·log(1 - D'²/4) with D' = max(D, cutoff),
  and w = 0 if D >= upper. The largest log w of each row is subtracted, so that
  no anchor underflows. q is the density of L2 distances on the unit sphere, and
  the miner accepts no other distances. `cutoff` and `upper` belong to that
  distribution, and are not scaled.

  Source: Wu, Manmatha, Smola, Krähenbühl, ICCV 2017, arXiv 1706.07567,
  equation 6.
  """
  dim, m = context.shared, row.distances.shape[0]
  dtype, index = row.distances.dtype, jnp.arange(m)
  d = jnp.maximum(row.distances, cutoff)
  # No distance on the unit sphere exceeds 2; the floor keeps the logarithm of
  # larger ones finite.
  room = jnp.maximum(1 - d**2 / 4, jnp.finfo(dtype).tiny)
  logits = (2 - dim) * jnp.log(d) - (dim - 3) / 2 * jnp.log(room)
  allowed = (row.negatives > 0) & (row.distances < upper)
  top = jnp.max(jnp.where(allowed, logits, -jnp.inf), initial=-jnp.inf)
  shares = jnp.where(
    allowed, row.negatives * jnp.exp(jnp.where(allowed, logits - top, 0)), 0
  )
  sums = jnp.cumsum(shares)
  key = jax.random.wrap_key_data(context.own)
  draws = sums[-1] * jax.random.uniform(key, (m,), dtype)
  drawn = jnp.searchsorted(sums, draws, side="right")
  # Rounding may draw a candidate without a share. The next one with a share
  # then replaces it, or else the last one.
  has_share = shares > 0
  following = jax.lax.cummin(jnp.where(has_share, index, m), reverse=True)
  last = jnp.max(jnp.where(has_share, index, 0), initial=0)
  negative = jnp.minimum(following[jnp.minimum(drawn, m - 1)], last)
  positives = jnp.where(jnp.any(has_share), row.positives, 0)
  return with_triplets(row, Drawn(positives, negative))


def between(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  key: Array | None,
) -> Context:
  """For `angular`: the distances between candidates."""
  return Context(shared=over_candidates(lambda row: row.distances))


_ANGLE = math.radians(20)


def angular(row: Row, context: Context, *, angle: RightAngle = _ANGLE) -> Row:
  """Triplets with atan(D_ap / 2|x_n - (x_a + x_p)/2|) > angle, in radians.

  By the theorem of Apollonius, |x_n - mid|² = D_an²/2 + D_pn²/2 - D_ap²/4 with
  L2 distances. The miner stores the distances between all m candidates: O(m²)
  memory, whatever the block size. Under losses that see several rows at once
  (`triplet_swap`), it stores them once for each row of a block.

  Source: the constraint of Wang et al., ICCV 2017, arXiv 1708.01682, equation
  5, as a miner.
  """
  limit = jnp.asarray(angle, row.distances.dtype)
  triplets = Angle(row.positives, row.negatives, context.shared, limit)
  return with_triplets(row, triplets)
