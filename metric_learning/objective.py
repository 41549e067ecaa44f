"""Names and numbers become an objective: `init` and a pure call."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metric_learning.distances import (
  METRICS,
  NORMALIZATIONS,
  pairwise,
  widen,
)
from metric_learning.errors import InputError, check_choice
from metric_learning.losses import LOSSES, Context, Loss
from metric_learning.losses.base import batch
from metric_learning.mining import MINERS
from metric_learning.rows import (
  REDUCTIONS,
  Points,
  Row,
  make_terms,
  over_rows,
  ratio,
  reduce_terms,
)

# The sign that a hyper-parameter of this name must have, in every loss.
_POSITIVE = ("temperature", "scale", "upper_bound", "floor", "gamma")
_NOT_NEGATIVE = (
  "margin",
  "positive_margin",
  "negative_margin",
  "regularization",
  "annealing",
  "concentration",
)

# Numbers in one block of rows that stay in a CPU's cache, and numbers of a
# matrix that an accelerator may hold at once.
_CACHE_NUMBERS = 2**18
_DEVICE_NUMBERS = 2**28


class Aux(NamedTuple):
  """What an objective says beside its value: scalars to log, new state."""

  diagnostics: dict[str, Array]
  state: dict[str, Any]


# Compared by identity, so that `jax.jit(objective)` has a hash.
@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
  """A loss under a metric: `init(key) -> params`, a call gives `(value, aux)`.

  Made by `make_objective`. Names are static; every number among the
  hyper-parameters may be traced.
  """

  loss: str
  metric: str
  normalize: str
  reduction: str
  miner: str
  block_size: int | str | None
  hyper: Mapping[str, Any]

  @property
  def entry(self) -> Loss:
    """What LOSSES says of this loss."""
    return LOSSES[self.loss]

  @property
  def space(self) -> str:
    """The metric under which `embed`ded points are compared."""
    return "l2" if self.metric == "mahalanobis" else self.metric

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
    learned = {}
    if entry.init is not None:
      learned = entry.call(entry.init, hyper, key, num_classes, embedding_dim)
    for name, kind in entry.learned.items():
      # A scale for each dimension takes the place of the one scale.
      if kind == "positive" and "log_weights" not in learned:
        learned[f"log_{name}"] = jnp.log(jnp.asarray(hyper[name], jnp.float32))
      elif kind == "real":
        learned[name] = jnp.asarray(hyper[name], jnp.float32)
    if learned:
      params["loss"] = learned
    if self.metric == "mahalanobis":
      if embedding_dim is None:
        raise InputError(
          "mahalanobis learns a factor: call init(key, embedding_dim=…)."
        )
      params["metric"] = {"factor": jnp.eye(embedding_dim)}
    return params

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the distance sees: normalised, then projected.

    Compare them under `space`: the learned part of a metric is in them.
    """
    x = NORMALIZATIONS[self.normalize](widen(jnp.asarray(embeddings)))
    return self._project(params, x, self._resolved(x.shape[1]))

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, "n"],
    *,
    references: Float[Array, "m d"] | None = None,
    reference_labels: Int[Array, "m"] | None = None,
    affinity: Float[Array, "n m"] | None = None,
    where: Bool[Array, "n"] | None = None,
    state: dict[str, Any] | None = None,
    key: Array | None = None,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """The value of the objective on a batch, and what to log.

    Args:
      params: from `init`.
      embeddings: as the network gives them; normalised here.
      labels: classes, equal for similar items; 0..C-1 for classification.
      references: candidates other than the batch: a gallery, a second view.
      reference_labels: their classes.
      affinity: similarity of each anchor and candidate, in place of labels.
      where: False for items that only pad; they change nothing.
      state: of objectives that have one; none here has.
      key: for miners that draw; none here does.

    Raises:
      InputError: if shapes do not fit.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    points = _points(embeddings, labels, where, "labels")
    others = None
    if references is not None:
      if reference_labels is None:
        raise InputError("references need reference_labels, one for each.")
      others = _points(references, reference_labels, None, "reference_labels")
      # Groups below 0: a reference is never the anchor itself.
      others = others._replace(group=-1 - others.group)
    affinity = _check_affinity(affinity, points, others)
    n, m = labels.shape[0], None if others is None else others.labels.shape[0]
    if n == 0 or m == 0:
      # One item that only pads: nothing to say is 0, with gradient 0.
      points, affinity = _padded(points), None
      others = None if others is None else _padded(others)
    value, diagnostics = self._value(params, points, others, affinity)
    value = value[:n] if self.reduction == "none" else value
    # Masks and counts would swallow a NaN: poison the value explicitly.
    sick = [~jnp.all(jnp.isfinite(p.embeddings)) for p in (points, others) if p]
    value = jnp.where(functools.reduce(jnp.logical_or, sick), jnp.nan, value)
    return value, Aux(diagnostics, {} if state is None else state)

  def _value(self, params, points, references, affinity):
    entry = self.entry
    hyper = self._resolved(points.embeddings.shape[1])
    learned = params.get("loss", {})
    for name, kind in entry.learned.items():
      if kind == "positive" and f"log_{name}" in learned:
        hyper[name] = jnp.exp(learned[f"log_{name}"])
      elif kind == "real":
        hyper[name] = learned[name]

    if affinity is not None and entry.arrange is not batch:
      raise InputError(
        f"{self.loss} arranges its own rows: it takes labels, not an affinity."
      )
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

    distance = functools.partial(pairwise, entry.geometry or self.space)
    blocks = block_rows(
      self.block_size, anchors.labels.shape[0], candidates.labels.shape[0]
    )
    fold = over_rows(anchors, candidates, distance, affinity, blocks)
    mine = MINERS[self.miner]
    context = None
    if entry.context is not None:
      fold_back = (
        fold
        if same
        else over_rows(candidates, candidates, distance, None, blocks)
      )
      mined = lambda over: lambda f: over(lambda row: f(mine(row)))
      context = entry.call(
        entry.context, hyper, mined(fold), mined(fold_back), *plain
      )

    def of_row(row: Row, own):
      kept = mine(row)
      if context is None:
        parts = entry.call(entry.terms, hyper, kept)
      else:
        knowledge = Context(own, context.shared)
        parts = entry.call(entry.terms, hyper, kept, knowledge)
      # Terms of padding count nothing, whatever a loss makes of an empty row.
      real = row.weight > 0
      parts = jax.tree.map(lambda x: jnp.where(real, x, 0), parts)
      distances = jax.lax.stop_gradient(row.distances)
      seen = {
        "positive_distance": make_terms(distances, row.positives),
        "negative_distance": make_terms(distances, row.negatives),
      }
      return parts, seen

    parts, seen = fold(of_row, None if context is None else context.own)
    reduced = {k: reduce_terms(t, self.reduction) for k, t in parts.items()}
    value = functools.reduce(jnp.add, reduced.values())
    diagnostics = {k: reduce_terms(t, "mean") for k, t in seen.items()}
    for name, terms in parts.items():
      diagnostics[f"{name}_loss"] = jnp.mean(reduced[name])
      active, count = jnp.sum(terms.active), jnp.sum(terms.count)
      diagnostics[f"{name}_active_fraction"] = ratio(active, count)
    return value, diagnostics

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
    if self.metric == "mahalanobis":
      factor = params["metric"]["factor"]
      x = jnp.matmul(x, factor.T, precision=jax.lax.Precision.HIGHEST)
    return x

  def _resolved(self, dim: int) -> dict[str, Any]:
    resolve = self.entry.resolve
    hyper = dict(self.hyper)
    if resolve is None:
      return hyper
    return dict(resolve(hyper, self.metric, self.normalize, dim))


def block_rows(
  block_size: int | str | None, n: int, m: int, backend: str | None = None
) -> int | None:
  """How many of n rows of m candidates exist at a time; None for all.

  "auto" is blocks that fit the cache on a CPU, and all rows elsewhere while
  the matrix is small against the memory of the device.

  >>> block_rows("auto", 2048, 2048, "cpu"), block_rows("auto", 512, 512, "gpu")
  (128, None)
  """
  if not isinstance(block_size, str):
    return block_size
  on_cpu = (backend or jax.default_backend()) == "cpu"
  room = _CACHE_NUMBERS if on_cpu else _DEVICE_NUMBERS
  return None if n * m <= room else max(16, room // m)


def _points(embeddings, labels, where, name) -> Points:
  embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
  if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
    raise InputError(
      f"{name} must be [n] and embeddings [n, d]; got {labels.shape} and"
      f" {embeddings.shape}."
    )
  x = widen(embeddings)
  n = labels.shape[0]
  weight = jnp.ones(n, x.dtype)
  if where is not None:
    where = jnp.asarray(where)
    if where.shape != labels.shape or where.dtype != bool:
      raise InputError(
        f"where must be boolean, one for each of {n} items; got {where.dtype}"
        f" {where.shape}."
      )
    weight = where.astype(x.dtype)
    # Whatever stands in the padding, a NaN even, must not reach a gradient.
    x = jnp.where(where[:, None], x, 0)
  return Points(x, labels, weight, jnp.arange(n))


def _padded(points: Points) -> Points:
  """The points and one more, of weight 0."""
  return Points(*(jnp.pad(x, [(0, 1), (0, 0)][: x.ndim]) for x in points))


def _check_affinity(affinity, points, references):
  if affinity is None:
    return None
  candidates = points if references is None else references
  shape = (points.labels.shape[0], candidates.labels.shape[0])
  affinity = jnp.asarray(affinity)
  if affinity.shape != shape:
    raise InputError(
      f"affinity must be {shape}, anchors by candidates; got {affinity.shape}."
    )
  return affinity


def _check_number(loss: str, name: str, value: Any) -> None:
  """Checks the sign of a Python number; a traced value passes."""
  if not isinstance(value, int | float) or isinstance(value, bool):
    return
  if name in _POSITIVE and not value > 0:
    raise InputError(f"{loss}: {name} must be positive, got {value}.")
  if name in _NOT_NEGATIVE and not value >= 0:
    raise InputError(f"{loss}: {name} must be at least 0, got {value}.")


def make_objective(
  loss: str,
  metric: str | None = None,
  normalize: str | None = None,
  reduction: str | None = None,
  miner: str = "all",
  block_size: int | str | None = "auto",
  **hyper: Any,
) -> Objective:
  """An objective from names and numbers.

  Args:
    loss: a name in LOSSES.
    metric, normalize, reduction: names; None takes the loss's own default.
    miner: a name in MINERS.
    block_size: None for all rows at once, an int for that many anchors at a
      time (memory linear in the batch, same value), "auto" to choose.
    **hyper: the loss's hyper-parameters by name; numbers may be traced.

  Raises:
    InputError: for an unknown name (with the choices), for a metric that the
      loss does not allow, for a number of the wrong sign. Traced values are
      not checked.

  >>> objective = make_objective("contrastive", margin=4.0)
  >>> x = jnp.array([[0.0], [1.0], [3.0], [5.0]])
  >>> value, aux = objective({}, x, jnp.array([0, 0, 1, 1]))
  >>> value  # (½1² + ½2² + ½1² + 0 + ½2² + 0) / 6
  Array(0.8333333, dtype=float32)
  """
  check_choice("loss", loss, LOSSES)
  entry = LOSSES[loss]
  metric = entry.metric if metric is None else metric
  normalize = entry.normalize if normalize is None else normalize
  reduction = entry.reduction if reduction is None else reduction
  check_choice("metric", metric, METRICS)
  check_choice("normalization", normalize, NORMALIZATIONS)
  check_choice("reduction", reduction, REDUCTIONS)
  check_choice("miner", miner, MINERS)
  if metric not in (entry.metrics or (entry.metric,)):
    allowed = ", ".join(entry.metrics) or f"{entry.metric} only, its own"
    raise InputError(
      f"{loss} does not allow the metric {metric!r}; it allows: {allowed}."
    )
  if block_size not in (None, "auto") and (
    not isinstance(block_size, int) or block_size < 1
  ):
    raise InputError(
      f"block_size must be None, 'auto' or a positive int, got {block_size!r}."
    )
  defaults = entry.hyper
  for name, value in hyper.items():
    check_choice(f"hyper-parameter of {loss}", name, defaults)
    _check_number(loss, name, value)
  objective = Objective(
    loss,
    metric,
    normalize,
    reduction,
    miner,
    block_size,
    {**defaults, **hyper},
  )
  objective._resolved(1)  # Refuses now what a call would refuse.
  return objective
