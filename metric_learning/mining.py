"""Miners: Row → Row. They narrow or weigh positives and negatives.

A miner never indexes the batch. One that chooses triplets, and not a product
of positives and negatives, leaves them in `row.triplets` for the losses that
loop over triplets; pair losses see how often each candidate was chosen. What a
miner chooses is a constant of the derivative. Thresholds and margins are in
units of the distance.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metric_learning.errors import InputError, check_choice
from metric_learning.intervals import (
  Interval,
  Natural,
  NotNegative,
  Number,
  Positive,
  RightAngle,
  check_options,
  check_rising,
)
from metric_learning.rows import Context, Row, each_positive
from metric_learning.signatures import Kind, call_with, keywords, kinds

Range = tuple[Number, Number]


# --- Triplets that are no product -------------------------------------------


class Gap(NamedTuple):
  """The triplets of a row with low < D_n - D_p <= high."""

  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  low: Float[Array, "*n"]
  high: Float[Array, "*n"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that the positive p meets."""
    gap = distances - distances[p]
    return jnp.where((self.low < gap) & (gap <= self.high), self.negatives, 0)


class Drawn(NamedTuple):
  """One negative for each positive: `negative[p]` is its index."""

  positives: Float[Array, "*n m"]
  negative: Int[Array, "*n m"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that the positive p meets."""
    index = jnp.arange(distances.shape[0])
    return (index == self.negative[p]).astype(distances.dtype)


class Angle(NamedTuple):
  """The triplets of a row with atan(D_p / 2|x_n - (x_a + x_p)/2|) > angle."""

  positives: Float[Array, "*n m"]
  negatives: Float[Array, "*n m"]
  # Between candidates: of all rows, as long as they are mapped one by one.
  between: Float[Array, "*n m m"]
  angle: Float[Array, "*n"]

  def of(
    self, p: Int[Array, ""], distances: Float[Array, " m"]
  ) -> Float[Array, " m"]:
    """Weights of the negatives that the positive p meets."""
    own = distances[p]
    square = distances**2 / 2 + self.between[p] ** 2 / 2 - own**2 / 4
    # Two arguments, so that a negative at the very middle has an angle too.
    found = jnp.arctan2(own, 2 * jnp.sqrt(jnp.maximum(square, 0)))
    return jnp.where(found > self.angle, self.negatives, 0)


def _with_triplets(row: Row, triplets: Gap | Drawn | Angle) -> Row:
  """The row with these triplets; its weights count them for pair losses."""

  index = jnp.arange(row.distances.shape[0])

  def count(p, sums):
    positives, negatives = sums
    met = triplets.of(p, row.distances) * triplets.positives[p]
    own = jnp.where(index == p, jnp.sum(met), 0)
    return positives + own, negatives + met

  zeros = jnp.zeros_like(row.distances)
  positives, negatives = each_positive(
    triplets.positives, count, (zeros, zeros)
  )
  return row._replace(
    positives=positives, negatives=negatives, triplets=triplets
  )


# --- Products of positives and negatives ------------------------------------


def all_pairs(row: Row) -> Row:
  """Every positive and every negative: the row as it is."""
  return row


def _one_hot(
  index: Int[Array, ""], exists: Bool[Array, ""], like: Float[Array, " m"]
) -> Float[Array, " m"]:
  """1 at the index if it exists, in the type of `like`."""
  chosen = (jnp.arange(like.shape[0]) == index) & exists
  return chosen.astype(like.dtype)


def batch_hard(row: Row) -> Row:
  """The farthest positive and the nearest negative; ties: the lowest index.

  Source: Hermans, Beyer, Leibe 2017, arXiv 1703.07737.
  """
  return easy_hard(row, positive="hard", negative="hard")


_SIDES = ("easy", "semihard", "hard", "all")


def _check_sides(
  *,
  positive: str = "easy",
  negative: str = "semihard",
  positive_range: Any = None,
  negative_range: Any = None,
) -> None:
  for name, choice in (("positive", positive), ("negative", negative)):
    check_choice(f"{name} of the miner easy_hard", choice, _SIDES)
  if {positive, negative} in ({"semihard"}, {"semihard", "all"}):
    raise InputError(
      f"easy_hard: positive={positive!r} with negative={negative!r} leaves"
      " nothing to compare with: a semihard side needs easy or hard opposite."
    )
  check_rising("easy_hard: positive_range", positive_range)
  check_rising("easy_hard: negative_range", negative_range)


def easy_hard(
  row: Row,
  *,
  positive: str = "easy",
  negative: str = "semihard",
  positive_range: Range | None = None,
  negative_range: Range | None = None,
) -> Row:
  """One positive and one negative an anchor: easy, semihard, hard, or all.

  Of positives the easy one is the nearest, the hard one the farthest; of
  negatives the other way round. A semihard negative is the nearest that is
  farther than the chosen positive; a semihard positive the farthest that is
  nearer than the chosen negative. A range, with its ends, limits the
  distances that may be chosen. An anchor without a choice on either side has
  no pair at all.

  Raises:
    InputError: for an unknown side, or if a semihard side has no single
      partner to compare with.

  Source: Xuan, Stylianou, Pless, WACV 2020 (easy positive), arXiv 1904.04370.
  """
  _check_sides(
    positive=positive,
    negative=negative,
    positive_range=positive_range,
    negative_range=negative_range,
  )
  distances = row.distances

  def allowed(weights, limits):
    low, high = (-jnp.inf, jnp.inf) if limits is None else limits
    return (weights > 0) & (low <= distances) & (distances <= high)

  def nearest(mask):
    return jnp.argmin(jnp.where(mask, distances, jnp.inf)), jnp.any(mask)

  def farthest(mask):
    return jnp.argmax(jnp.where(mask, distances, -jnp.inf)), jnp.any(mask)

  masks = (
    allowed(row.positives, positive_range),
    allowed(row.negatives, negative_range),
  )
  choose = (
    {"easy": nearest, "hard": farthest},
    {"easy": farthest, "hard": nearest},
  )
  names = (positive, negative)
  found: list[Any] = [None, None]
  for side in (0, 1):
    if names[side] in choose[side]:
      found[side] = choose[side][names[side]](masks[side])
  for side in (0, 1):
    if names[side] == "semihard":
      partner, exists = found[1 - side]
      own = distances[partner]
      mask = masks[side] & (distances > own if side else distances < own)
      index, some = (nearest if side else farthest)(mask)
      found[side] = index, some & exists
  both = functools.reduce(
    jnp.logical_and,
    [
      jnp.any(mask) if some is None else some[1]
      for mask, some in zip(masks, found, strict=True)
    ],
  )
  kept = [
    jnp.where(mask & both, weights, 0)
    if some is None
    else _one_hot(some[0], both, weights)
    for mask, weights, some in zip(
      masks, (row.positives, row.negatives), found, strict=True
    )
  ]
  return row._replace(positives=kept[0], negatives=kept[1])


def multi_similarity(row: Row, *, epsilon: NotNegative = 0.1) -> Row:
  """Pairs that are not yet ordered by ε: s_p - ε < max s_n, s_n + ε > min s_p.

  With s = -D under any metric: keep p if D_p + ε > min_n D_n, and n if D_n - ε
  < max_p D_p. Both sides are needed.

  Source: Wang et al., CVPR 2019, arXiv 1904.06627, equations 11 and 12.
  """
  positive, negative = row.positives > 0, row.negatives > 0
  near = jnp.min(jnp.where(negative, row.distances, jnp.inf), initial=jnp.inf)
  far = jnp.max(jnp.where(positive, row.distances, -jnp.inf), initial=-jnp.inf)
  return row._replace(
    positives=jnp.where(row.distances + epsilon > near, row.positives, 0),
    negatives=jnp.where(row.distances - epsilon < far, row.negatives, 0),
  )


def pair_margin(
  row: Row,
  *,
  positive_margin: NotNegative = 0.2,
  negative_margin: NotNegative = 0.8,
) -> Row:
  """Positives beyond one distance, negatives within another, strictly."""
  far = row.distances > positive_margin
  near = row.distances < negative_margin
  return row._replace(
    positives=jnp.where(far, row.positives, 0),
    negatives=jnp.where(near, row.negatives, 0),
  )


# --- Triplets ---------------------------------------------------------------

_TYPES = ("all", "hard", "semihard", "easy")


def _check_type(*, triplets: str = "all") -> None:
  check_choice("triplets of the miner triplet_margin", triplets, _TYPES)


def triplet_margin(
  row: Row, *, margin: NotNegative = 0.2, triplets: str = "all"
) -> Row:
  """Triplets by g = D_an - D_ap against a margin m.

  all: g <= m. hard: g <= 0. semihard: 0 < g <= m. easy: g > m.

  Source: Schroff, Kalenichenko, Philbin, CVPR 2015, section 3.2.
  """
  _check_type(triplets=triplets)
  dtype = row.distances.dtype
  margin = jnp.asarray(margin, dtype)
  zero, infinity = jnp.asarray(0, dtype), jnp.asarray(jnp.inf, dtype)
  low = {"semihard": zero, "easy": margin}.get(triplets, -infinity)
  high = {"hard": zero, "easy": infinity}.get(triplets, margin)
  return _with_triplets(row, Gap(row.positives, row.negatives, low, high))


def _positions(
  over_anchors, over_candidates, anchors, candidates, key
) -> Context:
  return Context(own=jnp.arange(anchors.labels.shape[0]))


def packaged(row: Row, context: Context) -> Row:
  """Items (0, 1, 2), (3, 4, 5), … are triplets, whatever their labels."""
  first, at = context.own, jnp.arange(row.distances.shape[0])
  # Padding, and what is beyond the end, is neither positive nor negative.
  there = (row.positives + row.negatives > 0) & (first % 3 == 0)
  whole = jnp.sum(there & ((at == first + 1) | (at == first + 2))) == 2
  positives = _one_hot(first + 1, whole, row.distances)
  return _with_triplets(row, Drawn(positives, jnp.full_like(at, first + 2)))


def _keys(over_anchors, over_candidates, anchors, candidates, key) -> Context:
  """A key for each anchor; and the dimension of the sphere."""
  if key is None:
    raise InputError("this miner draws: call the objective with key=…")
  n, dim = anchors.labels.shape[0], candidates.embeddings.shape[1]
  return Context(own=jax.random.key_data(jax.random.split(key, n)), shared=dim)


def distance_weighted(
  row: Row,
  context: Context,
  *,
  cutoff: Positive = 0.5,
  upper: Positive = 1.4,
) -> Row:
  """One negative for each positive, drawn by 1/q(D), q the density on a sphere.

  log w = (2 - d)·log D' - (d - 3)/2·log(1 - D'²/4) with D' = max(D, cutoff),
  and w = 0 if D >= upper. The largest log w of each row is subtracted, so that
  no anchor underflows. The density is that of L2 distances on the unit sphere,
  which alone are taken; the cutoffs are numbers of that law.

  Source: Wu, Manmatha, Smola, Krähenbühl, ICCV 2017, arXiv 1706.07567,
  equation 6.
  """
  dim, m = context.shared, row.distances.shape[0]
  dtype, index = row.distances.dtype, jnp.arange(m)
  d = jnp.maximum(row.distances, cutoff)
  # Beyond 2 the sphere has no points; the logarithm stays finite there.
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
  found = jnp.searchsorted(sums, draws, side="right")
  # Rounding may find one without a share: take the next that has one, or the
  # last.
  some = shares > 0
  following = jax.lax.cummin(jnp.where(some, index, m), reverse=True)
  last = jnp.max(jnp.where(some, index, 0), initial=0)
  negative = jnp.minimum(following[jnp.minimum(found, m - 1)], last)
  positives = jnp.where(jnp.any(some), row.positives, 0)
  return _with_triplets(row, Drawn(positives, negative))


def _between(
  over_anchors, over_candidates, anchors, candidates, key
) -> Context:
  return Context(shared=over_candidates(lambda row: row.distances))


_ANGLE = math.radians(20)


def angular(row: Row, context: Context, *, angle: RightAngle = _ANGLE) -> Row:
  """Triplets with atan(D_ap / 2|x_n - (x_a + x_p)/2|) > angle, in radians.

  By Apollonius |x_n - mid|² = D_an²/2 + D_pn²/2 - D_ap²/4, with L2 distances.
  It keeps the distances between all m candidates: O(m²) memory, whatever the
  block size; with losses that see several rows at once (`triplet_swap`) once
  for each row of a block.

  Source: the constraint of Wang et al., ICCV 2017, arXiv 1708.01682, equation
  5, as a miner.
  """
  limit = jnp.asarray(angle, row.distances.dtype)
  triplets = Angle(row.positives, row.negatives, context.shared, limit)
  return _with_triplets(row, triplets)


# --- Over the whole batch ---------------------------------------------------


Fraction = Annotated[Number, Interval(0.0, 1.0, open_low=True)]


def _ordered(values: Float[Array, "*n"]) -> Array:
  """Unsigned integers in the order of the floats."""
  bits = jnp.finfo(values.dtype).bits
  kind = {32: jnp.uint32, 64: jnp.uint64}[bits]
  raw = jax.lax.bitcast_convert_type(values, kind)
  top = kind(1 << (bits - 1))
  return jnp.where(raw >= top, ~raw, raw | top)


def _hardness(row: Row) -> tuple[Array, Array]:
  """For positives and negatives, integers that are larger where harder."""
  order = _ordered(row.distances)
  return order, ~order


def _hardest_pairs(
  over_anchors,
  over_candidates,
  anchors,
  candidates,
  key,
  *,
  fraction: Fraction = 0.5,
) -> Context:
  """The least hardness that is kept, of each side, and how ties are shared.

  It is found bit by bit, by counting pairs: no sort, no list of pairs.
  """

  def count(keeps):
    """Pairs of each side in a row for which `keeps(hardness, side)`."""

    def of_row(row):
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

  def refine(i, least):
    bit = jnp.left_shift(jnp.ones((), kind), (bits - 1 - i).astype(kind))
    tried = least | bit
    found = jnp.sum(count(lambda hardness, s: hardness >= tried[s]), axis=0)
    return jnp.where(found >= wanted, tried, least)

  least = jax.lax.fori_loop(0, bits, refine, jnp.zeros(2, kind))
  harder = jnp.sum(count(lambda hardness, s: hardness > least[s]), axis=0)
  ties = count(lambda hardness, s: hardness == least[s])
  before = jnp.cumsum(ties, axis=0) - ties
  return Context(own=before, shared=(least, wanted - harder))


def hdc(row: Row, context: Context, *, fraction: Fraction = 0.5) -> Row:
  """The hardest share of all positive and of all negative pairs in the batch.

  ceil(fraction · number) of each side: positives by falling distance,
  negatives by rising distance, ties by anchor and candidate.

  Source: Yuan, Yang, Zhang, ICCV 2017, arXiv 1611.05720.
  """
  least, room = context.shared
  kept = []
  sides = zip((row.positives, row.negatives), _hardness(row), strict=True)
  for s, (weights, hardness) in enumerate(sides):
    exists = weights > 0
    tie = exists & (hardness == least[s])
    rank = context.own[s] + jnp.cumsum(tie) - 1
    keep = (exists & (hardness > least[s])) | (tie & (rank < room[s]))
    kept.append(jnp.where(keep, weights, 0))
  return row._replace(positives=kept[0], negatives=kept[1])


def _bins(distances, limits, num_bins):
  """The bin of each distance, of equal widths between the two limits."""
  low, high = limits
  width = jnp.where(high > low, high - low, 1)
  index = jnp.floor((distances - low) / width * num_bins).astype(jnp.int32)
  return jnp.clip(index, 0, num_bins - 1)


def _draw_from_bins(
  over_anchors,
  over_candidates,
  anchors,
  candidates,
  key,
  *,
  num_bins: Natural = 100,
  positives_per_bin: Natural = 10,
  negatives_per_bin: Natural = 10,
) -> Context:
  """Limits, and the places in each bin that are drawn, of each side."""
  if key is None:
    raise InputError("this miner draws: call the objective with key=…")
  offsets, shared = [], []
  drawn = (positives_per_bin, negatives_per_bin)
  for side, number in enumerate(drawn):
    weights = lambda row, side=side: (row.positives, row.negatives)[side] > 0
    ends = over_anchors(
      lambda row, weights=weights: (
        jnp.min(jnp.where(weights(row), row.distances, jnp.inf)),
        jnp.max(jnp.where(weights(row), row.distances, -jnp.inf)),
      )
    )
    limits = jnp.min(ends[0]), jnp.max(ends[1])
    some = limits[1] >= limits[0]
    limits = jnp.where(some, limits[0], 0), jnp.where(some, limits[1], 0)
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
  """As many pairs of each distance: a fixed number drawn from every bin.

  The bins are equally wide between the least and the largest distance of all
  positive (negative) pairs of the batch. Pairs are drawn with replacement
  from each bin that has any; a pair weighs as often as it was drawn.

  Source: the sampling by distance of Wu et al., ICCV 2017, in its uniform form.
  """
  kept = []
  index = jnp.arange(row.distances.shape[0])
  for side, weights in enumerate((row.positives, row.negatives)):
    limits, places = context.shared[side]
    exists = weights > 0
    bins = jnp.where(exists, _bins(row.distances, limits, num_bins), num_bins)
    # The place of a pair in its bin: after those of earlier anchors, in the
    # order of the candidates.
    order = jnp.argsort(bins, stable=True)
    ordered = bins[order]
    start = jnp.searchsorted(ordered, ordered)
    rank = jnp.zeros_like(index).at[order].set(index - start)
    inside = jnp.minimum(bins, num_bins - 1)
    place = context.own[side][inside] + rank
    times = jnp.sum(places[inside] == place[:, None], axis=1)
    kept.append(jnp.where(exists, times, 0).astype(weights.dtype))
  return row._replace(positives=kept[0], negatives=kept[1])


# --- The miners, by name ----------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Miner:
  """One miner: its row function and what an objective must know about it.

  mine: `(row, *, …) -> Row`; with a `context`, `(row, context, *, …)`.
  context: `(over_anchors, over_candidates, anchors, candidates, key, *, …) ->
    Context`, before the rows are mined.
  metrics: those whose distances it reads; empty for any.
  normalize: the normalization that its law needs; None for any.
  scaled: options that are distances, or pairs of them, and the power of the
    distance in their unit, as `Loss.scaled`. Those of a law that holds for one
    metric alone are numbers of that law, and none of these.
  check: of its options, beyond what their annotations say; raises an InputError
    for what a call would refuse.
  """

  mine: Callable[..., Row]
  context: Callable[..., Context] | None = None
  metrics: tuple[str, ...] = ()
  normalize: str | None = None
  scaled: Mapping[str, int] = dataclasses.field(default_factory=dict)
  check: Callable[..., None] | None = None

  @property
  def options(self) -> dict[str, Any]:
    """Every option with its default."""
    return keywords(self.mine)

  @property
  def kinds(self) -> dict[str, Kind]:
    """What the options take."""
    return kinds(self.mine)

  def check_options(self, name: str, options: Mapping[str, Any]) -> None:
    """Raises an InputError for options that a call would refuse."""
    check_options(name, self.kinds, options)
    if self.check is not None:
      call_with(options, self.check)

  def check_space(self, name: str, metric: str, normalize: str) -> None:
    """Raises an InputError for distances that its law is not about."""
    metrics = self.metrics or (metric,)
    wanted = f"metric={metrics[0]!r}"
    if self.normalize is not None:
      wanted += f" and normalize={self.normalize!r}"
    if metric not in metrics or normalize != (self.normalize or normalize):
      raise InputError(
        f"the miner {name} reads {' or '.join(metrics)} distances"
        f"{' on the unit sphere' if self.normalize == 'l2' else ''}, where its"
        f" law holds: give {wanted}; got metric={metric!r} and"
        f" normalize={normalize!r}."
      )


MINERS: dict[str, Miner] = {
  "all": Miner(all_pairs),
  "batch_hard": Miner(batch_hard),
  "easy_hard": Miner(
    easy_hard,
    scaled={"positive_range": 1, "negative_range": 1},
    check=_check_sides,
  ),
  "triplet_margin": Miner(
    triplet_margin, scaled={"margin": 1}, check=_check_type
  ),
  "multi_similarity": Miner(multi_similarity, scaled={"epsilon": 1}),
  "pair_margin": Miner(
    pair_margin, scaled={"positive_margin": 1, "negative_margin": 1}
  ),
  "distance_weighted": Miner(
    distance_weighted, context=_keys, metrics=("l2",), normalize="l2"
  ),
  "hdc": Miner(hdc, context=_hardest_pairs),
  "uniform_histogram": Miner(uniform_histogram, context=_draw_from_bins),
  "angular": Miner(angular, context=_between, metrics=("l2",)),
  "packaged": Miner(packaged, context=_positions),
}
