"""Optimizers and schedules by name: add a function and its line in the dict.

The keyword-only parameters of an optimizer are fields of `config.optimizer`.
All of it is one optax transformation: `make_optimizer`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from metric_learning.intervals import ShareBelowOne
from metric_learning.signatures import call_with

# Of the network all but its last layer; its last layer; what the loss learns.
GROUPS = ("trunk", "head", "loss")


def adam() -> optax.GradientTransformation:
  """Kingma and Ba 2015: the mean gradient over its root mean square."""
  return optax.scale_by_adam()


def rmsprop() -> optax.GradientTransformation:
  """The gradient over its root mean square."""
  return optax.scale_by_rms()


def sgd(*, momentum: ShareBelowOne = 0.9) -> optax.GradientTransformation:
  """The gradient, plus `momentum` times the direction of the last step."""
  return optax.trace(decay=momentum)


def cosine(step: Int[Array, ""] | int, steps: int) -> Float[Array, ""] | float:
  """Half a cosine, from 1 at the first of all steps toward 0.

  >>> [round(float(cosine(step, 4)), 4) for step in (0, 2, 3)]
  [1.0, 0.5, 0.1464]
  """
  return 0.5 * (1 + jnp.cos(jnp.pi * step / steps))


def constant(
  step: Int[Array, ""] | int, steps: int
) -> Float[Array, ""] | float:
  """1 at every step."""
  return 1.0


# Each gives a direction for each gradient, which the rate multiplies.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
  "adam": adam,
  "sgd": sgd,
  "rmsprop": rmsprop,
}
# The share of the learning rate at a step, beside the warm-up.
SCHEDULES: dict[str, Callable[..., Float[Array, ""] | float]] = {
  "cosine": cosine,
  "constant": constant,
}


def rate_at(
  step: Int[Array, ""] | int, steps: int, section: Mapping[str, Any]
) -> Float[Array, ""]:
  """The share of the learning rate at a step, by a section `schedule`.

  Over the first `warmup` · `steps` steps it rises in equal parts.

  >>> schedule = {"name": "constant", "warmup": 0.2}
  >>> [float(rate_at(step, 10, schedule)) for step in (0, 1, 9)]
  [0.5, 1.0, 1.0]
  """
  rise = jnp.minimum(1.0, (step + 1) / max(1.0, section["warmup"] * steps))
  return rise * call_with(section, SCHEDULES[section["name"]], step, steps)


def make_optimizer(
  section: Mapping[str, Any],
  steps: int,
  numbers: Mapping[str, Any] | None = None,
) -> optax.GradientTransformation:
  """The transformation of gradients that a section `optimizer` describes.

  Each group has its direction, decoupled weight decay as in AdamW, and minus
  the learning rate at the step times the group's factor; one that is frozen
  stays as it is. Of a group, `decay` says whether it acts on kernels or on all.

  Args:
    section: `config.optimizer` as nested plain data.
    steps: of the whole run.
    numbers: by flat name, such as "optimizer.learning_rate"; these replace
      those of the section, and may be traced.
  """
  numbers = numbers or {}
  rate = numbers.get("optimizer.learning_rate", section["learning_rate"])

  def group(name: str) -> optax.GradientTransformation:
    own = section[name]
    if own["freeze"]:
      return optax.set_to_zero()
    factor = numbers.get(f"optimizer.{name}.factor", own["factor"])

    def step_size(step):
      share = rate_at(step, steps, section["schedule"])
      return -share * rate * factor

    return optax.chain(
      call_with(section, OPTIMIZERS[section["name"]]),
      optax.add_decayed_weights(
        own["weight_decay"], _kernels if section["decay"] == "kernels" else None
      ),
      optax.scale_by_schedule(step_size),
    )

  return optax.partition({name: group(name) for name in GROUPS}, groups_of)


def groups_of(params: Mapping[str, Any]) -> Any:
  """The name of its group in place of each parameter of a training state.

  >>> model = {"block1": {"kernel": 0, "bias": 0}, "head": {"kernel": 0}}
  >>> groups_of({"model": model, "objective": {"loss": {"weights": 0}}})
  {'model': {'block1': {'bias': 'trunk', 'kernel': 'trunk'},
             'head': {'kernel': 'head'}},
   'objective': {'loss': {'weights': 'loss'}}}
  """

  def group(path, _):
    if path[0].key == "objective":
      return "loss"
    return "head" if path[1].key == "head" else "trunk"

  return jax.tree_util.tree_map_with_path(group, params)


def _kernels(params: Any) -> Any:
  """Which parameters are kernels."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == "kernel", params
  )
