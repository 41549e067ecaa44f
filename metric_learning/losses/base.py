"""What every entry of LOSSES says of itself."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from metric_learning.distances import METRICS, Metric
from metric_learning.losses.search import Grid, Range
from metric_learning.rows import Context, Points
from metric_learning.signatures import Kind, call_with, keywords, kinds

__all__ = ["DISTANCES", "SIMILARITIES", "Context", "Loss", "batch", "keywords"]


class MetricsThat(Collection[str]):
  """The names of all metrics of a kind, and of those that are added later.

  >>> "dot" in MetricsThat(lambda metric: metric.is_distance)
  False
  """

  def __init__(self, fits: Callable[[Metric], bool]):
    """Of the metrics that fit."""
    self._fits = fits

  def __iter__(self) -> Iterator[str]:
    """Their names."""
    return (name for name, metric in METRICS.items() if self._fits(metric))

  def __len__(self) -> int:
    """How many there are."""
    return sum(1 for _ in self)

  def __contains__(self, name: object) -> bool:
    """Whether a name is that of one."""
    return name in tuple(self)


# "Any metric except dot": losses that need a distance, bounded below.
DISTANCES = MetricsThat(lambda metric: metric.is_distance)
# Losses of s = -D that are invariant to a shift of s take a product too.
SIMILARITIES = MetricsThat(lambda metric: True)


def batch(params: Any, points: Points, references: Points | None):
  """The candidates are the references if there are any, else the batch."""
  return points, points if references is None else references


@dataclasses.dataclass(frozen=True)
class Loss:
  """One loss: its row function and what an objective must know about it.

  The hyper-parameters are the keyword-only parameters of the functions below.

  terms: `(row, *, …) -> {part: Terms}` for one anchor; with a `context`,
    `(row, context, *, …)`.
  metric, normalize, reduction: the defaults.
  metrics: the metrics that the loss allows; one if its geometry is its own.
  source: paper and equation.
  static: hyper-parameters that select code; all others may be traced.
  learned: hyper-parameters whose value is only the initial one, each
    "positive" (its logarithm is learned) or "real". Where a loss also has
    `learn_NAME`, False keeps NAME at its value; where `init` returns NAME,
    that is what is learned.
  scaled: hyper-parameters whose unit is a power of the distance's, and that
    power: 1 of a margin, -1 of what multiplies a distance. A scale-matched
    comparison multiplies them by that power of the mean distance at
    initialization. Where the loss compares items with class weights or
    proxies, the distance is that to these.
  absolute: why the value is not the same at each scale of the distances even
    if the numbers in `scaled` follow it; empty where it is, but for a power of
    the scale. Of such a loss equal multiples of the mean distance are not equal
    settings, and metrics are compared by tuned numbers alone.
  search: what tuning searches, the most important first: at most two
    hyper-parameters and their ranges; those of `scaled` in its unit.
  fill_defaults: `(hyper, metric, normalize, dim) -> hyper` fills in defaults
    that depend on the space.
  pairing: `(params, points, references, *, …) -> (anchors, candidates)`.
  one_pair: of each class one anchor has a positive, so that of n items in a
    batch at most n // 2 anchors have terms: the others are left out.
  two_views: it compares two views of each item: the batch and the references,
    or a batch in which each label stands twice.
  join: `(row, *, …) -> row` makes one candidate of several, such as a class of
    its centers. A miner and the terms see what it gives.
  logits: `(row, *, …) -> [C]`, the scores of the classes of a table, without
    margins; the row is joined. Its keywords are hyper-parameters of the others.
  class_anchors: the anchors are the classes and not the items, so that the
    reduction "none" gives one value for each class.
  fixed_metric: the metric of the rows where it is not the user's choice.
  project: `(params, embeddings, *, …) -> embeddings` after normalization.
  context: `(over_anchors, over_candidates, anchors, candidates, *, …) ->
    Context`, before the terms; the first two map a row function over the rows
    of either side, the last two are points before projection. Where the loss
    has a state, `(…, candidates, state, *, …)`, and the Context holds the next.
  mirrored: with an affinity and references, the rows of the candidates that
    the context maps over are those against the anchors: an affinity does not
    say which references are similar to each other.
  recomputes_distances: the context goes over all distances as the terms do; in
    blocks each distance is then computed twice.
  state: `(num_classes, embedding_dim, *, …) -> state`, what is kept from batch
    to batch without a gradient; `pairing` finds it among the params.
  batched: the terms see a block of rows, whose fields have a leading axis,
    and what they need to compare candidates: `(rows, embeddings, distance, *,
    …)`, with the embeddings of the candidates.
  closed_form: terms are not made one by one, so that none can be left out.
  needs_positives: a batch in which every label stands once says nothing.
  init: `(key, num_classes, embedding_dim, *, …) -> params` beyond `learned`;
    a table of class weights or proxies is `weights`.
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
    """Those whose keyword-only parameters are the hyper-parameters."""
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
    """Every hyper-parameter with its default."""
    return {
      name: value
      for function in self._functions
      for name, value in keywords(function).items()
    }

  @property
  def kinds(self) -> dict[str, Kind]:
    """What the hyper-parameters take, as far as they are annotated."""
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
    """Calls one of the entry's functions with the keywords that it has."""
    return call_with(hyper, function, *args)
