"""Hyperparameters that are distances, and the mean distance as their unit.

Losses and miners declare which of their numbers are distances (`scaled`). One
flat dict holds them as `loss.margin` and `miner.epsilon`; a pair of numbers is
`miner.negative_range.0` and `.1`.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from metric_learning import data, evaluation
from metric_learning.distances import NORMALIZATIONS, pairwise, widen
from metric_learning.errors import InputError
from metric_learning.miners import MINERS
from metric_learning.models import Model
from metric_learning.objectives import Objective
from metric_learning.specs import as_numbers

# The numbers of items and seeds for the mean distance at initialization.
_ITEMS = 512
_SEEDS = 5


# --- Which numbers are distances --------------------------------------------


def distances_in(objective: Objective) -> dict[str, tuple[Any, int]]:
  """The numbers of an objective that are powers of a distance, and the powers.

  >>> from metric_learning.objectives import make_objective
  >>> miner = ("easy_hard", {"negative_range": (0.2, 1.0)})
  >>> distances_in(make_objective("triplet", miner=miner))
  {'loss.margin': (0.2, 1),
   'miner.negative_range.0': (0.2, 1), 'miner.negative_range.1': (1.0, 1)}
  """
  return {
    name: (value, power)
    for owner, options, scaled in _owners(objective)
    for option, power in scaled.items()
    for name, value in _flat(f"{owner}.{option}", options[option])
  }


def with_numbers(objective: Objective, numbers: Mapping[str, Any]) -> Objective:
  """The objective with new values for the given numbers.

  >>> from metric_learning.objectives import make_objective
  >>> objective = make_objective("triplet", miner="multi_similarity")
  >>> other = with_numbers(objective, {"miner.epsilon": 0.5})
  >>> distances_in(other)
  {'loss.margin': (0.2, 1), 'miner.epsilon': (0.5, 1)}
  """
  if not numbers:
    return objective
  hyper, mining = (
    {
      option: _filled(f"{owner}.{option}", value, numbers)
      for option, value in options.items()
    }
    for owner, options, _ in _owners(objective)
  )
  return dataclasses.replace(objective, hyper=hyper, miner_options=mining)


def _owners(
  objective: Objective,
) -> tuple[tuple[str, Mapping[str, Any], Mapping[str, int]], ...]:
  """The loss and the miner: the name, all options, and the scaled ones."""
  miner = MINERS[objective.miner]
  mining = {**miner.options, **objective.miner_options}
  return (
    ("loss", objective.hyper, objective.entry.scaled),
    ("miner", mining, miner.scaled),
  )


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
  """Numbers by name, those of a pair also by position; None is left out."""
  if isinstance(value, tuple | list):
    return [(f"{name}.{place}", each) for place, each in enumerate(value)]
  return [] if value is None else [(name, value)]


def _filled(name: str, value: Any, numbers: Mapping[str, Any]) -> Any:
  """The inverse of `_flat`, with the given numbers."""
  parts = [numbers.get(key, each) for key, each in _flat(name, value)]
  if isinstance(value, tuple | list):
    return tuple(parts)
  return parts[0] if parts else value


def check_units(objective: Objective) -> None:
  """Checks that all numbers of an objective can have its distance as unit.

  Raises:
    InputError: for a number that cannot, with the reason.
  """
  for name in ("low", "high"):
    limit = objective.reduction_options.get(name) or 0
    if limit != 0 and math.isfinite(limit):
      raise InputError(
        f"{name}={limit:g} of the reduction bounds the value of "
        f"{objective.loss}, whose unit is not that of a distance: "
        f"margin_unit='initial_mean' cannot scale it. Leave {name} out, set it "
        "to 0, or use margin_unit='absolute'."
      )
  seen = objective.entry.fixed_metric or objective.eval_metric
  distances = distances_in(objective)
  if seen == "dot" and distances:
    raise InputError(
      f"margin_unit='initial_mean' needs a distance, and {objective.loss} sees"
      f" dot products, which have no unit: use margin_unit='absolute' for"
      f" {', '.join(distances)}."
    )


# --- The mean distance at initialization ------------------------------------


def mean_distance(
  model: Model, train: data.Dataset, objective: Objective, classes: int
) -> float:
  """d̄, the mean distance that a loss sees in untrained networks.

  The mean is taken between training items, or, for a loss that compares items
  with learned vectors of the classes, between items and those vectors. It is
  averaged over seeds 0 to 4 whatever the seed of the run, so that a margin is
  the same number for all seeds. The points are those of training: batch
  normalization uses the statistics of these items, the embeddings are
  normalized, and no learned projection of the loss is applied. (The parameters
  of a metric are the identity at first.)

  Args:
    model: the network.
    train: the training part, of which `unit_inputs` takes items.
    objective: its metric and normalization define the distance.
    classes: the number of classes for the loss.
  """
  # Equal networks are one object that lives as long as the process.
  has_table = meets_table(objective)
  space = [objective.normalize, objective.eval_metric, has_table and classes]
  key = model, json.dumps(space), train.identity
  if key not in _MEANS:
    inputs, means = unit_inputs(train.inputs), []
    for seed in range(_SEEDS):
      params, stats = model.init(jax.random.key(seed))
      points = _points(model, objective.normalize, params, stats, inputs)
      if has_table:
        table = _table(objective, seed, classes, points.shape[1])
        metric = objective.eval_metric
        distances = np.asarray(pairwise(metric, points, table, exact=True))
      else:
        distances, _ = evaluation.pairs_of(
          np.asarray(points), np.zeros(len(points), int), objective.eval_metric
        )
      means.append(float(np.mean(distances)))
    _MEANS[key] = float(np.mean(means))
  return _MEANS[key]


def meets_table(objective: Objective) -> bool:
  """Whether a loss compares items with a learned table, such as proxies.

  A loss with a geometry of its own does not use the metric, and is excluded.
  """
  entry = objective.entry
  return entry.has_table and entry.fixed_metric is None


def _table(
  objective: Objective, seed: int, classes: int, dim: int
) -> Float[Array, "c d"]:
  """The learned vectors of the classes as initialized, normalized."""
  params = objective.init(
    jax.random.key(seed), num_classes=classes, embedding_dim=dim
  )
  table = params["loss"]["weights"].reshape(-1, dim)
  return NORMALIZATIONS[objective.normalize](table)


# Keyed by everything that the points depend on, including the digest of the
# items.
_MEANS: dict[tuple[Model, str, str], float] = {}


def unit_inputs(inputs: Any) -> np.ndarray:
  """The training items over which the mean distance is taken."""
  chosen = np.random.default_rng(0).permutation(len(inputs))
  return np.asarray(inputs[chosen[:_ITEMS]])


@functools.partial(jax.jit, static_argnames=("model", "normalize"))
def _points(
  model: Model, normalize: str, params: Any, stats: Any, inputs: Array
) -> Float[Array, "n d"]:
  """Normalized embeddings of stored items, computed as one batch."""
  inputs = jax.lax.optimization_barrier(as_numbers(inputs))
  embeddings, _ = model.apply(
    params, stats, model.preprocess(inputs), train=True
  )
  return NORMALIZATIONS[normalize](widen(embeddings))
