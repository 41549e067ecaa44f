"""Names and numbers become an objective: `init` and a pure call."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from metric_learning.devices import check_mesh, on_devices
from metric_learning.distances import (
  LEARNED,
  NORMALIZATIONS,
  MetricName,
  pairwise,
  project,
  split_metric,
  widen,
)
from metric_learning.errors import InputError, check_choice
from metric_learning.inputs import (
  as_affinity,
  as_weights,
  labels_outside,
  points_of,
  references_of,
  warn_if_alone,
)
from metric_learning.intervals import check_options, check_rising
from metric_learning.losses import LOSSES, Loss
from metric_learning.losses.base import batch
from metric_learning.mining import MINERS
from metric_learning.relations import RELATIONS
from metric_learning.rows import (
  REDUCTIONS,
  Context,
  Parts,
  Points,
  Row,
  Terms,
  make_terms,
  only_between,
  over_rows,
  ratio,
  reduce_terms,
)
from metric_learning.signatures import (
  Kind,
  Named,
  call_with,
  keywords,
  split_named,
)

# What every reduction takes, beside its name.
REDUCTION_OPTIONS = {
  "low": Kind((float, NoneType)),
  "high": Kind((float, NoneType)),
  "class_weights": Kind((tuple, NoneType), float),
  "count_empty": Kind((bool, NoneType)),
}

# Numbers of a matrix that is held at once: by a CPU, by a CPU where blocks
# would compute it twice, and by an accelerator.
_CPU_NUMBERS = 2**21
_TWO_PASS_NUMBERS = 2**26
_DEVICE_NUMBERS = 2**28
# Numbers in one block of rows of a larger one that stay in a CPU's cache.
_CACHE_NUMBERS = 2**19
# Of fewer rows, the sums over all blocks cost more than the products (measured
# at 8,192 and 16,384 items).
_LEAST_ROWS = 128


class Aux(NamedTuple):
  """What an objective says beside its value: scalars to log, new state."""

  diagnostics: dict[str, Array]
  state: dict[str, Any]


# Compared by identity, so that `jax.jit(objective)` has a hash.
@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
  """A loss under a metric: `init(key) -> params`, a call gives `(value, aux)`.

  Made by `make_objective`. Names and options are static; every number among
  the hyper-parameters may be traced.
  """

  loss: str
  metric: str
  normalize: str
  reduction: str
  miner: str
  relation: str
  block_size: int | str | None
  mesh: Mesh | None
  hyper: Mapping[str, Any]
  metric_options: Mapping[str, Any]
  reduction_options: Mapping[str, Any]
  miner_options: Mapping[str, Any]
  relation_options: Mapping[str, Any]

  @property
  def entry(self) -> Loss:
    """What LOSSES says of this loss."""
    return LOSSES[self.loss]

  @property
  def space(self) -> MetricName:
    """The metric under which `embed`ded points are compared."""
    if self.metric_options:
      return self.metric, dict(self.metric_options)
    return LEARNED.get(self.metric, self.metric)

  def init(
    self,
    key: Array,
    *,
    num_classes: int | None = None,
    embedding_dim: int | None = None,
  ) -> dict[str, Any]:
    """Initial parameters; `{}` when nothing is learned.

    Raises:
      InputError: if what is learned needs `num_classes` or `embedding_dim`.
    """
    params: dict[str, Any] = {}
    entry = self.entry
    hyper = self._resolved(embedding_dim or 1)
    weights = self.reduction_options.get("class_weights")
    if weights is not None and num_classes not in (None, len(weights)):
      raise InputError(
        f"class_weights are {len(weights)}, and there are {num_classes}"
        " classes: give one for each."
      )
    learned = {}
    if entry.init is not None:
      learned = entry.call(entry.init, hyper, key, num_classes, embedding_dim)
    for name, kind in entry.learned.items():
      if not hyper.get(f"learn_{name}", True) or name in learned:
        continue
      # A scale for each dimension takes the place of the one scale.
      if kind == "positive" and "log_weights" not in learned:
        learned[f"log_{name}"] = jnp.log(jnp.asarray(hyper[name], float))
      elif kind == "real":
        learned[name] = jnp.asarray(hyper[name], float)
    if learned:
      params["loss"] = learned
    if self.metric in LEARNED:
      if embedding_dim is None:
        raise InputError(
          f"{self.metric} learns a factor: call init(key, embedding_dim=…)."
        )
      params["metric"] = {"factor": jnp.eye(embedding_dim)}
    return params

  def init_state(
    self, *, num_classes: int | None = None, embedding_dim: int | None = None
  ) -> dict[str, Any]:
    """What is kept from batch to batch, before the first; `{}` for most.

    Raises:
      InputError: if it needs `num_classes` or `embedding_dim`.
    """
    entry = self.entry
    if entry.state is None:
      return {}
    hyper = self._resolved(embedding_dim or 1)
    return dict(entry.call(entry.state, hyper, num_classes, embedding_dim))

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the distance sees: normalised, then projected.

    Compare them under `space`: the learned part of a metric is in them.
    """
    x = NORMALIZATIONS[self.normalize](widen(jnp.asarray(embeddings)))
    return self._project(params, x, self._resolved(x.shape[1]))

  def logits(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n c"]:
    """The score of each class of the class table, without margins.

    The class is that of the largest. A softmax of them is what the loss would
    have an item's probabilities be; those of `p2sgrad` are cosines.

    Raises:
      InputError: if the loss is no classification of a class table.

    >>> objective = make_objective("cosface", scale=2.0)
    >>> params = {"loss": {"weights": jnp.array([[1.0, 0.0], [0.0, 1.0]])}}
    >>> objective.logits(params, jnp.array([[3.0, 4.0]]))  # 2 · .6, 2 · .8
    Array([[1.2, 1.6]], dtype=float32)
    """
    entry = self.entry
    if entry.logits is None:
      known = ", ".join(name for name in LOSSES if LOSSES[name].logits)
      raise InputError(
        f"{self.loss} has no logits: it does not classify by a class table."
        f" Losses that do: {known}."
      )
    x = jnp.asarray(embeddings)
    points = points_of(x, jnp.zeros(x.shape[:1], int))
    hyper, learned = self._numbers(params, x.shape[1])
    met = self._sides(params, hyper, learned, points, None)
    # A score of each class and item is made: nothing to fold.
    rows = dataclasses.replace(self, mesh=None)._rows_of(hyper, met, None)
    return rows.anchors(functools.partial(entry.call, entry.logits, hyper))

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, "n *k"],
    *,
    references: Float[Array, "m d"] | None = None,
    reference_labels: Int[Array, "m *k"] | None = None,
    self_index: Int[Array, " n"] | None = None,
    affinity: Float[Array, "n m"] | None = None,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    state: dict[str, Any] | None = None,
    key: Array | None = None,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """The value of the objective on a batch, and what to log.

    Args:
      params: from `init`.
      embeddings: as the network gives them; normalised here.
      labels: classes, equal for similar items. What has a number for each
        class (a table, class weights) needs 0..C-1: another label is an error,
        and under jit makes the value NaN. Labels beyond 32 bits are an error
        outside jit; inside, JAX has cut them before they arrive.
      references: candidates other than the batch: a gallery, a second view.
      reference_labels: their classes.
      self_index: which reference is the item itself, -1 where none is: it is
        no candidate of the item. Needed where the references hold the batch,
        as those gathered from several devices do.
      affinity: similarity of each anchor and candidate in [0, 1], in place of
        equal labels; NaN where they are no pair. Labels then only choose class
        weights and boundaries: zeros do where there are none.
      where: False for items that only pad; they change nothing.
      weights: of each item as an anchor, at least 0: its terms count so many
        times. As a candidate of others an item counts once, whatever its
        weight, and what a loss first computes of the whole batch is not
        weighted. With the reduction "none" only a weight of 0 changes a value.
      state: from `init_state`, or `aux.state` of the batch before.
      key: for miners that draw.

    Raises:
      InputError: if shapes, labels or arguments do not fit.
    """
    points = points_of(embeddings, labels, where, "labels", self.relation)
    others = None
    if references is not None:
      points, others = references_of(
        references, reference_labels, self_index, points, self.relation
      )
    elif affinity is None and self.entry.needs_positives:
      warn_if_alone(self.loss, points.labels)
    if self_index is not None and (
      others is None or self.entry.arrange is not batch
    ):
      raise InputError(
        "self_index says which reference is the item itself: it needs"
        " references=, and a loss whose candidates they are (not"
        f" {self.loss} with a second view)."
        if others is not None
        else "self_index says which reference is the item itself: give"
        " references= too."
      )
    if affinity is not None:
      affinity = as_affinity(affinity, points, others)
    if weights is not None:
      weights = as_weights("weights", weights, points.labels.shape[0])
    return self.on_points(
      params,
      points,
      others,
      affinity=affinity,
      weights=weights,
      state=state,
      key=key,
    )

  def on_points(
    self,
    params: dict[str, Any],
    points: Points,
    references: Points | None,
    *,
    affinity: Float[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    state: dict[str, Any] | None = None,
    key: Array | None = None,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """As a call, for points that have weights and groups of their own."""
    entry = self.entry
    if entry.state is not None and not state:
      raise InputError(
        f"{self.loss} has a state: call it with state=, from init_state."
      )
    state = jax.tree.map(jnp.asarray, state)
    if entry.goes_by_classes and (
      affinity is not None or self.relation != "same_label"
    ):
      raise InputError(
        f"{self.loss} goes by classes: it takes one label for each item, not"
        " an affinity or another relation."
      )
    n = points.labels.shape[0]
    if n == 0 or (references and references.labels.shape[0] == 0):
      # One item that only pads: nothing to say is 0, with gradient 0.
      points, affinity = _padded(points), None
      weights = None if weights is None else jnp.pad(weights, (0, 1))
      references = None if references is None else _padded(references)

    hyper, learned = self._numbers(params, points.embeddings.shape[1])
    met = self._sides(
      params, hyper, {**learned, **(state or {})}, points, references
    )
    self._check_weights(weights, points, met.anchors)
    outside = self._outside_tables(hyper, met.anchors)
    parts, seen, kept = self._folded(hyper, met, affinity, state, key)

    value, reduced = self._reduce(parts, met.anchors, weights)
    if self.reduction == "none" and not entry.class_anchors:
      value = value[:n]
    # Masks and counts would swallow a NaN: poison the value explicitly. One
    # may also arise on the way from an embedding to its point.
    given = _not_finite(points, references)
    sick = given + _not_finite(met.anchors, met.candidates)
    sick += outside
    if weights is not None:
      sick += jnp.sum(jnp.isnan(weights))
    # A product and no select, so that the gradient is NaN too.
    value = value * jnp.where(sick > 0, jnp.nan, 1)
    return value, Aux(_diagnostics(parts, reduced, seen, given), kept)

  def _numbers(self, params, dim):
    """Hyper-parameters with learned ones at their present value; and those."""
    hyper, learned = self._resolved(dim), params.get("loss", {})
    for name, kind in self.entry.learned.items():
      if kind == "positive" and f"log_{name}" in learned:
        hyper[name] = jnp.exp(learned[f"log_{name}"])
      elif kind == "real" and name in learned:
        hyper[name] = learned[name]
    return hyper, learned

  def _sides(self, params, hyper, learned, points, references) -> "_Sides":
    """Who meets whom, in the space of the distance."""
    entry = self.entry
    # A loss of its own geometry says itself what becomes of its class weights;
    # elsewhere they are normalised as the embeddings are.
    own_geometry = entry.geometry is not None
    if own_geometry:
      points = self._normalized(points)
    anchors, candidates = entry.call(
      entry.arrange, hyper, learned, points, references
    )
    same = candidates is anchors
    if not own_geometry:
      anchors = self._normalized(anchors)
      candidates = anchors if same else self._normalized(candidates)
    plain = anchors, candidates
    anchors = self._projected(params, anchors, hyper)
    candidates = anchors if same else self._projected(params, candidates, hyper)
    return _Sides(anchors, candidates, plain)

  def _folded(self, hyper, met: "_Sides", affinity, state, key):
    """What `_terms` gives; on a mesh, each device folds its own anchors."""
    same = met.candidates is met.anchors
    mirrored = affinity is not None and self.entry.mirrored and not same
    affinities = affinity, affinity.T if mirrored else None
    names = "miner_options", "reduction_options", "relation_options"
    options = {name: getattr(self, name) for name in names}

    def fold(whole, affinities):
      options, hyper, met, *more = whole
      here = dataclasses.replace(self, **options)
      if same:
        met = met._replace(candidates=met.anchors)
      rows = here._rows_of(hyper, met, *affinities)
      return here._terms(hyper, met, rows, *more)

    whole = options, hyper, met, state, key
    if self.mesh is None:
      return fold(whole, affinities)
    return on_devices(fold, self.mesh, whole, affinities)

  def _rows_of(self, hyper, met: "_Sides", affinity, back=None) -> "_Maps":
    """Maps over the rows of the anchors, and over those of the candidates.

    `back` is the affinity of candidates and anchors, where it is asked for.
    """
    entry, relation = self.entry, RELATIONS[self.relation]
    distance = functools.partial(pairwise, entry.geometry or self.space)
    relation = functools.partial(relation, **self.relation_options)
    devices = 1 if self.mesh is None else self.mesh.size

    def over(side, other, affinity):
      blocks = block_rows(
        self.block_size,
        -(-side.labels.shape[0] // devices),
        other.labels.shape[0],
        two_passes=entry.two_passes,
      )
      return over_rows(
        side, other, distance, affinity, blocks, relation, self.mesh
      )

    anchors, candidates = met.anchors, met.candidates
    rows = over(anchors, candidates, affinity)
    if candidates is anchors:
      return _Maps(rows, rows, rows)
    if entry.join is not None:
      rows = _joined(rows, functools.partial(entry.call, entry.join, hyper))
    # Made where they are used: few losses and miners do.
    later = lambda *sides: lambda *args, **how: over(*sides)(*args, **how)
    among = later(candidates, candidates, None)
    if back is None:
      return _Maps(rows, among, among)
    # An affinity says nothing of two references: only of anchor and reference.
    return _Maps(rows, among, later(candidates, anchors, back))

  def _terms(self, hyper, met: "_Sides", rows: "_Maps", state, key):
    """The terms of every anchor, its mean distances, and the next state."""
    entry, miner = self.entry, MINERS[self.miner]
    over_anchors = rows.anchors
    distance = functools.partial(pairwise, entry.geometry or self.space)
    of_miner = Context()
    still = lambda row: row._replace(
      distances=jax.lax.stop_gradient(row.distances)
    )
    if miner.context is not None:
      of_miner = call_with(
        self.miner_options,
        miner.context,
        *(
          lambda f, over=over: over(lambda row: f(still(row)))
          for over in (over_anchors, rows.candidates)
        ),
        *jax.lax.stop_gradient(met.plain),
        key,
      )

    def mined(row: Row, own) -> Row:
      """The row with constant weights that the miner chose."""
      more = (Context(own, of_miner.shared),) if miner.context else ()
      kept = call_with(self.miner_options, miner.mine, still(row), *more)
      return kept._replace(distances=row.distances)

    def over_mined(over):
      return lambda f: over(lambda row, own: f(mined(row, own)), of_miner.own)

    context = Context()
    if entry.context is not None:
      # A miner with a context knows the anchors: other rows are not mined.
      mines_both = miner.context is None or rows.back is over_anchors
      theirs = over_mined(rows.back) if mines_both else rows.back
      before = () if entry.state is None else (state,)
      context = entry.call(
        entry.context,
        hyper,
        over_mined(over_anchors),
        theirs,
        *met.plain,
        *before,
      )

    def terms_of(row: Row, own_mining, own):
      more = (Context(own, context.shared),) if entry.context else ()
      return entry.call(entry.terms, hyper, mined(row, own_mining), *more)

    def terms_together(rows: Row, own_mining, own):
      rows = jax.vmap(mined)(rows, own_mining)
      embeddings = met.candidates.embeddings
      return entry.call(entry.terms, hyper, rows, embeddings, distance)

    terms = terms_together if entry.together else jax.vmap(terms_of)

    def of_rows(rows: Row, own_mining, own):
      with self._window():
        parts = terms(rows, own_mining, own)
      # Terms of padding count nothing, whatever a loss makes of an empty row.
      real = rows.weight > 0
      parts = jax.tree.map(lambda x: jnp.where(real, x, 0), parts)
      distances = jax.lax.stop_gradient(rows.distances)
      each = jax.vmap(make_terms)
      seen = {
        "positive_distance": each(distances, rows.positives),
        "negative_distance": each(distances, rows.negatives),
      }
      return parts, seen

    parts, seen = over_anchors(
      of_rows, of_miner.own, context.own, together=True
    )
    kept = state or {} if entry.state is None else context.state
    return parts, seen, jax.lax.stop_gradient(kept)

  def _window(self):
    """Within it, only terms of a value between low and high exist."""
    options = self.reduction_options
    if not {"low", "high"} & set(options):
      return contextlib.nullcontext()
    return only_between(
      options.get("low", -math.inf), options.get("high", math.inf)
    )

  def _check_weights(self, weights, points: Points, anchors: Points) -> None:
    """Refuses weights of items where the anchors are others."""
    if weights is not None and (
      self.entry.class_anchors or anchors.labels.shape != points.labels.shape
    ):
      raise InputError(
        f"{self.loss} takes no weights here: its anchors are classes, or the"
        " items of both views."
      )

  def _outside_tables(self, hyper, anchors: Points) -> Int[Array, ""]:
    """How many anchors have a label without a number of its own.

    Where there is one for each class: class weights, or a learned number.

    Raises:
      InputError: outside jit, if there is one; for several labels an item.
    """
    tables = {
      name: hyper[name]
      for name in self.entry.learned
      if jnp.ndim(hyper[name]) == 1
    }
    weights = self.reduction_options.get("class_weights")
    if weights is not None:
      tables["class_weights"] = weights
    count = jnp.zeros((), int)
    for name, table in tables.items():
      if anchors.labels.ndim > 1:
        raise InputError(
          f"{name} has one number for each class: it needs one label for each"
          f" item, not {self.relation} labels."
        )
      outside = labels_outside(
        anchors,
        len(table),
        f"{name} has {len(table)} numbers, one for each class. Number the"
        " classes from 0, and give one for each.",
      )
      count += jnp.sum(outside)
    return count

  def _reduce(self, parts: Parts, anchors: Points, weights):
    """The value, and each part of it."""
    of_classes = self.reduction_options.get("class_weights")

    def prepared(terms: Terms) -> Terms:
      if of_classes is not None:
        # It multiplies totals, not counts.
        factor = as_weights("class_weights", of_classes)[anchors.labels]
        factor = factor.astype(terms.total.dtype)
        terms = dataclasses.replace(
          terms,
          total=factor * terms.total,
          active_total=factor * terms.active_total,
        )
      if self.reduction_options.get("count_empty"):
        # An anchor without a term counts as one of value 0.
        empty = jnp.where(terms.count > 0, terms.count, anchors.weight)
        terms = dataclasses.replace(terms, count=empty)
      return terms

    reduced = {
      name: reduce_terms(prepared(terms), self.reduction, weights)
      for name, terms in parts.items()
    }
    return functools.reduce(jnp.add, reduced.values()), reduced

  def _normalized(self, points: Points) -> Points:
    normalize = NORMALIZATIONS[self.normalize]
    return points._replace(embeddings=normalize(points.embeddings))

  def _projected(self, params, points: Points, hyper) -> Points:
    embeddings = self._project(params, points.embeddings, hyper)
    return points._replace(embeddings=embeddings)

  def _project(self, params, x, hyper):
    entry = self.entry
    if entry.project is not None:
      x = entry.call(entry.project, hyper, params.get("loss", {}), x)
    if self.metric in LEARNED:
      x = project(x, params["metric"]["factor"])
    return x

  def _resolved(self, dim: int) -> dict[str, Any]:
    resolve = self.entry.resolve
    hyper = dict(self.hyper)
    if resolve is None:
      return hyper
    return dict(resolve(hyper, self.metric, self.normalize, dim))


def _not_finite(*sides: Points | None) -> Array:
  """How many points have a coordinate that is not finite."""
  count = jnp.zeros((), int)
  for side in sides:
    if side is not None:
      count += jnp.sum(~jnp.all(jnp.isfinite(side.embeddings), axis=1))
  return count


class _Sides(NamedTuple):
  """Anchors and candidates; `plain` is both before the loss projects them."""

  anchors: Points
  candidates: Points
  plain: tuple[Points, Points]


class _Maps(NamedTuple):
  """Maps of row functions over rows: of the anchors, and of the candidates.

  anchors: against the candidates. candidates: against each other. back: those
  that the context of the loss asks for, either these or against the anchors.
  """

  anchors: Callable[..., Any]
  candidates: Callable[..., Any]
  back: Callable[..., Any]


def _joined(over: Callable[..., Any], join: Callable[[Row], Row]):
  """The map over rows of which each is joined first."""

  def mapped(f, *own, together=False):
    first = jax.vmap(join) if together else join
    return over(
      lambda row, *mine: f(first(row), *mine), *own, together=together
    )

  return mapped


# Parts of a loss that are never done with a pair, or are of none.
_ALWAYS_ACTIVE = ("softmax", "regularization")


def _diagnostics(parts, reduced, seen, sick) -> dict[str, Array]:
  """Scalars to log: distances, and of each part its value and active share.

  And `active_fraction`, the share of all terms that can be inactive.
  """
  diagnostics = {k: reduce_terms(t, "mean") for k, t in seen.items()}
  for name, terms in parts.items():
    diagnostics[f"{name}_loss"] = jnp.mean(reduced[name])
    active, count = jnp.sum(terms.active), jnp.sum(terms.count)
    diagnostics[f"{name}_active_fraction"] = ratio(active, count)
  hinges = [t for name, t in parts.items() if name not in _ALWAYS_ACTIVE]
  if hinges:
    active = jnp.stack([jnp.sum(terms.active) for terms in hinges])
    count = jnp.stack([jnp.sum(terms.count) for terms in hinges])
    diagnostics["active_fraction"] = ratio(jnp.sum(active), jnp.sum(count))
  return {**diagnostics, "not_finite_embeddings": sick}


def block_rows(
  block_size: int | str | None,
  n: int,
  m: int,
  *,
  two_passes: bool = False,
  backend: str | None = None,
) -> int | None:
  """How many of n rows of m candidates exist at a time; None for all.

  "auto" is all rows while the matrix is small, on a device against its memory;
  else blocks, which on a CPU fit the cache. With `two_passes` blocks compute
  each distance twice: there, small is up to 8,192 x 8,192 on a CPU.

  >>> block_rows("auto", 2048, 2048, backend="cpu")
  256
  """
  if not isinstance(block_size, str):
    return block_size
  on_cpu = (backend or jax.default_backend()) == "cpu"
  of_cpu = _TWO_PASS_NUMBERS if two_passes else _CPU_NUMBERS
  if n * m <= (of_cpu if on_cpu else _DEVICE_NUMBERS):
    return None
  room = _CACHE_NUMBERS if on_cpu else _DEVICE_NUMBERS
  # As even as can be: what fills the last block is computed for nothing.
  blocks = -(-n // max(_LEAST_ROWS, room // m))
  return -(-n // blocks)


def _padded(points: Points) -> Points:
  """The points and one more, of weight 0."""
  return Points(*(jnp.pad(x, [(0, 1), (0, 0)][: x.ndim]) for x in points))


def make_objective(
  loss: str,
  metric: MetricName | None = None,
  normalize: str | None = None,
  reduction: Named | None = None,
  miner: Named = "all",
  block_size: int | str | None = "auto",
  relation: Named = "same_label",
  mesh: Mesh | None = None,
  **hyper: Any,
) -> Objective:
  """An objective from names and numbers.

  A metric, reduction, miner or relation with options is a pair, such as
  `("lp", {"p": 3})`.

  Args:
    loss: a name in LOSSES.
    metric, normalize, reduction: names; None takes the loss's own default.
      Every reduction has the options `low` and `high` (a term exists only if
      its value is between, strictly), `class_weights` (one for each class, on
      totals and not on counts) and `count_empty` (an anchor without a term
      counts as one of value 0).
    miner: a name in MINERS.
    block_size: None for all rows at once, an int for that many anchors at a
      time (memory linear in the batch, same value), "auto" to choose.
    relation: a name in RELATIONS, what labels count as similar.
    mesh: devices that share the anchors, over all axes of the mesh. Each holds
      all embeddings and what is learned, and the rows of its own anchors (with
      `block_size` so many at a time): none holds the matrix of the batch. What
      a loss first computes of the whole batch, each computes. Inputs may be
      sharded over the mesh or not, and any number of items will do. Meant for
      jit: outside, each call compiles.
    **hyper: the loss's hyper-parameters by name; numbers may be traced.

  Raises:
    InputError: for an unknown name (with the choices), for a metric that the
      loss does not allow, for a number outside of its interval or of another
      type. Traced values are not checked.

  >>> objective = make_objective("contrastive", margin=4.0)
  >>> x = jnp.array([[0.0], [1.0], [3.0], [5.0]])
  >>> value, aux = objective({}, x, jnp.array([0, 0, 1, 1]))
  >>> value  # (½1² + ½2² + ½1² + 0 + ½2² + 0) / 6
  Array(0.8333333, dtype=float32)
  """
  check_choice("loss", loss, LOSSES)
  entry = LOSSES[loss]
  metric, metric_options = split_metric(
    entry.metric if metric is None else metric
  )
  normalize = entry.normalize if normalize is None else normalize
  check_choice("normalization", normalize, NORMALIZATIONS)
  reduction, reduction_options = split_named(
    "reduction",
    entry.reduction if reduction is None else reduction,
    REDUCTIONS,
    lambda name: dict.fromkeys(REDUCTION_OPTIONS),
  )
  miner, miner_options = split_named(
    "miner", miner, MINERS, lambda name: MINERS[name].options
  )
  if entry.in_sums and {"low", "high"} & set(reduction_options):
    raise InputError(
      f"{loss} adds its terms without meeting them one by one: it takes no"
      " low or high."
    )
  check_options(
    f"reduction {reduction}",
    {"count_empty": REDUCTION_OPTIONS["count_empty"]},
    reduction_options,
  )
  check_rising(
    "low and high of the reduction",
    (
      reduction_options.get("low", -math.inf),
      reduction_options.get("high", math.inf),
    ),
  )
  MINERS[miner].check_options(miner, miner_options)
  relation, relation_options = split_named(
    "relation", relation, RELATIONS, lambda name: keywords(RELATIONS[name])
  )
  if reduction_options.get("class_weights") is not None:
    if relation != "same_label":
      raise InputError(
        f"class_weights need one label for each item, not {relation} labels."
      )
    as_weights("class_weights", reduction_options["class_weights"])
  if metric not in (entry.metrics or (entry.metric,)):
    allowed = ", ".join(entry.metrics) or f"{entry.metric} only, its own"
    raise InputError(
      f"{loss} does not allow the metric {metric!r}; it allows: {allowed}."
    )
  MINERS[miner].check_space(miner, metric, normalize)
  if block_size not in (None, "auto") and (
    not isinstance(block_size, int) or block_size < 1
  ):
    raise InputError(
      f"block_size must be None, 'auto' or a positive int, got {block_size!r}."
    )
  check_mesh(mesh)
  defaults = entry.hyper
  for name in hyper:
    check_choice(f"hyper-parameter of {loss}", name, defaults)
  check_options(loss, entry.kinds, hyper)
  objective = Objective(
    loss=loss,
    metric=metric,
    normalize=normalize,
    reduction=reduction,
    miner=miner,
    relation=relation,
    block_size=block_size,
    mesh=mesh,
    hyper={**defaults, **hyper},
    metric_options=metric_options,
    reduction_options=reduction_options,
    miner_options=miner_options,
    relation_options=relation_options,
  )
  objective._resolved(1)  # Refuses now what a call would refuse.
  return objective
