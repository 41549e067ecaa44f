"""The type of the entries of LOSSES."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from metric_learning.distances import METRICS, Metric
from metric_learning.losses.search import Grid, Range
from metric_learning.rows import Context, Points
from metric_learning.signatures import Kind, call_with, keywords, kinds

__all__ = ["DISTANCES", "SIMILARITIES", "Context", "Loss", "batch", "keywords"]


class MetricsThat(Collection[str]):
  """The names of all metrics of a kind, including metrics added later.

  >>> "dot" in MetricsThat(lambda metric: metric.is_distance)
  False
  """

  def __init__(self, fits: Callable[[Metric], bool]):
    """Takes the condition that the metrics satisfy."""
    self._fits = fits

  def __iter__(self) -> Iterator[str]:
    """The names."""
    return (name for name, metric in METRICS.items() if self._fits(metric))

  def __len__(self) -> int:
    """The number of metrics."""
    return sum(1 for _ in self)

  def __contains__(self, name: object) -> bool:
    """Whether one of them has this name."""
    return name in tuple(self)


# "Any metric except dot": losses that need a distance, bounded below.
DISTANCES = MetricsThat(lambda metric: metric.is_distance)
# Losses of s = -D that do not change with a shift of s also allow dot products.
SIMILARITIES = MetricsThat(lambda metric: True)


def batch(
  params: Any, points: Points, references: Points | None
) -> tuple[Points, Points]:
  """The candidates are the references if there are any, else the batch."""
  return points, points if references is None else references


@dataclasses.dataclass(frozen=True)
class Loss:
  """A loss: its row function, and what an objective must know about it.

  The hyperparameters are the keyword-only parameters of the functions below.

  terms: `(row, *, …) -> {part: Terms}` for one anchor; with a `context`,
    `(row, context, *, …)`.
  metric, normalize, reduction: the defaults.
  metrics: the metrics that the loss allows; empty if the user cannot choose
    one.
  source: paper and equation.
  static: hyperparameters that select code; all others may be traced.
  learned: hyperparameters whose value is only the initial one, each "positive"
    (its logarithm is learned) or "real". If a loss also has `learn_NAME`, False
    keeps NAME constant; if `init` returns NAME, that value is learned.
  scaled: hyperparameters whose unit is a power of the distance, with the
    power: 1 for a margin, -1 for a factor on a distance. A scale-matched
    comparison multiplies them by this power of the mean distance at
    initialization. If the loss compares items with class weights or proxies,
    that is the mean distance to these.
  absolute: the reason, if any, why the loss depends on the scale of the
    distances even when the hyperparameters in `scaled` follow it (beyond a
    power of the scale). Equal multiples of the mean distance are then not equal
    settings, and metrics can only be compared with tuned hyperparameters.
  search: at most two hyperparameters that tuning searches, with their ranges,
    the most important first. The range of one in `scaled` is in its unit.
  fill_defaults: `(hyper, metric, normalize, dim) -> hyper` fills in defaults
    that depend on the space.
  pairing: `(params, points, references, *, …) -> (anchors, candidates)`.
  one_pair: only one anchor of each class has a positive, so that at most n // 2
    of n anchors have terms; the rows of the others are not computed.
  two_views: the loss compares two views of each item: the batch and the
    references, or a batch in which each label occurs twice.
  join: `(row, *, …) -> row` merges candidates, such as the centers of a class.
    Miners and terms see the result.
  logits: `(row, *, …) -> [C]`, the scores of the classes of a table, without
    margins; `join` has been applied to the row. Its keywords must be
    hyperparameters of the other functions.
  class_anchors: the anchors are the classes and not the items, so that the
    reduction "none" gives one value for each class.
  fixed_metric: the metric of the rows if the user cannot choose it.
  project: `(params, embeddings, *, …) -> embeddings` after normalization.
  context: `(over_anchors, over_candidates, anchors, candidates, *, …) ->
    Context`, computed before the terms. The first two map a row function over
    the rows of either side; the last two are points before projection. A loss
    with a state has `(…, candidates, state, *, …)`, and the Context holds the
    next state.
  mirrored: with an affinity and references, `over_candidates` maps over rows of
    candidates against anchors, because an affinity does not compare references
    with each other.
  recomputes_distances: the context uses all distances, so that in blocks each
    distance is computed twice.
  state: `(num_classes, embedding_dim, *, …) -> state`, kept between batches
    without a gradient; `pairing` finds it among the params.
  batched: the terms are `(rows, embeddings, distance, *, …)`: a block of rows
    with a leading axis, and the embeddings of the candidates with the distance
    to compare them.
  closed_form: only sums over terms are available, so `low` and `high` cannot
    filter them.
  needs_positives: the loss is 0 on a batch in which every label occurs once.
  init: `(key, num_classes, embedding_dim, *, …) -> params` beyond `learned`; a
    table of class weights or proxies has the name `weights`.
  """

  terms: Callable[..., Any]
  metric: str
  normalize: str
  reduction: str
  metrics: Collection[str]
  source: str
  static: tuple[str, ...] = ()
  learned: Mapping[str, str] = dataclasses.field(default_factory=dict)
  scaled: Mapping[str, int] = dataclasses.field(default_factory=dict)
  absolute: str = ""
  search: Mapping[str, Range | Grid] = dataclasses.field(default_factory=dict)
  fill_defaults: Callable[..., Any] | None = None
  pairing: Callable[..., Any] = batch
  one_pair: bool = False
  two_views: bool = False
  join: Callable[..., Any] | None = None
  logits: Callable[..., Any] | None = None
  class_anchors: bool = False
  fixed_metric: str | None = None
  project: Callable[..., Any] | None = None
  context: Callable[..., Any] | None = None
  mirrored: bool = False
  recomputes_distances: bool = False
  state: Callable[..., Any] | None = None
  batched: bool = False
  closed_form: bool = False
  needs_positives: bool = True
  init: Callable[..., Any] | None = None

  @property
  def _functions(self) -> tuple[Callable[..., Any] | None, ...]:
    """The functions whose keyword-only parameters are the hyperparameters."""
    return (
      self.terms,
      self.pairing,
      self.join,
      self.project,
      self.context,
      self.state,
      self.init,
    )

  @property
  def hyper(self) -> dict[str, Any]:
    """Every hyperparameter with its default."""
    return {
      name: value
      for function in self._functions
      for name, value in keywords(function).items()
    }

  @property
  def kinds(self) -> dict[str, Kind]:
    """The kinds of the annotated hyperparameters."""
    return {
      name: kind
      for function in self._functions
      for name, kind in kinds(function).items()
    }

  @property
  def has_table(self) -> bool:
    """Whether items are compared with class weights or proxies."""
    return self.init is not None and self.pairing is not batch

  @property
  def needs_labels(self) -> bool:
    """Whether the loss takes one label for each item and no affinity."""
    return self.pairing is not batch or self.closed_form

  def call(self, function: Callable[..., Any], hyper: dict, *args: Any) -> Any:
    """Calls one of the functions with the hyperparameters that it accepts."""
    return call_with(hyper, function, *args)
