"""Objectives: `init`, and a pure call that returns a value."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import (
  METRICS,
  NORMALIZATIONS,
  MetricName,
  project,
  widen,
)
from metric_learning.errors import InputError
from metric_learning.inputs import (
  as_affinity,
  as_weights,
  labels_outside,
  points_of,
  references_of,
  warn_if_alone,
)
from metric_learning.losses import LOSSES, Loss
from metric_learning.losses.base import batch
from metric_learning.objectives.folding import (
  Sides,
  fold,
  fold_pairs,
  maps_of,
)
from metric_learning.rows import (
  ALWAYS_ACTIVE,
  Parts,
  Points,
  Terms,
  ratio,
  reduce_terms,
)


class Aux(NamedTuple):
  """The second result of an objective: scalars to log, and the new state."""

  diagnostics: dict[str, Array]
  state: dict[str, Any]


# Compared by identity, so that an objective has a hash, which `jax.jit` needs.
@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
  """A loss under a metric: `init(key) -> params`; calls return `(value, aux)`.

  Made by `make_objective`. Names and options are static; every number among
  the hyperparameters may be traced.
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
    """The entry of this loss in LOSSES."""
    return LOSSES[self.loss]

  @property
  def eval_metric(self) -> MetricName:
    """The metric under which `embed`ded points are compared."""
    if self.metric_options:
      return self.metric, dict(self.metric_options)
    return METRICS[self.metric].learned or self.metric

  def init(
    self,
    key: Array,
    *,
    num_classes: int | None = None,
    embedding_dim: int | None = None,
  ) -> dict[str, Any]:
    """Initial parameters; `{}` when nothing is learned.

    Raises:
      InputError: if the parameters need `num_classes` or `embedding_dim`.
    """
    params: dict[str, Any] = {}
    entry = self.entry
    hyper = self._resolved(embedding_dim or 1)
    weights = self.reduction_options.get("class_weights")
    if weights is not None and num_classes not in (None, len(weights)):
      raise InputError(
        f"class_weights has {len(weights)} weights, and there are {num_classes}"
        " classes: give one weight for each class."
      )
    learned = {}
    if entry.init is not None:
      learned = entry.call(entry.init, hyper, key, num_classes, embedding_dim)
    for name, kind in entry.learned.items():
      if not hyper.get(f"learn_{name}", True) or name in learned:
        continue
      # A scale for each dimension replaces the single scale.
      if kind == "positive" and "log_weights" not in learned:
        learned[f"log_{name}"] = jnp.log(jnp.asarray(hyper[name], float))
      elif kind == "real":
        learned[name] = jnp.asarray(hyper[name], float)
    if learned:
      params["loss"] = learned
    if METRICS[self.metric].learned:
      if embedding_dim is None:
        raise InputError(
          f"{self.metric} learns a factor: call init(key, embedding_dim=…)."
        )
      params["metric"] = {"factor": jnp.eye(embedding_dim)}
    return params

  def init_state(
    self, *, num_classes: int | None = None, embedding_dim: int | None = None
  ) -> dict[str, Any]:
    """The initial state that is kept between batches; `{}` for most losses.

    Raises:
      InputError: if the state needs `num_classes` or `embedding_dim`.
    """
    entry = self.entry
    if entry.state is None:
      return {}
    hyper = self._resolved(embedding_dim or 1)
    return dict(entry.call(entry.state, hyper, num_classes, embedding_dim))

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the metric compares: normalized, then projected.

    Compare them under `eval_metric`; they include the learned projection of a
    metric.
    """
    x = NORMALIZATIONS[self.normalize](widen(jnp.asarray(embeddings)))
    return self._project(params, x, self._resolved(x.shape[1]))

  @property
  def normalized(self) -> str:
    """The normalization of what `embed` returns: "none" if it projects."""
    learned = METRICS[self.metric].learned or self.entry.project is not None
    return "none" if learned else self.normalize

  def logits(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n c"]:
    """The score of each class in the class table, without margins.

    The predicted class has the largest score. A softmax of the scores gives the
    class probabilities under the loss; the scores of `p2sgrad` are cosines.

    Raises:
      InputError: if the loss has no class table to classify with.

    >>> from metric_learning.objectives import make_objective
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
    # All scores of items and classes are computed, without blocks.
    rows = maps_of(dataclasses.replace(self, mesh=None), hyper, met, None)
    return rows.anchors(functools.partial(entry.call, entry.logits, hyper))

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, " n *k"],
    *,
    references: Float[Array, "m d"] | None = None,
    reference_labels: Int[Array, " m *k"] | None = None,
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
      embeddings: the output of the network; it is normalized here.
      labels: classes, equal for similar items. With a class table or class
        weights they must be 0..C-1: other labels are an error, and under jit
        make the value NaN. Labels beyond 32 bits are an error outside jit;
        under jit, JAX has already cut them.
      references: candidates other than the batch: a gallery, a second view.
      reference_labels: their classes.
      self_index: the index of the reference that is the item itself, -1 if
        there is none; it is not a candidate of the item. Needed if the
        references contain the batch, for example when gathered from several
        devices.
      affinity: the similarity of each anchor and candidate in [0, 1], instead
        of equal labels; NaN if they are not compared. Labels then only choose
        class weights and boundaries; without those, pass zeros.
      where: False for padding, which does not change the value.
      weights: how many times the terms of each anchor count, at least 0. As a
        candidate an item counts once, and the context that a loss computes from
        the whole batch is not weighted. With the reduction "none", only a
        weight of 0 has an effect.
      state: from `init_state`, or `aux.state` of the previous batch.
      key: a random key, for random miners.

    Raises:
      InputError: if shapes, labels or arguments do not fit.
    """
    points = points_of(embeddings, labels, where, "labels", self.relation)
    others = None
    if self_index is not None:
      self._check_self_index(references)
    if references is not None:
      points, others = references_of(
        references, reference_labels, self_index, points, self.relation
      )
    elif affinity is None and self.entry.needs_positives:
      warn_if_alone(self.loss, points.labels)
    given: dict[str, Any] = {"state": state, "key": key}
    if affinity is not None:
      given["affinity"] = as_affinity(affinity, points, others)
    if weights is not None:
      given["weights"] = as_weights("weights", weights, len(points.labels))
    return self.on_points(params, points, others, **given)

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
    """Like a call, for points that already have weights and groups."""
    entry = self.entry
    if entry.state is not None and not state:
      raise InputError(
        f"{self.loss} has a state: give state=, which init_state returns."
      )
    state = jax.tree.map(jnp.asarray, state)
    if entry.needs_labels and (
      affinity is not None or self.relation != "same_label"
    ):
      raise InputError(
        f"{self.loss} needs one class label for each item, not an affinity or "
        "another relation."
      )
    n = points.labels.shape[0]
    if n == 0 or (references and references.labels.shape[0] == 0):
      # One padding item: an empty batch then has value 0 and gradient 0.
      points, affinity = _padded(points), None
      weights = None if weights is None else jnp.pad(weights, (0, 1))
      references = None if references is None else _padded(references)

    hyper, learned = self._numbers(params, points.embeddings.shape[1])
    met = self._sides(
      params, hyper, {**learned, **(state or {})}, points, references
    )
    self._check_weights(weights, points, met.anchors)
    outside = self._outside_tables(hyper, met.anchors)
    in_pairs = entry.one_pair and references is None
    folded = fold_pairs if in_pairs else fold
    parts, seen, kept = folded(self, hyper, met, affinity, state, key)

    value, reduced = self._reduce(parts, met.anchors, weights)
    if self.reduction == "none" and not entry.class_anchors:
      value = value[:n]
    # Masks and counts could hide a NaN, so the value is made NaN explicitly. A
    # NaN can also arise between an embedding and its point.
    given = _not_finite(points, references)
    sick = given + _not_finite(met.anchors, met.candidates)
    sick += outside
    if weights is not None:
      sick += jnp.sum(jnp.isnan(weights))
    # A product instead of a select, so that the gradient is NaN too.
    value = value * jnp.where(sick > 0, jnp.nan, 1)
    return value, Aux(_diagnostics(parts, reduced, seen, given), kept)

  def _numbers(
    self, params: dict[str, Any], dim: int
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """All hyperparameters: the given values, and the learned ones."""
    hyper, learned = self._resolved(dim), params.get("loss", {})
    for name, kind in self.entry.learned.items():
      if kind == "positive" and f"log_{name}" in learned:
        hyper[name] = jnp.exp(learned[f"log_{name}"])
      elif kind == "real" and name in learned:
        hyper[name] = learned[name]
    return hyper, learned

  def _sides(
    self,
    params: dict[str, Any],
    hyper: dict[str, Any],
    learned: dict[str, Any],
    points: Points,
    references: Points | None,
  ) -> Sides:
    """The anchors and candidates, as points that the metric compares."""
    entry = self.entry
    # A loss with its own geometry handles its class weights itself; otherwise
    # they are normalized like the embeddings.
    own_geometry = entry.fixed_metric is not None
    if own_geometry:
      points = self._normalized(points)
    anchors, candidates = entry.call(
      entry.pairing, hyper, learned, points, references
    )
    same = candidates is anchors
    if not own_geometry:
      anchors = self._normalized(anchors)
      candidates = anchors if same else self._normalized(candidates)
    plain = anchors, candidates
    anchors = self._projected(params, anchors, hyper)
    candidates = anchors if same else self._projected(params, candidates, hyper)
    return Sides(anchors, candidates, plain)

  def _check_self_index(self, references: Any) -> None:
    """Raises for a self_index if the references are not candidates."""
    if references is None:
      raise InputError(
        "self_index says which reference is the item itself: give"
        " references= too."
      )
    if self.entry.pairing is not batch:
      raise InputError(
        "self_index says which reference is the item itself: it needs"
        " a loss whose candidates are the references (not"
        f" {self.loss} with a second view)."
      )

  def _check_weights(
    self, weights: Any, points: Points, anchors: Points
  ) -> None:
    """Raises for item weights if the anchors are not the items."""
    if weights is not None and (
      self.entry.class_anchors or anchors.labels.shape != points.labels.shape
    ):
      raise InputError(
        f"{self.loss} takes no weights here: its anchors are classes, or the"
        " items of both views."
      )

  def _outside_tables(
    self, hyper: dict[str, Any], anchors: Points
  ) -> Int[Array, ""]:
    """How many anchors have a label outside the classes 0..C-1.

    Labels are checked if the objective has class weights or learns a number for
    each class; otherwise the result is 0.

    Raises:
      InputError: outside jit, if there are any; for items with several labels.
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

  def _reduce(
    self, parts: Parts, anchors: Points, weights: Any
  ) -> tuple[Array, dict[str, Array]]:
    """The value, and its parts."""
    of_classes = self.reduction_options.get("class_weights")

    def prepared(terms: Terms) -> Terms:
      if of_classes is not None:
        # Class weights multiply totals, not counts.
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

  def _projected(
    self, params: dict[str, Any], points: Points, hyper: dict[str, Any]
  ) -> Points:
    embeddings = self._project(params, points.embeddings, hyper)
    return points._replace(embeddings=embeddings)

  def _project(
    self, params: dict[str, Any], x: Array, hyper: dict[str, Any]
  ) -> Array:
    entry = self.entry
    if entry.project is not None:
      x = entry.call(entry.project, hyper, params.get("loss", {}), x)
    if METRICS[self.metric].learned:
      x = project(x, params["metric"]["factor"])
    return x

  def _resolved(self, dim: int) -> dict[str, Any]:
    fill = self.entry.fill_defaults
    hyper = dict(self.hyper)
    if fill is None:
      return hyper
    return dict(fill(hyper, self.metric, self.normalize, dim))


def _not_finite(*sides: Points | None) -> Array:
  """The number of points with a coordinate that is not finite."""
  count = jnp.zeros((), int)
  for side in sides:
    if side is not None:
      # 0 times NaN or infinity is NaN. Sums of numbers are faster than those of
      # truth values.
      zeros = jnp.sum(0 * side.embeddings, axis=1)
      count += jnp.sum(jnp.isnan(zeros))
  return count


def _diagnostics(
  parts: Parts, reduced: dict[str, Array], seen: Parts, sick: Array
) -> dict[str, Array]:
  """Scalars to log: distances, and the value and active share of each part.

  Also `active_fraction`, the active share of all terms that can be inactive.
  """
  diagnostics = {k: reduce_terms(t, "mean") for k, t in seen.items()}
  for name, terms in parts.items():
    diagnostics[f"{name}_loss"] = jnp.mean(reduced[name])
    active, count = jnp.sum(terms.active), jnp.sum(terms.count)
    diagnostics[f"{name}_active_fraction"] = ratio(active, count)
  hinges = [t for name, t in parts.items() if name not in ALWAYS_ACTIVE]
  if hinges:
    active = jnp.stack([jnp.sum(terms.active) for terms in hinges])
    count = jnp.stack([jnp.sum(terms.count) for terms in hinges])
    diagnostics["active_fraction"] = ratio(jnp.sum(active), jnp.sum(count))
  return {**diagnostics, "not_finite_embeddings": sick}


def _padded(points: Points) -> Points:
  """The points, and one more of weight 0."""
  return Points(*(jnp.pad(x, [(0, 1), (0, 0)][: x.ndim]) for x in points))
