"""Sweeps that several configs offer: generators of flat overrides.

A config puts them into its SWEEPS with `sweeps`. Margins, gaps, temperatures,
and distances of miners are in units of the mean distance at initialization, d̄,
where the config or the sweep says margin_unit="initial_mean".
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metric_learning.losses import LOSSES
from metric_learning.study.sweeps import Overrides, Sweep

# What classes × images of each a batch may have.
Shapes = Sequence[tuple[int, int]]

# Ten paired seeds can support 25 comparisons.
SEEDS = tuple(range(10))

# Each tried under L2, L1 and cosine, as far as it allows them: 24 cells.
EQUAL_BUDGET = (
  "contrastive",
  "triplet",
  "margin",
  "supcon",
  "infonce_per_pair",
  "norm_softmax",
  "proxy_nca",
  "multi_similarity",
  "cosface",
  "arcface",
)

# What is chosen on validation where something else is the question.
NUMBERS = {
  "contrastive": ("loss.margin", (0.5, 1.0, 1.5)),
  "triplet": ("loss.margin", (0.125, 0.25, 0.5)),
  "supcon": ("loss.temperature", (0.1, 0.2, 0.4)),
}

# How far apart classes shall be; its square; by how much farther than an image
# of the same class; and the same as a cosine, an angle, or a gap of cosines.
_APART = (0.25, 0.5, 1.0, 1.5, 2.0)
_SQUARES = tuple(value**2 for value in _APART)
_GAPS = (0.0625, 0.125, 0.25, 0.5, 1.0)
_COSINES = (0.02, 0.05, 0.1, 0.2, 0.4)

# Every loss with a margin that is a number. (Of `sphereface` and `l_softmax` it
# is a whole number that selects code.)
MARGINS = {
  "contrastive": ("margin", _APART),
  "contrastive_sq_margin": ("margin", _APART),
  "contrastive_caffe_legacy": ("margin", _SQUARES),
  "contrastive_linear": ("negative_margin", _APART),
  "contrastive_double_margin": ("negative_margin", _APART),
  "snr_contrastive": ("negative_margin", _APART),
  "lifted": ("margin", _APART),
  "lifted_hard": ("margin", _APART),
  "lifted_generalized": ("negative_margin", _APART),
  "ranked_list": ("margin", _GAPS),
  "margin": ("alpha", _GAPS),
  "triplet": ("margin", _GAPS),
  "triplet_semihard": ("margin", _GAPS),
  "triplet_batch_hard": ("margin", _GAPS),
  "triplet_soft": ("margin", _GAPS),
  "triplet_swap": ("margin", _GAPS),
  "quadruplet": ("margin", _GAPS),
  "tcm": ("negative_margin", _COSINES),
  "circle": ("margin", _COSINES),
  "tuplet_margin": ("margin", _COSINES),
  "cosface": ("margin", _COSINES),
  "arcface": ("margin", _COSINES),
  "arcface_subcenter": ("margin", _COSINES),
  "proxy_anchor": ("margin", _COSINES),
  "soft_triple": ("margin", _COSINES),
  "manifold": ("margin", _COSINES),
}


# Fields and values of a cell.
Reference = Mapping[str, Any]

_STANDARD: dict[str, Callable[[Shapes], Sweep]] = {}


def _standard(
  reference: Reference | Callable[[Shapes], Reference] | None = None,
  *,
  choose: bool = True,
) -> Callable[[Callable[..., Overrides]], Callable[..., Overrides]]:
  """Makes a generator one of the standard sweeps, under its own name.

  It takes no argument, or the shapes of batches; so does its reference.
  """

  def added(overrides: Callable[..., Overrides]) -> Callable[..., Overrides]:
    takes_shapes = inspect.signature(overrides).parameters

    def make(shapes: Shapes) -> Sweep:
      bound = functools.partial(overrides, shapes)
      named = reference(shapes) if callable(reference) else reference or {}
      return Sweep(bound if takes_shapes else overrides, named, choose)

    _STANDARD[overrides.__name__] = make
    return overrides

  return added


def _with_seeds(rows: Callable[..., Overrides]) -> Callable[..., Overrides]:
  """Each row of a generator with each of the paired seeds."""

  @functools.wraps(rows)
  def repeated(*arguments) -> Overrides:
    for row in rows(*arguments):
      for seed in SEEDS:
        yield {**row, "seed": seed}

  return repeated


def _tried(losses: Iterable[str], cells: Iterable[dict[str, Any]]) -> Overrides:
  """Each loss in each of the cells, with each of its `NUMBERS`."""
  cells = list(cells)
  for loss in losses:
    field, values = NUMBERS[loss]
    for cell in cells:
      for value in values:
        yield {"loss.name": loss, "metric.name": "l2", **cell, field: value}


@_standard()
def losses() -> Overrides:
  """The cells of a comparison of losses; `experiments.tune` finds the numbers.

  As a plain sweep: one run of each, with defaults, to see that all can learn.
  """
  for loss in EQUAL_BUDGET:
    for metric in ("l2", "l1", "cosine"):
      if metric in LOSSES[loss].metrics:
        yield {"loss.name": loss, "metric.name": metric}


@_standard()
def catalogue() -> Overrides:
  """Every loss of classes, under L2, L1 and cosine, or under its own metric.

  Cells for `experiments.tune`, as `losses` are. Not those of two views of an
  item, which need views and another batch.
  """
  for name, loss in LOSSES.items():
    if loss.two_views:
      continue
    compared = [m for m in ("l2", "l1", "cosine") if m in loss.metrics]
    for metric in compared or [*loss.metrics][:1]:
      yield {"loss.name": name, "metric.name": metric}
    if not loss.metrics:
      yield {"loss.name": name}


@_standard()
@_with_seeds
def margins() -> Overrides:
  """The curve of each loss that has a margin, under L2 where it allows it."""
  for loss, (name, values) in MARGINS.items():
    allowed = LOSSES[loss].metrics
    metric = {"metric.name": "l2"} if "l2" in allowed else {}
    for value in values:
      yield {"loss.name": loss, **metric, f"loss.{name}": value}


@_standard({"metric.name": "l2"})
@_with_seeds
def metrics() -> Overrides:
  """Each metric against L2, with margins in units of d̄."""
  names = ("l2", "l1", "cosine", "squared_l2", "mahalanobis")
  cells = ({"metric.name": name, **_SCALED} for name in names)
  yield from _tried(("contrastive", "triplet"), cells)


# --- L1 against L2 ----------------------------------------------------------

RATES = (1e-3, 3e-3, 1e-2)
# Of numbers that are no margins, by their names: of each what is shared by all
# metrics, as a multiple of d̄ or of 1 / d̄.
_OTHERS = {
  "temperature": (0.05, 0.1, 0.2, 0.4, 0.8),
  "scale": (1.25, 2.5, 5.0, 10.0, 20.0),
  "upper_bound": (0.25, 0.5, 1.0, 2.0, 4.0),
}
_SCALED = {"margin_unit": "initial_mean"}


def multiples_of(loss: str) -> tuple[str, tuple[float, ...]] | None:
  """The number of a loss that follows d̄, and the multiples that are compared.

  None for a loss that does not take L1 and L2 both, that has no such number
  among those it searches, that keeps a unit of its own (`Loss.absolute`), or
  that needs two views of an item.

  >>> multiples_of("supcon")
  ('temperature', (0.05, 0.1, 0.2, 0.4, 0.8))
  """
  entry = LOSSES[loss]
  takes_both = "l1" in entry.metrics and "l2" in entry.metrics
  name = next(iter(entry.search), "")
  if not takes_both or name not in entry.scaled:
    return None
  if entry.absolute or entry.two_views:
    return None
  margin, values = MARGINS.get(loss, ("", ()))
  return name, values if margin == name else _OTHERS[name]


def _at_equal_settings(losses: Iterable[str], unit: str) -> Overrides:
  """L1 and L2 at each multiple with each rate.

  A distance that is learned as it stands moves by the rate, which has no unit:
  it keeps its value.
  """
  for loss in losses:
    found, entry = multiples_of(loss), LOSSES[loss]
    if found is None:
      continue
    kept = {
      f"loss.learn_{name}": False
      for name, kind in entry.learned.items()
      if kind == "real" and name in entry.scaled
    }
    for metric in ("l2", "l1"):
      cell = {"loss.name": loss, "metric.name": metric, "margin_unit": unit}
      for value in found[1]:
        for rate in RATES:
          numbers = {f"loss.{found[0]}": value, "optimizer.learning_rate": rate}
          yield {**cell, **kept, **numbers}


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2() -> Overrides:
  """L1 against L2 at equal multiples of d̄ and equal rates.

  Of the losses of `EQUAL_BUDGET` that take both.
  """
  yield from _at_equal_settings(EQUAL_BUDGET, "initial_mean")


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2_all() -> Overrides:
  """The same of every loss that can be compared so."""
  yield from _at_equal_settings(LOSSES, "initial_mean")


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2_raw() -> Overrides:
  """The same numbers, raw: each distance meets another loss.

  The distances live on different scales, and what differs is the margin.
  """
  yield from _at_equal_settings(EQUAL_BUDGET, "absolute")


@_standard({"metric.name": "l2"})
def l1_vs_l2_tuned() -> Overrides:
  """For `experiments.tune`: each loss under L2 and L1, both tuned."""
  for loss in EQUAL_BUDGET:
    if multiples_of(loss):
      for metric in ("l2", "l1"):
        yield {"loss.name": loss, "metric.name": metric}


@_standard({"normalize": "l2"})
@_with_seeds
def normalizations() -> Overrides:
  """Embeddings on the L2 sphere, on the L1 sphere, and as they are."""
  yield from _tried(NUMBERS, ({"normalize": n} for n in ("l2", "l1", "none")))


@_standard({"reduction.name": "mean"})
@_with_seeds
def reductions() -> Overrides:
  """The mean over all terms, over active ones, over anchors, and the sum."""
  names = ("mean", "mean_active", "per_anchor_mean", "sum")
  cells = ({"reduction.name": name} for name in names)
  yield from _tried(("contrastive", "triplet"), cells)


@_standard({"miner.name": "all"})
@_with_seeds
def miners() -> Overrides:
  """Which pairs count, for a pair loss and a triplet loss."""
  some = ("all", "batch_hard", "easy_hard", "hdc", "multi_similarity")
  more = ("distance_weighted", "triplet_margin", "pair_margin")
  cells = ({"miner.name": name} for name in (*some, *more))
  yield from _tried(("contrastive", "triplet"), cells)


def _first_shape(shapes: Shapes) -> Reference:
  p, k = shapes[0]
  return {"batch.classes_per_batch": p, "batch.images_per_class": k}


@_standard(_first_shape)
@_with_seeds
def batches(shapes: Shapes) -> Overrides:
  """P classes × K images in a batch."""
  cells = (
    {"batch.classes_per_batch": p, "batch.images_per_class": k}
    for p, k in shapes
  )
  yield from _tried(NUMBERS, cells)


@_standard({"model.embedding_dim": 64})
@_with_seeds
def dimensions() -> Overrides:
  """The dimension of the embedding."""
  sizes = ({"model.embedding_dim": d} for d in (64, 8, 16, 32, 128, 256))
  yield from _tried(("contrastive", "supcon"), sizes)


@_standard({"loss.positive_margin": 0.0})
@_with_seeds
def positive_margins() -> Overrides:
  """How near is near enough: pulling stops at a positive margin."""
  for loss in ("contrastive_linear", "contrastive_double_margin"):
    for negative in (1.0, 1.5):
      for positive in (0.0, 0.125, 0.25, 0.5):
        margins = {"loss.negative_margin": negative}
        margins["loss.positive_margin"] = positive
        yield {"loss.name": loss, "metric.name": "l2", **margins}


@_standard()
@_with_seeds
def repulsions() -> Overrides:
  """What pushes classes apart: [m - D]², e^(-2.77 D/Q), m² - D², 1/D."""
  for loss, field, values in (
    ("contrastive", "loss.margin", (0.5, 1.0, 1.5)),
    ("contrastive_2005", "loss.upper_bound", (1.0, 2.0, 4.0)),
    ("contrastive_sq_margin", "loss.margin", (0.5, 1.0, 1.5)),
    ("contrastive_inverse", "loss.floor", (0.01, 0.1, 0.5)),
  ):
    for value in values:
      yield {"loss.name": loss, "metric.name": "l2", field: value}


def sweeps(shapes: Shapes) -> dict[str, Sweep]:
  """All of them by name; `shapes` are the P × K that the data can fill."""
  return {name: make(shapes) for name, make in _STANDARD.items()}
