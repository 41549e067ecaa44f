"""Triplet losses over all triplets of a batch, without an array of triplets.

Margins are in units of the distance, that is, of D² under `squared_l2`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.intervals import (
  Natural,
  NotNegative,
  Real,
  Share,
  check_rising,
)
from metric_learning.losses.base import DISTANCES, Context, Loss
from metric_learning.losses.histograms import soft_histogram
from metric_learning.losses.over_positives import (
  over_positive_rows,
  over_positives,
)
from metric_learning.losses.search import MARGIN
from metric_learning.rows import (
  Points,
  Row,
  Terms,
  each_positive,
  exists,
  farthest,
  make_terms,
  nearest,
  ratio,
)

Distance = Callable[[Array, Array], Array]


@over_positives
def _hinge(
  positive_distance: Array, row: Row, margin: Array, low: Array, high: Array
) -> Terms:
  """[D_p - D_n + α]+ over the n with low < D_n - D_p < high."""
  gap = row.distances - positive_distance
  chosen = jnp.where((low < gap) & (gap < high), row.negatives, 0)
  return make_terms(jax.nn.relu(margin - gap), chosen)


def triplet_loss(row: Row, *, margin: NotNegative = 0.2) -> dict[str, Terms]:
  """Triplet loss over all triplets ("batch all"): [D_ap - D_an + α]+.

  Every p in P(a) is combined with every n in N(a). Neither the value nor the
  gradient stores triplets. Reverse mode only.

  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_loss(row, margin=0.5)["triplet"].total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)

  Source: Schroff, Kalenichenko, Philbin, CVPR 2015 (FaceNet), equation 3, where
  α = .2 is for squared L2 on the unit sphere; "batch all" of Hermans, Beyer,
  Leibe 2017. FaceNet itself mines triplets: see `triplet_semihard`.
  """
  return {"triplet": _hinge(row, margin, -jnp.inf, jnp.inf)}


def triplet_semihard_loss(
  row: Row, *, margin: NotNegative = 0.2
) -> dict[str, Terms]:
  """Triplet loss over semi-hard triplets: D_ap < D_an < D_ap + α, strictly.

  The negative is farther than the positive, and within the margin.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_semihard_loss(row, margin=0.5)["triplet"].total  # 1 - 1.25 + .5
  Array(0.25, dtype=float32)

  Source: Schroff et al., CVPR 2015, section 3.2. All semi-hard negatives of a
  pair count, instead of one drawn at random.
  """
  return {"triplet": _hinge(row, margin, 0.0, margin)}


def triplet_batch_hard_loss(
  row: Row, *, margin: NotNegative = 0.2
) -> dict[str, Terms]:
  """Batch-hard triplet loss: [α + max_p D_ap - min_n D_an]+ per anchor.

  Ties take the lowest index; only its distance has a gradient.

  >>> row = Row(jnp.array([1.0, 0.75, 1.25]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_batch_hard_loss(row, margin=0.5)["triplet"].total
  Array(0.75, dtype=float32)

  Source: Hermans, Beyer, Leibe 2017 (arXiv 1703.07737), equation 5. The default
  is a mean over anchors; the paper sums.
  """
  far = farthest(row.distances, row.positives > 0)
  near = nearest(row.distances, row.negatives > 0)
  value = jax.nn.relu(margin + row.distances[far] - row.distances[near])
  both = exists(row.positives) * exists(row.negatives)
  return {"triplet": make_terms(value, both)}


@over_positives
def _soft(positive_distance: Array, row: Row, margin: Array) -> Terms:
  violation = positive_distance - row.distances + margin
  return make_terms(jax.nn.softplus(violation), row.negatives)


def triplet_soft_loss(
  row: Row, *, margin: NotNegative = 0.0
) -> dict[str, Terms]:
  """Soft-margin triplet loss, over all triplets: log(1 + e^{D_ap - D_an + α}).

  Every triplet stays active. Reverse mode only.

  >>> row = Row(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_soft_loss(row)["triplet"].total  # log 2
  Array(0.6931472, dtype=float32)

  Source: Hermans, Beyer, Leibe 2017 (arXiv 1703.07737), section 2, the soft
  margin. The α inside is an addition, as in pytorch-metric-learning.
  """
  return {"triplet": _soft(row, margin)}


@over_positives
def _ratio(positive_distance: Array, row: Row) -> Terms:
  share = jax.nn.sigmoid(positive_distance - row.distances)
  return make_terms(2 * share**2, row.negatives)


def triplet_ratio_loss(row: Row) -> dict[str, Terms]:
  """Triplet network: softmax of (D_ap, D_an) against (0, 1), 2·σ(D_ap - D_an)².

  Reverse mode only.

  >>> row = Row(jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> triplet_ratio_loss(row)["triplet"].total  # 2 / 4
  Array(0.5, dtype=float32)

  Source: Hoffer and Ailon 2014 (arXiv 1412.6622), equation 3, over all
  triplets of the batch.
  """
  return {"triplet": _ratio(row)}


@over_positive_rows
def _swapped(
  positive_distance: Array, row: Row, positive_row: Array, margin: Array
) -> Terms:
  nearer = jnp.minimum(row.distances, positive_row)
  value = jax.nn.relu(positive_distance - nearer + margin)
  return make_terms(value, row.negatives)


def triplet_swap_loss(
  rows: Row,
  embeddings: Array,
  distance: Distance,
  *,
  margin: NotNegative = 0.05,
) -> dict[str, Terms]:
  """Triplet loss with swap: [D_ap - min(D_an, D_pn) + α]+.

  The negative is compared with the anchor or the positive, whichever is nearer.
  D_pn is the distance between two candidates. Reverse mode only.

  >>> from metric_learning.distances import l1_matrix
  >>> x = jnp.array([[2.0], [3.0]])  # anchor 0: D_ap = 2, D_an = 3, D_pn = 1
  >>> rows = Row(jnp.array([[2.0, 3.0]]), jnp.array([[1.0, 0.0]]),
  ...            jnp.array([[0.0, 1.0]]), jnp.ones(1), jnp.zeros(1, int))
  >>> triplet_swap_loss(rows, x, l1_matrix, margin=0.5)["triplet"].total
  Array([1.5], dtype=float32)

  Source: Balntas, Riba, Ponsa, Mikolajczyk, BMVC 2016, section 3. With
  references, D_pn is the distance between two references;
  pytorch-metric-learning takes it from the rows of the anchors instead.
  """
  return {"triplet": _swapped(rows, embeddings, distance, margin)}


# --- A margin that follows the batch ----------------------------------------


def _start_histogram(
  num_classes: int | None, embedding_dim: int | None, *, num_bins: Natural = 10
) -> dict[str, Array]:
  return {"histogram": jnp.zeros(num_bins + 1)}


def _follow_histogram(
  over_anchors: Callable[..., Any],
  over_candidates: Callable[..., Any],
  anchors: Points,
  candidates: Points,
  state: dict[str, Array],
  *,
  low: Real = -2.0,
  high: Real = 2.0,
  momentum: Share = 0.01,
  num_bins: Natural = 10,
) -> Context:
  """Moves the histogram of D_ap - D_an towards that of the batch."""
  low, high = jax.lax.stop_gradient((low, high))

  def of_row(row: Row) -> Array:
    row = row._replace(distances=jax.lax.stop_gradient(row.distances))

    def add(p: Array, total: Array) -> Array:
      negatives = (
        row.negatives
        if row.triplets is None
        else row.triplets.of(p, row.distances)
      )
      weights = positives[p] * negatives
      values = row.distances[p] - row.distances
      return total + soft_histogram(values, weights, num_bins, (low, high))

    chosen = row.triplets
    positives = row.positives if chosen is None else chosen.positives
    zeros = jnp.zeros(num_bins + 1, row.distances.dtype)
    return each_positive(positives, add, zeros)

  histogram = jnp.sum(over_anchors(of_row), axis=0)
  number, before = jnp.sum(histogram), state["histogram"]
  # The first batch with triplets replaces the zeros of the initial state.
  step = jnp.where(jnp.sum(before) > 0, momentum, 1.0)
  step = jnp.where(number > 0, step, 0.0)
  histogram = ratio(histogram, jnp.broadcast_to(number, histogram.shape))
  after = (1 - step) * before + step * histogram
  return Context(shared=jnp.cumsum(after), state={"histogram": after})


def _weighted_by_rank(
  positive_distance: Array, row: Row, low: Array, high: Array, cumulative: Array
) -> Terms:
  value = positive_distance - row.distances
  bins = cumulative.shape[0] - 1
  place = jnp.floor((value - low) / (high - low) * bins)
  place = jnp.clip(place, 0, bins).astype(jnp.int32)
  weight = jax.lax.stop_gradient(cumulative[place])
  return make_terms(weight * value, row.negatives)


_dynamic = over_positives(_weighted_by_rank, signed=True)


def triplet_dynamic_soft_loss(
  row: Row, context: Context, *, low: Real = -2.0, high: Real = 2.0
) -> dict[str, Terms]:
  """Dynamic soft margin: F(v)·v with v = D_ap - D_an, over all triplets.

  F is the running cumulative histogram of v on [low, high] (in units of the
  distance), read at the edge below v, without a gradient. A term can be
  negative. The histogram is state: each batch moves it towards its own
  histogram, by the share `momentum`.

  >>> row = Row(jnp.array([1.0, 0.5]), jnp.array([1.0, 0.0]),
  ...           jnp.array([0.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> context = Context(shared=jnp.array([0.25, 0.5, 1.0]))
  >>> triplet_dynamic_soft_loss(row, context)["triplet"].total  # F(½) = ½
  Array(0.25, dtype=float32)

  Source: Zhang and Rusinkiewicz, ICCV 2019. In pytorch-metric-learning the
  histogram has a gradient, and is not saved with the model.
  """
  return {"triplet": _dynamic(row, low, high, context.shared)}


def _check_range(
  hyper: dict[str, Any], metric: str, normalize: str, dim: int
) -> dict[str, Any]:
  check_rising(
    "triplet_dynamic_soft: low and high", (hyper["low"], hyper["high"])
  )
  return hyper


TRIPLET_LOSSES: dict[str, Loss] = {
  "triplet_dynamic_soft": Loss(
    triplet_dynamic_soft_loss,
    metric="l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    static=("num_bins",),
    scaled={"low": 1, "high": 1},
    context=_follow_histogram,
    state=_start_histogram,
    fill_defaults=_check_range,
    source="Zhang and Rusinkiewicz, ICCV 2019",
  ),
  "triplet": Loss(
    triplet_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled={"margin": 1},
    search={"margin": MARGIN},
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, equation 3",
  ),
  "triplet_semihard": Loss(
    triplet_semihard_loss,
    metric="squared_l2",
    normalize="l2",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"margin": 1},
    search={"margin": MARGIN},
    source="Schroff, Kalenichenko, Philbin, CVPR 2015, section 3.2",
  ),
  "triplet_batch_hard": Loss(
    triplet_batch_hard_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"margin": 1},
    search={"margin": MARGIN},
    source="Hermans, Beyer, Leibe 2017, arXiv 1703.07737, equation 5",
  ),
  "triplet_soft": Loss(
    triplet_soft_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    scaled={"margin": 1},
    absolute="log(1 + e^v) bends over a range of v that is never scaled",
    search={"margin": MARGIN},
    source="Hermans, Beyer, Leibe 2017, arXiv 1703.07737, section 2",
  ),
  "triplet_swap": Loss(
    triplet_swap_loss,
    metric="l2",
    normalize="l2",
    reduction="mean_active",
    metrics=DISTANCES,
    scaled={"margin": 1},
    batched=True,
    search={"margin": MARGIN},
    source="Balntas et al., BMVC 2016, section 3",
  ),
  "triplet_ratio": Loss(
    triplet_ratio_loss,
    metric="l2",
    normalize="none",
    reduction="mean",
    metrics=DISTANCES,
    absolute="σ(v) bends over a range of v that is never scaled",
    source="Hoffer and Ailon 2014, arXiv 1412.6622, equation 3",
  ),
}
