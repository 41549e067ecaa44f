"""Optimizers and schedules by name: add a function and its line in the dict.

The keyword-only parameters of an optimizer are fields of `config.optimizer`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from metric_learning.signatures import call_with


def adam() -> optax.GradientTransformation:
  """Kingma and Ba 2015: the mean gradient over its root mean square."""
  return optax.scale_by_adam()


def rmsprop() -> optax.GradientTransformation:
  """The gradient over its root mean square."""
  return optax.scale_by_rms()


def sgd(*, momentum: float) -> optax.GradientTransformation:
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


# Each gives a direction for each gradient; the step multiplies it by the rate.
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


def make_optimizer(
  name: str, *, weight_decay: float, **options: Any
) -> optax.GradientTransformation:
  """The optimizer of this name with those of the options that it takes.

  Decay is added after the direction: it is decoupled from the adaptive scale,
  as in AdamW.
  """
  direction = call_with(options, OPTIMIZERS[name])
  return optax.chain(direction, optax.add_decayed_weights(weight_decay))


def rate_at(
  step: Int[Array, ""] | int, steps: int, schedule: str, warmup: float
) -> Float[Array, ""]:
  """The share of the learning rate at a step, in (0, 1].

  Over the first `warmup` · `steps` steps it rises in equal parts.

  >>> [float(rate_at(step, 10, "constant", 0.2)) for step in (0, 1, 9)]
  [0.5, 1.0, 1.0]
  """
  rise = jnp.minimum(1.0, (step + 1) / max(1.0, warmup * steps))
  return rise * SCHEDULES[schedule](step, steps)
