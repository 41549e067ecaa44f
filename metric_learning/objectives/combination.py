"""Sums of objectives, and of an objective and a regularizer."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from metric_learning.errors import InputError
from metric_learning.losses.regularizers import REGULARIZERS
from metric_learning.objectives.objective import Aux
from metric_learning.signatures import Named, keywords, split_named


@dataclasses.dataclass(frozen=True, eq=False)
class Combined:
  """A weighted sum of objectives; see `combine`."""

  terms: tuple[tuple[float | Array, Any], ...]

  def init(self, key: Array, **sizes: Any) -> dict[str, Any]:
    """The initial parameters of each objective, by position."""
    keys = jax.random.split(key, len(self.terms))
    return {
      str(i): objective.init(keys[i], **sizes)
      for i, (_, objective) in enumerate(self.terms)
    }

  def init_state(self, **sizes: Any) -> dict[str, Any]:
    """The initial state of each objective, by position."""
    return {
      str(i): objective.init_state(**sizes)
      for i, (_, objective) in enumerate(self.terms)
    }

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the metric of the first objective compares."""
    return self.terms[0][1].embed(params["0"], embeddings)

  def logits(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n c"]:
    """The scores of the classes by the first objective."""
    return self.terms[0][1].logits(params["0"], embeddings)

  @property
  def eval_metric(self) -> Named:
    """The metric of the first objective."""
    return self.terms[0][1].eval_metric

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, " n *k"],
    *,
    state: dict[str, Any] | None = None,
    key: Array | None = None,
    **more: Any,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """The sum, with the diagnostics of each objective under its position."""
    values: list[Array] = []
    diagnostics: dict[str, Array] = {}
    kept: dict[str, Any] = {}
    for i, (weight, objective) in enumerate(self.terms):
      value, aux = objective(
        params[str(i)],
        embeddings,
        labels,
        state=(state or {}).get(str(i)),
        key=None if key is None else jax.random.fold_in(key, i),
        **more,
      )
      values.append(weight * value)
      kept[str(i)] = aux.state
      diagnostics |= {f"{i}/{k}": v for k, v in aux.diagnostics.items()}
    return functools.reduce(jnp.add, values), Aux(diagnostics, kept)


def combine(terms: Sequence[tuple[float | Array, Any]]) -> Combined:
  """The weighted sum of objectives, each with its own miner.

  `embed` and `eval_metric`, which evaluation uses, are those of the first.

  Raises:
    InputError: if there are no objectives.

  >>> from metric_learning.objectives import make_objective
  >>> both = combine([(1.0, make_objective("triplet", reduction="mean")),
  ...                 (0.5, make_objective("contrastive"))])
  >>> x, labels = jnp.zeros((4, 2)), jnp.array([0, 0, 1, 1])
  >>> value, _ = jax.jit(both)(both.init(jax.random.key(0)), x, labels)
  >>> round(float(value), 4)  # .2 + ½ · ½ · 8/12
  0.3667
  """
  if not terms:
    raise InputError("combine needs at least one (weight, objective).")
  return Combined(tuple((weight, objective) for weight, objective in terms))


@dataclasses.dataclass(frozen=True, eq=False)
class Regularized:
  """An objective plus a weighted regularizer; see `regularize`."""

  objective: Any
  name: str
  weight: float | Array
  options: Mapping[str, Any]

  def init(self, key: Array, **sizes: Any) -> dict[str, Any]:
    """The initial parameters of the objective."""
    return self.objective.init(key, **sizes)

  def init_state(self, **sizes: Any) -> dict[str, Any]:
    """The initial state of the objective."""
    return self.objective.init_state(**sizes)

  def embed(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n k"]:
    """The points that the metric compares."""
    return self.objective.embed(params, embeddings)

  def logits(
    self, params: dict[str, Any], embeddings: Float[Array, "n d"]
  ) -> Float[Array, "n c"]:
    """The scores of the classes by the objective."""
    return self.objective.logits(params, embeddings)

  @property
  def eval_metric(self) -> Named:
    """The metric under which `embed`ded points are compared."""
    return self.objective.eval_metric

  def __call__(
    self,
    params: dict[str, Any],
    embeddings: Float[Array, "n d"],
    labels: Int[Array, " n *k"],
    *,
    where: Bool[Array, " n"] | None = None,
    **more: Any,
  ) -> tuple[Float[Array, "*n"], Aux]:
    """The value of the objective plus that of the regularizer."""
    value, aux = self.objective(params, embeddings, labels, where=where, **more)
    function = REGULARIZERS[self.name]
    if "where" in keywords(function):
      extra = function(embeddings, where=where, **self.options)
    else:
      tables = _class_weights(params)
      if not tables:
        raise InputError(
          f"the regularizer {self.name} acts on class weights, and the"
          " objective learns none."
        )
      each = [function(table, **self.options) for table in tables]
      extra = functools.reduce(jnp.add, each)
    diagnostics = {**aux.diagnostics, self.name: extra}
    return value + self.weight * extra, Aux(diagnostics, aux.state)


def _class_weights(params: Mapping[str, Any]) -> list[Array]:
  """The class weights of an objective, or of each part of a sum."""
  parts = [own for place, own in params.items() if place.isdecimal()]
  if parts:
    return [table for own in parts for table in _class_weights(own)]
  loss = params.get("loss", {})
  return [loss["weights"]] if "weights" in loss else []


def _options(name: str) -> dict[str, Any]:
  known = keywords(REGULARIZERS[name])
  known.pop("where", None)
  return known


def regularize(
  objective: Any, regularizer: Named, weight: float | Array = 1.0
) -> Regularized:
  """An objective plus `weight` times a regularizer of REGULARIZERS.

  `lp` and `zero_mean` act on the embeddings before normalization. The others
  act on the class weights that the objective learns, summed over the objectives
  of a sum.

  Raises:
    InputError: for an unknown name or option.

  >>> from metric_learning.objectives import make_objective
  >>> short = regularize(make_objective("contrastive"), "lp", 0.5)
  >>> x = jnp.array([[3.0, 4.0], [3.0, 4.0]])
  >>> value, _ = jax.jit(short)({}, x, jnp.array([1, 1]))
  >>> value  # 0 + ½ · 5
  Array(2.5, dtype=float32)
  """
  name, options = split_named(
    "regularizer", regularizer, REGULARIZERS, _options
  )
  return Regularized(objective, name, weight, options)
