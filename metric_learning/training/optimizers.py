"""Optimizers and schedules by name: add a function and its line in the dict.

The keyword-only parameters of an optimizer are fields of `config.optimizer`,
and those of a schedule are fields of `config.optimizer.schedule`.
`make_optimizer` joins them in one optax transformation.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from metric_learning.errors import InputError
from metric_learning.intervals import (
  Natural,
  Number,
  Positive,
  Share,
  ShareBelowOne,
)
from metric_learning.signatures import call_with

# The groups of parameters: the network without its last layer; its last layer;
# the parameters of the loss.
GROUPS = ("trunk", "head", "loss")
# The group of the parameters that are not trained.
FROZEN = "frozen"


Direction = optax.GradientTransformation


def adam(
  decay: Direction,
  *,
  b1: ShareBelowOne = 0.9,
  b2: ShareBelowOne = 0.999,
  epsilon: Positive = 1e-8,
) -> Direction:
  """The mean gradient over the root mean square gradient: m̂ / (√v̂ + ε).

  m and v are the running means of the gradient and of its square, with decays
  `b1` and `b2`. Each is divided by 1 - bᵗ. With a weight decay this is AdamW.

  Source: Kingma and Ba 2015.
  """
  return optax.chain(optax.scale_by_adam(b1, b2, epsilon), decay)


def adamw(
  decay: Direction,
  *,
  b1: ShareBelowOne = 0.9,
  b2: ShareBelowOne = 0.999,
  epsilon: Positive = 1e-8,
) -> Direction:
  """The same as `adam`, whose weight decay is decoupled already.

  Source: Loshchilov and Hutter 2019.
  """
  return adam(decay, b1=b1, b2=b2, epsilon=epsilon)


def sgd(
  decay: Direction, *, momentum: ShareBelowOne = 0.9, nesterov: bool = False
) -> Direction:
  """The gradient plus `momentum` times the direction of the last step.

  With `nesterov`, the gradient plus `momentum` times the new direction.
  """
  return optax.chain(optax.trace(momentum, nesterov), decay)


def rmsprop(
  decay: Direction,
  *,
  b2: ShareBelowOne = 0.9,
  epsilon: Positive = 1e-8,
  momentum: ShareBelowOne = 0.0,
) -> Direction:
  """The gradient over its root mean square g / √(v + ε), with a momentum.

  v is the running mean of the squared gradient with decay `b2`, starting at 0.
  """
  scaled = optax.scale_by_rms(b2, epsilon)
  return optax.chain(scaled, optax.trace(momentum), decay)


def lion(
  decay: Direction, *, b1: ShareBelowOne = 0.9, b2: ShareBelowOne = 0.99
) -> Direction:
  """The sign of b1·m + (1 - b1)·g; m is the running mean of g with decay `b2`.

  Source: Chen et al. 2023 (arXiv 2302.06675), algorithm 2.
  """
  return optax.chain(optax.scale_by_lion(b1, b2), decay)


def lamb(
  decay: Direction,
  *,
  b1: ShareBelowOne = 0.9,
  b2: ShareBelowOne = 0.999,
  epsilon: Positive = 1e-6,
) -> Direction:
  """Adam's direction with decay, scaled to the norm of each parameter.

  The factor is |p| / |direction|, or 1 where either is 0.

  Source: You et al. 2020 (arXiv 1904.00962), algorithm 2, with φ(z) = z.
  """
  adam = optax.scale_by_adam(b1, b2, epsilon)
  return optax.chain(adam, decay, optax.scale_by_trust_ratio())


def muon(
  decay: Direction,
  *,
  beta: ShareBelowOne = 0.95,
  nesterov: bool = True,
  ns_steps: Natural = 5,
) -> Direction:
  """The momentum of a kernel, made nearly orthogonal; Adam for other arrays.

  A kernel is seen as a matrix [inputs, outputs]; that of a convolution has a
  row for each input channel at each position. The direction is multiplied by
  √max(1, outputs / inputs).

  Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers".
  """

  def kinds_of(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
      lambda path, x: "muon" if _is_matrix(path, x) else "adam", params
    )

  def axes_of(params: Any) -> Any:
    return jax.tree.map(
      lambda x: optax.contrib.MuonDimensionNumbers(
        tuple(range(x.ndim - 1)), x.ndim - 1
      ),
      params,
    )

  def shaped(x: Array) -> Array:
    return x * max(1.0, x.shape[-1] ** 2 / x.size) ** 0.5

  orthogonal = optax.contrib.scale_by_muon(
    ns_steps=ns_steps,
    beta=beta,
    nesterov=nesterov,
    weight_dimension_numbers=axes_of,
  )
  shape = optax.stateless(lambda updates, _: jax.tree.map(shaped, updates))
  each = {
    "muon": optax.chain(orthogonal, shape),
    "adam": optax.scale_by_adam(),
  }
  return optax.chain(optax.partition(each, kinds_of), decay)


def _is_matrix(path: Any, x: Array) -> bool:
  return path[-1].key == "kernel" and x.ndim > 1


def cosine(
  step: Int[Array, ""] | int, steps: int, *, floor: Share = 0.0
) -> Float[Array, ""] | float:
  """Half a cosine, from 1 at the first step toward `floor` at the last.

  >>> [round(float(cosine(step, 4)), 4) for step in (0, 2, 3)]
  [1.0, 0.5, 0.1464]
  """
  return _above(floor, 0.5 * (1 + jnp.cos(jnp.pi * step / steps)))


def constant(
  step: Int[Array, ""] | int, steps: int
) -> Float[Array, ""] | float:
  """1 at every step."""
  return 1.0


def linear(
  step: Int[Array, ""] | int, steps: int, *, floor: Share = 0.0
) -> Float[Array, ""] | float:
  """A line, from 1 at the first step toward `floor` at the last.

  >>> [float(linear(step, 4)) for step in (0, 2, 3)]
  [1.0, 0.5, 0.25]
  """
  return _above(floor, 1 - step / steps)


def stairs(
  step: Int[Array, ""] | int,
  steps: int,
  *,
  at: tuple[float, ...] = (0.5, 0.75),
  drop: Share = 0.1,
) -> Float[Array, ""] | float:
  """1, multiplied by `drop` at each of the shares `at` of the steps.

  >>> [round(float(stairs(step, 4)), 4) for step in (0, 1, 2, 3)]
  [1.0, 1.0, 0.1, 0.01]
  """
  passed = sum((step >= share * steps) * 1.0 for share in at)
  return drop**passed


def _above(floor: Number, share: Number) -> Number:
  return share if floor == 0 else floor + (1 - floor) * share


# Each optimizer takes the weight decay and applies it where its definition
# says. It turns gradients into directions, which the learning rate multiplies.
OPTIMIZERS: dict[str, Callable[..., Direction]] = {
  "adam": adam,
  "adamw": adamw,
  "sgd": sgd,
  "rmsprop": rmsprop,
  "lion": lion,
  "lamb": lamb,
  "muon": muon,
}
# The factor on the learning rate at a step, without the warm-up.
SCHEDULES: dict[str, Callable[..., Float[Array, ""] | float]] = {
  "cosine": cosine,
  "constant": constant,
  "linear": linear,
  "step": stairs,
}


def rate_at(
  step: Int[Array, ""] | int, steps: int, section: Mapping[str, Any]
) -> Float[Array, ""]:
  """The factor on the learning rate at a step, under a section `schedule`.

  Over the first `warmup` · `steps` steps it rises linearly.

  >>> schedule = {"name": "constant", "warmup": 0.2}
  >>> [float(rate_at(step, 10, schedule)) for step in (0, 1, 9)]
  [0.5, 1.0, 1.0]
  """
  rise = jnp.minimum(1.0, (step + 1) / max(1.0, section["warmup"] * steps))
  # Plain data has lists, not tuples.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in section.items()
  }
  return rise * call_with(options, SCHEDULES[section["name"]], step, steps)


def make_optimizer(
  section: Mapping[str, Any],
  steps: int,
  numbers: Mapping[str, Any] | None = None,
  *,
  layers: Sequence[str] = (),
) -> optax.GradientTransformation:
  """The optax transformation that a section `optimizer` describes.

  Gradients whose common norm exceeds `clip` are scaled down to it. Each group
  of parameters then gets its direction and its weight decay (on kernels or on
  all parameters: `decay`). The result is multiplied by minus the learning
  rate at the step and by the factor of the group; in the trunk also by
  layer_decay^k, k layers before the head. Frozen parts (`frozen_parts`) do not
  change. With `ema`, a running mean of the trained parameters comes last.

  Args:
    section: `config.optimizer` as nested plain data.
    steps: the steps of the whole run.
    numbers: by flat name, such as "optimizer.learning_rate". They replace the
      numbers of the section and may be traced.
    layers: the layers of the network, from input to output.
  """
  numbers = numbers or {}
  rate = numbers.get("optimizer.learning_rate", section["learning_rate"])

  def group(name: str) -> optax.GradientTransformation:
    own = section[name]
    factor = numbers.get(f"optimizer.{name}.factor", own["factor"])

    def step_size(step: Any) -> Array:
      share = rate_at(step, steps, section["schedule"])
      return -share * rate * factor

    kernels = _kernels if section["decay"] == "kernels" else None
    decay = optax.add_decayed_weights(own["weight_decay"], kernels)
    steps_of = [
      call_with(section, OPTIMIZERS[section["name"]], decay),
      optax.scale_by_schedule(step_size),
    ]
    if own.get("layer_decay", 1.0) != 1:
      steps_of.append(_by_layer(own["layer_decay"], layers))
    return optax.chain(*steps_of)

  frozen = frozen_parts(section, layers)
  groups = {name: group(name) for name in GROUPS if name not in frozen}
  groups[FROZEN] = optax.set_to_zero()
  every = [optax.partition(groups, functools.partial(groups_of, frozen=frozen))]
  if section["clip"] is not None:
    every.insert(0, optax.clip_by_global_norm(section["clip"]))
  if section["ema"]:
    every.append(running_mean(section["ema"]))
  return optax.chain(*every) if len(every) > 1 else every[0]


def frozen_parts(
  section: Mapping[str, Any], layers: Sequence[str]
) -> tuple[str, ...]:
  """The groups, and the layers of the trunk, that are not trained.

  >>> train = {"freeze": False}
  >>> section = {"trunk": {**train, "last_layers": 1}, "head": train}
  >>> section["loss"] = {"freeze": True}
  >>> frozen_parts(section, ["block1", "block2", "head"])
  ('loss', 'block1')

  Raises:
    InputError: if `last_layers` is more than the trunk has.
  """
  groups = [name for name in GROUPS if section[name]["freeze"]]
  trunk = [name for name in layers if name != "head"]
  last = section["trunk"].get("last_layers")
  if last is None:
    return tuple(groups)
  if last > len(trunk):
    raise InputError(
      f"config.optimizer.trunk.last_layers={last}: the trunk of this network"
      f" has {len(trunk)} layers, {', '.join(trunk)}; None trains all of them."
    )
  return (*groups, *trunk[: len(trunk) - last])


def _by_layer(
  layer_decay: float, layers: Sequence[str]
) -> optax.GradientTransformation:
  """Multiplies updates by layer_decay^k in the k-th layer before the head."""
  before = {name: k for k, name in enumerate(reversed(layers))}

  def scaled(updates: Any, _: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
      lambda path, x: layer_decay ** before[_layer(path, before)] * x, updates
    )

  return optax.stateless(scaled)


def _layer(path: Any, layers: Collection[str]) -> str:
  """The layer that a parameter of the network belongs to."""
  part = str(path[1].key)
  if part in layers or len(path) < 3:
    return part
  return f"{part}.{path[2].key}"


class RunningMean(NamedTuple):
  """The running mean of the parameters, and the number of steps."""

  steps: Int[Array, ""]
  mean: Any


def running_mean(ema: float) -> optax.GradientTransformation:
  """Keeps Σ ema^(t-i)·pᵢ / Σ ema^(t-i) of the parameters after each step i.

  It changes no update. It must come last, since it sees the parameters after
  the whole update.
  """

  def init(params: Any) -> RunningMean:
    return RunningMean(jnp.zeros((), jnp.int32), params)

  def update(updates: Any, state: Any, params: Any) -> tuple[Any, RunningMean]:
    steps = state.steps + 1
    share = (1 - ema) / (1 - jnp.float32(ema) ** steps)
    after = optax.apply_updates(params, updates)
    mean = jax.tree.map(lambda m, p: m + share * (p - m), state.mean, after)
    return updates, RunningMean(steps, mean)

  return optax.GradientTransformation(init, update)


def mean_of(state: Any) -> Any:
  """The running mean of the parameters, from the state of an optimizer."""
  return state[-1].mean


def groups_of(params: Mapping[str, Any], frozen: Collection[str] = ()) -> Any:
  """A tree like the parameters, with the name of the group of each.

  For `frozen` groups and layers, the name is `FROZEN`.

  >>> model = {"block1": {"kernel": 0, "bias": 0}, "head": {"kernel": 0}}
  >>> params = {"model": model, "objective": {"loss": {"weights": 0}}}
  >>> groups_of(params)
  {'model': {'block1': {'bias': 'trunk', 'kernel': 'trunk'},
             'head': {'kernel': 'head'}},
   'objective': {'loss': {'weights': 'loss'}}}
  >>> groups_of(params, ["block1", "loss"])["objective"]
  {'loss': {'weights': 'frozen'}}
  """

  def group(path: Any, _: Any) -> str:
    if path[0].key == "objective":
      name = "loss"
    else:
      name = "head" if path[1].key == "head" else "trunk"
      if _layer(path, frozen) in frozen:
        return FROZEN
    return FROZEN if name in frozen else name

  return jax.tree_util.tree_map_with_path(group, params)


def _kernels(params: Any) -> Any:
  """Which parameters are kernels."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == "kernel", params
  )
