"""One training step, and the compiled program that runs share.

Runs that differ only in seeds and traced numbers share one program.
"""

import dataclasses
import functools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float
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
CompiledStep = Callable[..., tuple[State, "Values"]]

# Of these sections, the compiled program depends on the listed fields only.
_NOT_COMPILED = ("seed", "margin_unit", "data", "batch", "train", "eval")
_COMPILED = (
  *("train.steps", "train.chunks", "train.not_finite"),
  "eval.averaged",
)
# Values of a step that are not logged as metrics: the leaf with the largest
# gradient, and whether the step was skipped as not finite.
LARGEST, SKIPPED = "largest_gradient", "skipped"


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=["vector"],
  meta_fields=["names"],
)
@dataclasses.dataclass(frozen=True)
class Values:
  """The named scalars of a step, in one vector.

  The loop reads the values of every step. Reading one array of eight numbers,
  and not eight arrays, saves about 0.2 ms a step on a CPU (measured).

  >>> Values.of({"loss": jnp.float32(2.0), "skipped": jnp.array(True)}).named()
  {'loss': np.float32(2.0), 'skipped': np.float32(1.0)}
  """

  names: tuple[str, ...]
  vector: Float[Array | np.ndarray, "*members k"]

  @classmethod
  def of(cls, values: Mapping[str, Array]) -> "Values":
    """The values as floats, in the order of their names."""
    names = tuple(sorted(values))
    return cls(names, jnp.stack([jnp.float32(values[name]) for name in names]))

  def named(self) -> dict[str, np.floating]:
    """The values by name, read from the device."""
    return dict(zip(self.names, np.asarray(self.vector), strict=True))


class Program(NamedTuple):
  """The functions shared by all runs that differ only in numbers.

  init: (seed, num_classes, numbers) → the state before the first step.
  step: (state, batch, key, numbers) → (state, values to log). It is pure and
    not yet compiled: see `compiled`.
  embed: (state, stored inputs) → the points that the metric compares.
  embed_beside: the same with the running mean of the weights, or with the
    weights if `embed` uses the mean; None if there is no mean.
  mesh: the devices that share a batch; None for a single device.
  """

  init: Callable[..., State]
  step: Step
  embed: Callable[..., Array]
  embed_beside: Callable[..., Array] | None = None
  mesh: Mesh | None = None


def program_of(
  config: ConfigDict, input_spec: InputSpec, mesh: Mesh | None = None
) -> Program:
  """The program of a config for items of this spec, made once per process.

  On a mesh, the number of inputs of `embed` must be a multiple of its devices.
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
# Runs on several devices call this from threads.
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
  """Raises `InputError` for a network that mixes the items of a batch."""
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
  """The training step of a network under an objective: a pure function.

  Args:
    model: the network.
    objectives: with traced numbers.
    optimizer: from numbers to the optax transformation.
    jitter: the options of `augment`, the random changes of images.
    frozen: groups and layers that are not trained; their gradients are not
      computed. A frozen trunk runs in evaluation mode.
    chunks: the number of parts in which a batch passes through the network.
    skips: whether a step that is not finite leaves the state unchanged.
  """

  def step(
    state: State, batch: Batch, key: Array, numbers: Mapping[str, Any]
  ) -> tuple[State, dict[str, Array]]:
    objective = objectives.with_numbers(numbers)
    inputs = _seen(model, batch, jitter, key)
    # Random streams other than that of the augmentation.
    own_key, model_key = (jax.random.fold_in(key, i) for i in (1, 2))

    def loss_of(params: Any, embeddings: Array) -> Any:
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
  """The state and values after a step; a skipped step returns the old state.

  With `skips`, a step is skipped if its loss or gradient is not finite.
  """
  if not skips:
    return after, values
  fine = jnp.isfinite(values["loss"]) & jnp.isfinite(optax.tree.norm(gradient))
  state = jax.tree.map(
    lambda new, old: jnp.where(fine, new, old), after, before
  )
  return state, {**values, SKIPPED: ~fine}


def _of_gradient(gradient: Any) -> dict[str, Array]:
  """The norm of the network's gradient, and the index of the largest leaf.

  A leaf that is not finite counts as the largest. Leaves are in the order of
  `names_of_leaves`.
  """
  squares = jax.tree.map(lambda leaf: jnp.sum(leaf * leaf), gradient)
  of_leaves = jnp.stack(jax.tree.leaves(squares))
  largest = jnp.argmax(jnp.where(jnp.isnan(of_leaves), jnp.inf, of_leaves))
  norm = jnp.sqrt(sum(jax.tree.leaves(squares["model"]), 0.0))
  return {"gradient_norm": norm, LARGEST: largest}


def names_of_leaves(params: Any) -> list[str]:
  """The names of the parameters, in the order of their leaves.

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
  """The inputs of a batch, with random augmentation."""
  # Fused into the first layer, the augmentation would be computed once for each
  # patch (measured on a CPU: twice the time of a whole step).
  inputs = jax.lax.optimization_barrier(as_numbers(batch.inputs))
  if any(jitter.values()) and model.input_spec.kind == "image":
    inputs = augment(key, inputs, **jitter)
  return model.preprocess(inputs)


def _embedding(
  model: Model, stats: Any, frozen: tuple[str, ...]
) -> Callable[..., tuple[Array, Any]]:
  """The function (params, inputs, key) → training embeddings and new stats."""

  def embed(params: Any, inputs: Array, key: Array) -> tuple[Array, Any]:
    return model.apply(
      _stopped(params, frozen)["model"],
      stats,
      inputs,
      train="trunk" not in frozen,
      key=key,
    )

  return embed


def _stopped(params: Any, frozen: tuple[str, ...]) -> Any:
  """The parameters, with gradients stopped in these groups and layers."""
  if not frozen:
    return params
  return jax.tree.map(
    lambda group, x: jax.lax.stop_gradient(x) if group == FROZEN else x,
    groups_of(params, frozen),
    params,
  )


def _given(**arrays: Any) -> dict[str, Any]:
  """The entries that are not None."""
  return {name: x for name, x in arrays.items() if x is not None}


@functools.cache
def compiled(
  step: Step, gather: Callable[[Any, Any], Batch], mesh: Mesh | None = None
) -> CompiledStep:
  """`on_fed`, compiled; it reuses the memory of the state."""
  fed = functools.partial(on_fed, step, gather, mesh)
  options = devices.wide_vectors()
  return jax.jit(fed, donate_argnums=0, compiler_options=options)


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
) -> tuple[State, Values]:
  """Gathers the batch from what the feed yields, and makes one step on it.

  On a mesh, each device has its share of the batch and the whole state. The
  step is written for the whole batch, as on one device: the statistics of batch
  normalization, for example, are those of all items.
  """
  key = jax.random.fold_in(key, number)
  batch = gather(shared, own)
  if mesh is None:
    after, values = step(state, batch, key, numbers)
    return after, Values.of(values)
  split = devices.constrain(batch, mesh, devices.BATCH)
  after, values = step(state, split, key, numbers)
  return devices.constrain((after, Values.of(values)), mesh)


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
