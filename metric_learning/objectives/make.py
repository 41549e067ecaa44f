"""Makes an objective from names and numbers."""

import math
from types import NoneType
from typing import Any

from jax.sharding import Mesh

from metric_learning.devices import check_mesh
from metric_learning.distances import (
  METRICS,
  NORMALIZATIONS,
  MetricName,
  split_metric,
)
from metric_learning.errors import InputError, check_choice
from metric_learning.inputs import (
  as_weights,
)
from metric_learning.intervals import check_options, check_rising
from metric_learning.losses import LOSSES, Loss
from metric_learning.miners import MINERS
from metric_learning.objectives.objective import Objective
from metric_learning.plugins import enter
from metric_learning.relations import RELATIONS
from metric_learning.rows import (
  REDUCTIONS,
)
from metric_learning.signatures import (
  Kind,
  Named,
  keywords,
  split_named,
)

# The options that every reduction has.
REDUCTION_OPTIONS = {
  "low": Kind((float, NoneType)),
  "high": Kind((float, NoneType)),
  "class_weights": Kind((tuple, NoneType), float),
  "count_empty": Kind((bool, NoneType)),
}


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
    loss: a name in LOSSES, or MODULE:ATTRIBUTE, such as `my_module:my_loss`;
      in a script or notebook, `__main__:my_loss`. The same form holds for
      metric, reduction, miner and relation.
    metric, normalize, reduction: names; None takes the loss's own default.
      Every reduction has the options `low` and `high` (a term exists only if
      low < value < high), `class_weights` (one factor for each class, which
      multiplies totals and not counts) and `count_empty` (an anchor without a
      term counts as an anchor with one term of value 0).
    miner: a name in MINERS.
    block_size: None for all rows at once, an int for that many anchors at a
      time (memory linear in the batch, same value), "auto" to choose.
    relation: a name in RELATIONS: which labels count as similar.
    mesh: devices that share the anchors, over all axes of the mesh but
      "members", the axis of a population. Each device holds all embeddings and
      parameters, and the rows of its own anchors (`block_size` at a time); no
      device holds the whole matrix. If a loss first computes something from the
      whole batch, every device computes it. Inputs may be sharded or not, and
      the number of items is arbitrary. Use a mesh under jit: outside, each call
      compiles.
    **hyper: the loss's hyperparameters by name; numbers may be traced.

  Raises:
    InputError: for an unknown name (with the choices), for a metric that the
      loss does not allow, for a number outside its interval or of a wrong type.
      Traced values are not checked.

  >>> import jax.numpy as jnp
  >>> objective = make_objective("contrastive", margin=4.0)
  >>> x = jnp.array([[0.0], [1.0], [3.0], [5.0]])
  >>> value, aux = objective({}, x, jnp.array([0, 0, 1, 1]))
  >>> value  # (½1² + ½2² + ½1² + 0 + ½2² + 0) / 6
  Array(0.8333333, dtype=float32)
  """
  for kind, (registry, value) in {
    "loss": (LOSSES, loss),
    "metric": (METRICS, metric),
    "reduction": (REDUCTIONS, reduction),
    "miner": (MINERS, miner),
    "relation": (RELATIONS, relation),
  }.items():
    _enter(kind, registry, value)
  check_choice("loss", loss, LOSSES)
  for name in hyper:
    check_choice(f"hyperparameter of {loss}", name, LOSSES[loss].hyper)
  named = _named(LOSSES[loss], metric, normalize, reduction, miner, relation)
  numbers = {**LOSSES[loss].hyper, **hyper}
  objective = Objective(
    loss=loss, block_size=block_size, mesh=mesh, hyper=numbers, **named
  )
  _check(objective)
  check_options(loss, objective.entry.kinds, hyper)
  objective._resolved(1)  # Raises now what a call would raise.
  return objective


def _enter(kind: str, registry: Any, value: Any) -> None:
  """Adds an entry that is named as MODULE:ATTRIBUTE."""
  name = value[0] if isinstance(value, tuple | list) else value
  if name is None:
    return
  if not isinstance(name, str):
    raise InputError(
      f"{kind}: give a name, not a {type(name).__name__}. The name of your own"
      f" is my_module:my_{kind}, or __main__:my_{kind} in a script or notebook."
    )
  enter(kind, registry, name)


def _named(
  entry: Loss,
  metric: MetricName | None,
  normalize: str | None,
  reduction: Named | None,
  miner: Named,
  relation: Named,
) -> dict[str, Any]:
  """The fields of an objective that hold names with options."""
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
  relation, relation_options = split_named(
    "relation",
    relation,
    RELATIONS,
    lambda name: keywords(RELATIONS[name].weights),
  )
  return {
    "metric": metric,
    "metric_options": metric_options,
    "normalize": normalize,
    "reduction": reduction,
    "reduction_options": reduction_options,
    "miner": miner,
    "miner_options": miner_options,
    "relation": relation,
    "relation_options": relation_options,
  }


def _check(objective: Objective) -> None:
  """Raises for parts that do not fit together."""
  entry, metric = objective.entry, objective.metric
  allowed = entry.metrics or (entry.metric,)
  if metric not in allowed:
    known = ", ".join(entry.metrics) or f"{entry.metric} only, its own"
    raise InputError(
      f"{objective.loss} does not allow the metric {metric!r}; it allows:"
      f" {known}."
    )
  miner = MINERS[objective.miner]
  miner.check_options(objective.miner, objective.miner_options)
  miner.check_space(objective.miner, metric, objective.normalize)
  _check_reduction(objective)
  size = objective.block_size
  if size not in (None, "auto") and (not isinstance(size, int) or size < 1):
    raise InputError(
      f"block_size must be None, 'auto' or a positive int, got {size!r}."
    )
  check_mesh(objective.mesh)


def _check_reduction(objective: Objective) -> None:
  """Raises for options that the reduction or the loss does not support."""
  options = objective.reduction_options
  if objective.entry.closed_form and {"low", "high"} & set(options):
    raise InputError(
      f"{objective.loss} computes only sums over its terms, so that low and"
      " high cannot filter them: leave both out."
    )
  check_options(
    f"reduction {objective.reduction}",
    {"count_empty": REDUCTION_OPTIONS["count_empty"]},
    options,
  )
  check_rising(
    "low and high of the reduction",
    (options.get("low", -math.inf), options.get("high", math.inf)),
  )
  if options.get("class_weights") is not None:
    if objective.relation != "same_label":
      raise InputError(
        "class_weights need one label for each item, not"
        f" {objective.relation} labels."
      )
    as_weights("class_weights", options["class_weights"])
