"""Standard sweeps, shared by the configs: generators of flat overrides.

A config adds them to its SWEEPS with `sweeps`. With margin_unit="initial_mean",
all numbers that are distances (margins, gaps, temperatures, numbers of miners)
are in units of d̄, the mean distance at initialization.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from metric_learning.losses import LOSSES
from metric_learning.study.sweeps import Overrides, Sweep

# The shapes of batches: classes × images of each class.
Shapes = Sequence[tuple[int, int]]

# Ten paired seeds can support 25 comparisons.
SEEDS = tuple(range(10))

# Each under L2, L1 and cosine, as far as the loss allows them: 24 cells.
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

# The hyperparameters that are chosen on validation in sweeps about something
# else.
NUMBERS = {
  "contrastive": ("loss.margin", (0.5, 1.0, 1.5)),
  "triplet": ("loss.margin", (0.125, 0.25, 0.5)),
  "supcon": ("loss.temperature", (0.1, 0.2, 0.4)),
}

# Margins between classes. Their squares. Gaps between the distance to another
# class and the distance to the same class. All three again for cosines, angles
# and gaps of cosines.
_APART = (0.25, 0.5, 1.0, 1.5, 2.0)
_SQUARES = tuple(value**2 for value in _APART)
_GAPS = (0.0625, 0.125, 0.25, 0.5, 1.0)
_COSINES = (0.02, 0.05, 0.1, 0.2, 0.4)

# Every loss with a continuous margin. (The margin of `sphereface` and
# `l_softmax` is a whole number that selects code.)
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
  """Registers a generator as a standard sweep, under its own name.

  The generator and its reference take no argument, or the shapes of batches.
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
  def repeated(*arguments: Any) -> Overrides:
    for row in rows(*arguments):
      for seed in SEEDS:
        yield {**row, "seed": seed}

  return repeated


def _tried(losses: Iterable[str], cells: Iterable[dict[str, Any]]) -> Overrides:
  """Each loss in each cell, with each of its `NUMBERS`."""
  cells = list(cells)
  for loss in losses:
    field, values = NUMBERS[loss]
    for cell in cells:
      for value in values:
        yield {"loss.name": loss, "metric.name": "l2", **cell, field: value}


@_standard()
def losses() -> Overrides:
  """The cells of a comparison of losses; `experiments.tune` tunes them.

  As a plain sweep: one run of each with defaults, to see that all can learn.
  """
  for loss in EQUAL_BUDGET:
    for metric in ("l2", "l1", "cosine"):
      if metric in LOSSES[loss].metrics:
        yield {"loss.name": loss, "metric.name": metric}


@_standard()
def catalogue() -> Overrides:
  """Every loss that uses labels, under L2, L1 and cosine or its only metric.

  Cells for `experiments.tune`, like `losses`. Losses of two views are left out,
  since they need another batch.
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
  """A curve for each loss with a margin, under L2 if the loss allows it."""
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

RATES = (3e-3, 1e-2, 3e-2)
# For numbers that are not margins, by name: the multiples of d̄ or of 1 / d̄
# that all metrics share.
_OTHERS = {
  "temperature": (0.05, 0.1, 0.2, 0.4, 0.8),
  "scale": (1.25, 2.5, 5.0, 10.0, 20.0),
  "upper_bound": (0.25, 0.5, 1.0, 2.0, 4.0),
}
_SCALED = {"margin_unit": "initial_mean"}


def multiples_of(loss: str) -> tuple[str, tuple[float, ...]] | None:
  """The number of a loss that scales with d̄, and the multiples to compare.

  None for a loss that does not allow both L1 and L2, whose searched numbers do
  not scale with d̄, that has its own unit (`Loss.absolute`), or that needs two
  views of an item.

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
  """L1 and L2 at each multiple of d̄, with each learning rate.

  A learned distance is changed by the learning rate, which has no unit, so its
  initial value is not scaled.
  """
  for loss in losses:
    multiples, entry = multiples_of(loss), LOSSES[loss]
    if multiples is None:
      continue
    constants = {
      f"loss.learn_{name}": False
      for name, kind in entry.learned.items()
      if kind == "real" and name in entry.scaled
    }
    for metric in ("l2", "l1"):
      cell = {"loss.name": loss, "metric.name": metric, "margin_unit": unit}
      for value in multiples[1]:
        for rate in RATES:
          numbers = {
            f"loss.{multiples[0]}": value,
            "optimizer.learning_rate": rate,
          }
          yield {**cell, **constants, **numbers}


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2() -> Overrides:
  """L1 against L2 at equal multiples of d̄ and equal learning rates.

  For the losses of `EQUAL_BUDGET` that allow both.
  """
  yield from _at_equal_settings(EQUAL_BUDGET, "initial_mean")


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2_all() -> Overrides:
  """L1 against L2 at equal multiples, for every loss that allows it."""
  yield from _at_equal_settings(LOSSES, "initial_mean")


@_standard({"metric.name": "l2"}, choose=False)
@_with_seeds
def l1_vs_l2_raw() -> Overrides:
  """L1 against L2 with equal absolute numbers: a confounded comparison.

  The two distances have different scales, so the margin differs in effect.
  """
  yield from _at_equal_settings(EQUAL_BUDGET, "absolute")


@_standard({"metric.name": "l2"})
def l1_vs_l2_tuned() -> Overrides:
  """Each loss under L2 and L1, both tuned; for `experiments.tune`."""
  for loss in EQUAL_BUDGET:
    if multiples_of(loss):
      for metric in ("l2", "l1"):
        yield {"loss.name": loss, "metric.name": metric}


@_standard({"normalize": "l2"})
@_with_seeds
def normalizations() -> Overrides:
  """Embeddings on the L2 sphere, on the L1 sphere, and not normalized."""
  yield from _tried(NUMBERS, ({"normalize": n} for n in ("l2", "l1", "none")))


@_standard({"reduction.name": "mean"})
@_with_seeds
def reductions() -> Overrides:
  """The mean over all terms, active terms or anchors, and the sum."""
  names = ("mean", "mean_active", "per_anchor_mean", "sum")
  cells = ({"reduction.name": name} for name in names)
  yield from _tried(("contrastive", "triplet"), cells)


@_standard({"miner.name": "all"})
@_with_seeds
def miners() -> Overrides:
  """Miners, for a pair loss and a triplet loss."""
  names = ("all", "batch_hard", "easy_hard", "hdc", "multi_similarity")
  more = ("distance_weighted", "triplet_margin", "pair_margin")
  cells = ({"miner.name": name} for name in (*names, *more))
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
  """Positive margins: pairs closer than the margin are not pulled together."""
  for loss in ("contrastive_linear", "contrastive_double_margin"):
    for negative in (1.0, 1.5):
      for positive in (0.0, 0.125, 0.25, 0.5):
        margins = {"loss.negative_margin": negative}
        margins["loss.positive_margin"] = positive
        yield {"loss.name": loss, "metric.name": "l2", **margins}


@_standard()
@_with_seeds
def repulsions() -> Overrides:
  """Repulsions between classes: [m - D]², e^(-2.77 D/Q), m² - D², 1/D."""
  for loss, field, values in (
    ("contrastive", "loss.margin", (0.5, 1.0, 1.5)),
    ("contrastive_2005", "loss.upper_bound", (1.0, 2.0, 4.0)),
    ("contrastive_sq_margin", "loss.margin", (0.5, 1.0, 1.5)),
    ("contrastive_inverse", "loss.floor", (0.01, 0.1, 0.5)),
  ):
    for value in values:
      yield {"loss.name": loss, "metric.name": "l2", field: value}


def sweeps(shapes: Shapes) -> dict[str, Sweep]:
  """All standard sweeps by name; `shapes` are the P × K the data can fill."""
  return {name: make(shapes) for name, make in _STANDARD.items()}
