"""Miners that see all rows of the batch."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.errors import InputError
from metric_learning.intervals import (
  Interval,
  Natural,
  Number,
)
from metric_learning.rows import Context, Points, Row

Fraction = Annotated[Number, Interval(0.0, 1.0, open_low=True)]


def _ordered(values: Float[Array, "*n"]) -> Array:
  """Unsigned integers that have the order of the floats."""
  bits = jnp.finfo(values.dtype).bits
  kind = {32: jnp.uint32, 64: jnp.uint64}[bits]
  raw = jax.lax.bitcast_convert_type(values, kind)
  top = kind(1 << (bits - 1))
  return jnp.where(raw >= top, ~raw, raw | top)


def _hardness(row: Row) -> tuple[Array, Array]:
  """For positives and for negatives, integers that are larger if harder."""
  order = _ordered(row.distances)
  return order, ~order


def hardest_pairs(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any] | None,
  anchors: Points,
  candidates: Points,
  key: Array | None,
  *,
  fraction: Fraction = 0.5,
) -> Context:
  """The least hardness that each side keeps, and how many ties it keeps.

  A search bit by bit counts pairs; it needs no sort and no list of pairs.
  """

  def count(keeps: Callable[..., Any]) -> Array:
    """For each row and side, the number of pairs with `keeps(hardness, side)`.

    The sides are positives and negatives.
    """

    def of_row(row: Row) -> Array:
      sides = (row.positives > 0, row.negatives > 0)
      return jnp.stack(
        [
          jnp.sum(side & keeps(hardness, s))
          for s, (side, hardness) in enumerate(
            zip(sides, _hardness(row), strict=True)
          )
        ]
      )

    return over_anchors(of_row)

  wanted = jnp.sum(count(lambda hardness, s: True), axis=0)
  wanted = jnp.ceil(fraction * wanted).astype(wanted.dtype)
  kind = _ordered(candidates.embeddings[:1, 0]).dtype
  bits = jnp.iinfo(kind).bits

  def refine(i: Array, least: Array) -> Array:
    bit = jnp.left_shift(jnp.ones((), kind), (bits - 1 - i).astype(kind))
    trial = least | bit
    number = jnp.sum(count(lambda hardness, s: hardness >= trial[s]), axis=0)
    return jnp.where(number >= wanted, trial, least)

  least = jax.lax.fori_loop(0, bits, refine, jnp.zeros(2, kind))
  harder = jnp.sum(count(lambda hardness, s: hardness > least[s]), axis=0)
  ties = count(lambda hardness, s: hardness == least[s])
  before = jnp.cumsum(ties, axis=0) - ties
  return Context(own=before, shared=(least, wanted - harder))


def hdc(row: Row, context: Context, *, fraction: Fraction = 0.5) -> Row:
  """The hardest share of all positive and of all negative pairs in the batch.

  Keeps ceil(fraction · number) pairs of each side: the farthest positives and
  the nearest negatives. Ties are kept in the order of anchors and candidates.

  Source: Yuan, Yang, Zhang, ICCV 2017, arXiv 1611.05720.
  """
  least, room = context.shared
  selected = []
  sides = zip((row.positives, row.negatives), _hardness(row), strict=True)
  for s, (weights, hardness) in enumerate(sides):
    exists = weights > 0
    tie = exists & (hardness == least[s])
    rank = context.own[s] + jnp.cumsum(tie) - 1
    keep = (exists & (hardness > least[s])) | (tie & (rank < room[s]))
    selected.append(jnp.where(keep, weights, 0))
  return row._replace(positives=selected[0], negatives=selected[1])


def _bins(
  distances: Array, limits: tuple[Array, Array], num_bins: int
) -> Array:
  """The bin of each distance, of equal widths between the two limits."""
  low, high = limits
  width = jnp.where(high > low, high - low, 1)
  index = jnp.floor((distances - low) / width * num_bins).astype(jnp.int32)
  return jnp.clip(index, 0, num_bins - 1)


def draw_from_bins(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any] | None,
  anchors: Points,
  candidates: Points,
  key: Array | None,
  *,
  num_bins: Natural = 100,
  positives_per_bin: Natural = 10,
  negatives_per_bin: Natural = 10,
) -> Context:
  """For positives and negatives: the limits, and the places drawn in each bin.

  For each anchor, it also counts the pairs of earlier anchors in each bin.
  """
  if key is None:
    raise InputError(
      "this miner draws at random: call the objective with key=…"
    )
  offsets, shared = [], []
  numbers = (positives_per_bin, negatives_per_bin)
  for side, number in enumerate(numbers):
    weights = lambda row, side=side: (row.positives, row.negatives)[side] > 0
    ends = over_anchors(
      lambda row, weights=weights: (
        jnp.min(jnp.where(weights(row), row.distances, jnp.inf)),
        jnp.max(jnp.where(weights(row), row.distances, -jnp.inf)),
      )
    )
    limits = jnp.min(ends[0]), jnp.max(ends[1])
    exists = limits[1] >= limits[0]
    limits = jnp.where(exists, limits[0], 0), jnp.where(exists, limits[1], 0)
    counts = over_anchors(
      lambda row, weights=weights, limits=limits: (
        jnp.zeros(num_bins, jnp.int32)
        .at[_bins(row.distances, limits, num_bins)]
        .add(weights(row).astype(jnp.int32))
      )
    )
    offsets.append(jnp.cumsum(counts, axis=0) - counts)
    total = jnp.sum(counts, axis=0)
    places = jax.random.randint(
      jax.random.fold_in(key, side),
      (number, num_bins),
      0,
      jnp.maximum(total, 1),
    )
    shared.append((limits, places.T))
  return Context(own=tuple(offsets), shared=tuple(shared))


def uniform_histogram(
  row: Row,
  context: Context,
  *,
  num_bins: Natural = 100,
  positives_per_bin: Natural = 10,
  negatives_per_bin: Natural = 10,
) -> Row:
  """Equally many pairs of each distance: a fixed number drawn from every bin.

  The bins are equally wide between the least and the largest distance of all
  positive (negative) pairs of the batch. Pairs are drawn with replacement from
  each bin that has any. The weight of a pair is how often it was drawn.

  Source: the sampling by distance of Wu et al., ICCV 2017, in its uniform form.
  """
  selected = []
  index = jnp.arange(row.distances.shape[0])
  for side, weights in enumerate((row.positives, row.negatives)):
    limits, places = context.shared[side]
    exists = weights > 0
    bins = jnp.where(exists, _bins(row.distances, limits, num_bins), num_bins)
    # The place of a pair in its bin: after the pairs of earlier anchors, and
    # then in the order of the candidates.
    order = jnp.argsort(bins, stable=True)
    ordered = bins[order]
    start = jnp.searchsorted(ordered, ordered)
    rank = jnp.zeros_like(index).at[order].set(index - start)
    inside = jnp.minimum(bins, num_bins - 1)
    place = context.own[side][inside] + rank
    times = jnp.sum(places[inside] == place[:, None], axis=1)
    selected.append(jnp.where(exists, times, 0).astype(weights.dtype))
  return row._replace(positives=selected[0], negatives=selected[1])
