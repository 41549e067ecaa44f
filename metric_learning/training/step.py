"""One step of training, and the compiled program that runs share.

Runs that differ in seeds and traced numbers alone share one program.
"""

import functools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict

from metric_learning import devices, models
from metric_learning.data.augment import augment
from metric_learning.data.feeds import Batch
from metric_learning.errors import InputError
from metric_learning.models import Model
from metric_learning.specs import InputSpec, as_numbers
from metric_learning.training import run_files
from metric_learning.training.build import Objectives, objectives_of
from metric_learning.training.chunks import in_chunks, in_one
from metric_learning.training.config import as_dict, traced_numbers
from metric_learning.training.optimizers import (
  FROZEN,
  frozen_parts,
  groups_of,
  make_optimizer,
  mean_of,
)

State = dict[str, Any]
Step = Callable[..., tuple[State, dict[str, Array]]]

# Sections that nothing compiled depends on, but for these fields of them.
_NOT_COMPILED = ("seed", "margin_unit", "data", "batch", "train", "eval")
_COMPILED = (
  *("train.steps", "train.chunks", "train.not_finite"),
  "eval.averaged",
)
# Values of a step that say where it was not finite, beside those to log: which
# leaf has the largest gradient, and whether the state was left as it was.
LARGEST, SKIPPED = "largest_gradient", "skipped"


class Program(NamedTuple):
  """The functions of all runs that differ in numbers only.

  init: (seed, num_classes, numbers) to the state before the first step.
  step: (state, batch, key, numbers) to (state, values to log); pure, and not
    compiled by itself: see `compiled`.
  embed: (state, stored inputs) to the points that the distance sees.
  embed_beside: the same by the running mean of the weights, or by the weights
    if `embed` takes the mean; None where there is no mean.
  mesh: the devices that share a batch; None for one.
  """

  init: Callable[..., State]
  step: Step
  embed: Callable[..., Array]
  embed_beside: Callable[..., Array] | None = None
  mesh: Mesh | None = None


def program_of(
  config: ConfigDict, input_spec: InputSpec, mesh: Mesh | None = None
) -> Program:
  """The program of a config for items of this spec, made once in a process.

  On a mesh, `embed` takes a number of inputs that its devices divide.
  """
  numbers = traced_numbers(config)
  static = {
    name: value
    for name, value in run_files.flatten(as_dict(config)).items()
    if name not in numbers
    and (name in _COMPILED or name.split(".")[0] not in _NOT_COMPILED)
  }
  key = json.dumps([static, input_spec], sort_keys=True), mesh
  with _ONE_AT_A_TIME:
    if key not in _PROGRAMS:
      _PROGRAMS[key] = _make_program(as_dict(config), config, input_spec, mesh)
    return _PROGRAMS[key]


_PROGRAMS: dict[tuple[str, Mesh | None], Program] = {}
# Runs on several devices ask from threads.
_ONE_AT_A_TIME = threading.Lock()


def _make_program(
  fields: Mapping[str, Any],
  config: ConfigDict,
  input_spec: InputSpec,
  mesh: Mesh | None,
) -> Program:
  model = model_of(config, input_spec)
  objectives = objectives_of(config, mesh)
  steps, options = fields["train"]["steps"], fields["optimizer"]
  optimizer = functools.partial(
    make_optimizer, options, steps, layers=model.layers
  )
  frozen = frozen_parts(options, model.layers)
  chunks = fields["train"]["chunks"]
  if chunks > 1 and "trunk" not in frozen:
    _check_apart(config.model.name, model)
  averaged = fields["eval"]["averaged"]
  embed = lambda mean: jax.jit(
    functools.partial(_embed, model, objectives, mean, mesh)
  )
  return Program(
    functools.partial(
      _first_state,
      model,
      objectives,
      optimizer(),
      fields["model"]["embedding_dim"],
    ),
    make_step(
      model,
      objectives,
      optimizer,
      fields["augment"],
      frozen,
      chunks,
      skips=fields["train"]["not_finite"] == "skip",
    ),
    embed(averaged),
    embed(not averaged) if options["ema"] else None,
    mesh,
  )


def _check_apart(name: str, model: Model) -> None:
  """Raises `InputError` for a network that compares the items of a batch."""
  _, stats = jax.eval_shape(model.init, jax.random.key(0))
  if jax.tree.leaves(stats):
    raise InputError(
      f"config.train.chunks is for networks that embed each item by itself, and"
      f" {name} normalizes by its batch: set config.train.chunks=1, another"
      " normalization, or config.optimizer.trunk.freeze=True."
    )


def model_of(config: ConfigDict, input_spec: InputSpec) -> Model:
  """The network of a config for items of this spec."""
  return models.create(**config.model, input_spec=input_spec)


def _first_state(
  model: Model,
  objectives: Objectives,
  optimizer: optax.GradientTransformation,
  embedding_dim: int,
  seed: int,
  num_classes: int,
  numbers: Mapping[str, Any],
) -> State:
  params, stats = model.init(jax.random.key(seed))
  objective = objectives.with_numbers(numbers)
  sizes = {"num_classes": num_classes, "embedding_dim": embedding_dim}
  key = jax.random.fold_in(jax.random.key(seed), 1)
  trained = {"model": params, "objective": objective.init(key, **sizes)}
  return {
    "params": trained,
    "stats": stats,
    "objective_state": objective.init_state(**sizes),
    "optimizer": optimizer.init(trained),
  }


def make_step(
  model: Model,
  objectives: Objectives,
  optimizer: Callable[..., optax.GradientTransformation],
  jitter: Mapping[str, Any],
  frozen: tuple[str, ...] = (),
  chunks: int = 1,
  *,
  skips: bool = False,
) -> Step:
  """The step of a network under an objective: a pure function.

  Args:
    model: the network.
    objectives: of traced numbers.
    optimizer: numbers to the optax transformation.
    jitter: how images change at random, the options of `augment`.
    frozen: groups and layers of parameters that stay as they are; their
      gradients are not computed. A frozen trunk sees batches as in evaluation.
    chunks: the parts of a batch that pass through the network in turn.
    skips: whether a step that is not finite leaves the state as it was.
  """

  def step(state: State, batch: Batch, key: Array, numbers: Mapping[str, Any]):
    objective = objectives.with_numbers(numbers)
    inputs = _seen(model, batch, jitter, key)
    # Other streams than that of the augmentation.
    own_key, model_key = (jax.random.fold_in(key, i) for i in (1, 2))

    def loss_of(params, embeddings):
      return objective(
        _stopped(params, frozen)["objective"],
        embeddings,
        batch.labels,
        state=state["objective_state"],
        key=own_key,
        **_given(affinity=batch.affinity, where=batch.where),
      )

    gradients = in_one if chunks == 1 else functools.partial(in_chunks, chunks)
    (value, (stats, aux)), gradient = gradients(
      _embedding(model, state["stats"], frozen),
      loss_of,
      state["params"],
      inputs,
      model_key,
    )
    updates, moments = optimizer(numbers).update(
      gradient, state["optimizer"], state["params"]
    )
    after = {
      "params": optax.apply_updates(state["params"], updates),
      "stats": state["stats"] if stats is None else stats,
      "objective_state": aux.state,
      "optimizer": moments,
    }
    values = {"loss": value, **_of_gradient(gradient), **aux.diagnostics}
    return _unless_sick(state, after, values, gradient, skips)

  return step


def _unless_sick(
  before: State,
  after: State,
  values: dict[str, Array],
  gradient: Any,
  skips: bool,
) -> tuple[State, dict[str, Array]]:
  """The state after a step and its values; if it `skips`, and is sick, before.

  Sick is a loss or a gradient that is not finite.
  """
  if not skips:
    return after, values
  fine = jnp.isfinite(values["loss"]) & jnp.isfinite(optax.tree.norm(gradient))
  kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, before)
  return kept, {**values, SKIPPED: ~fine}


def _of_gradient(gradient: Any) -> dict[str, Array]:
  """The norm of the network's gradient, and which leaf of all is the largest.

  One that is not finite is the largest. Leaves are in the order of
  `names_of_leaves`.
  """
  squares = jax.tree.map(lambda leaf: jnp.sum(leaf * leaf), gradient)
  of_leaves = jnp.stack(jax.tree.leaves(squares))
  largest = jnp.argmax(jnp.where(jnp.isnan(of_leaves), jnp.inf, of_leaves))
  norm = jnp.sqrt(sum(jax.tree.leaves(squares["model"]), 0.0))
  return {"gradient_norm": norm, LARGEST: largest}


def names_of_leaves(params: Any) -> list[str]:
  """What the parameters are called, in the order of their leaves.

  >>> names_of_leaves({"objective": {}, "model": {"head": {"kernel": 1.0}}})
  ['model/head/kernel']
  """
  return [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]


def _seen(
  model: Model, batch: Batch, jitter: Mapping[str, Any], key: Array
) -> Array:
  """What the network sees of a batch: its inputs, moved at random."""
  # Fused into the first layer, what makes the inputs would be done once for
  # each of its patches (measured on a CPU: twice the time of a whole step).
  inputs = jax.lax.optimization_barrier(as_numbers(batch.inputs))
  if any(jitter.values()) and model.input_spec.kind == "image":
    inputs = augment(key, inputs, **jitter)
  return model.preprocess(inputs)


def _embedding(
  model: Model, stats: Any, frozen: tuple[str, ...]
) -> Callable[..., tuple[Array, Any]]:
  """(params, inputs, key) to embeddings in training, and new stats."""

  def embed(params, inputs, key):
    return model.apply(
      _stopped(params, frozen)["model"],
      stats,
      inputs,
      train="trunk" not in frozen,
      key=key,
    )

  return embed


def _stopped(params: Any, frozen: tuple[str, ...]) -> Any:
  """The parameters, without gradients in these groups and layers."""
  if not frozen:
    return params
  return jax.tree.map(
    lambda group, x: jax.lax.stop_gradient(x) if group == FROZEN else x,
    groups_of(params, frozen),
    params,
  )


def _given(**arrays: Array | None) -> dict[str, Array]:
  """Those that are not None."""
  return {name: x for name, x in arrays.items() if x is not None}


@functools.cache
def compiled(
  step: Step, gather: Callable[[Any, Any], Batch], mesh: Mesh | None = None
) -> Step:
  """`on_fed`, compiled; it takes the memory of the state."""
  fed = functools.partial(on_fed, step, gather, mesh)
  return jax.jit(fed, donate_argnums=0)


def on_fed(
  step: Step,
  gather: Callable[[Any, Any], Batch],
  mesh: Mesh | None,
  state: State,
  number: int | Array,
  shared: Any,
  own: Any,
  key: Array,
  numbers: Mapping[str, Any],
):
  """A step on what a feed hands over for it, with the key of the run.

  On a mesh each device has its share of the batch, and all of the state. The
  step is written for the whole batch, as on one device: what it computes of all
  items, such as the statistics of batch normalization, is of all items there.
  """
  key = jax.random.fold_in(key, number)
  batch = gather(shared, own)
  if mesh is None:
    return step(state, batch, key, numbers)
  split = devices.constrain(batch, mesh, devices.BATCH)
  return devices.constrain(step(state, split, key, numbers), mesh)


def _embed(
  model: Model,
  objectives: Objectives,
  averaged: bool,
  mesh: Mesh | None,
  state: State,
  inputs: Array,
) -> Array:
  if mesh is not None:
    inputs = devices.constrain(inputs, mesh, devices.BATCH)
  params = mean_of(state["optimizer"]) if averaged else state["params"]
  inputs = jax.lax.optimization_barrier(as_numbers(inputs))
  # By default a GPU or TPU rounds the operands of float32 products: scores and
  # thresholds would depend on the device that embeds.
  with jax.default_matmul_precision("highest"):
    embeddings, _ = model.apply(
      params["model"],
      state["stats"],
      model.preprocess(inputs),
      train=False,
    )
    objective = objectives.with_numbers({})
    points = objective.embed(params["objective"], embeddings)
  return points if mesh is None else devices.constrain(points, mesh)
