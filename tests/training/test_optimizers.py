"""Optimizers and schedules: each by its name, and none in place of another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metric_learning import InputError, data
from metric_learning.training import optimizers, programs, validate
from metric_learning.training.config import override
from tests.tiny import tiny_config

GRADIENTS = np.random.default_rng(0).normal(size=(3, 5))


def directions(name, **options):
  """What an optimizer makes of three gradients, one after the other."""
  settings = {"momentum": 0.5, "weight_decay": 0.0, **options}
  optimizer = optimizers.make_optimizer(name, **settings)
  params = jnp.ones(5)
  state, found = optimizer.init(params), []
  for gradient in jnp.asarray(GRADIENTS, jnp.float32):
    direction, state = optimizer.update(gradient, state, params)
    found.append(np.asarray(direction))
  return found


def adam_oracle(mean_decay, square_decay, bias):
  """Running means of gradients and their squares, in float64."""
  mean, square, found = 0.0, 0.0, []
  for step, gradient in enumerate(GRADIENTS, 1):
    mean = mean_decay * mean + (1 - mean_decay) * gradient
    square = square_decay * square + (1 - square_decay) * gradient**2
    whole = (1 - mean_decay**step, 1 - square_decay**step) if bias else (1, 1)
    found.append(mean / whole[0] / (np.sqrt(square / whole[1]) + 1e-8))
  return found


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("adam", adam_oracle(0.9, 0.999, True)),
    ("rmsprop", adam_oracle(0.0, 0.9, False)),
    (
      "sgd",
      [
        GRADIENTS[0],
        GRADIENTS[1] + 0.5 * GRADIENTS[0],
        GRADIENTS[2] + 0.5 * GRADIENTS[1] + 0.25 * GRADIENTS[0],
      ],
    ),
  ],
)
def test_each_name_is_its_own_equation(name, expected):
  np.testing.assert_allclose(directions(name), expected, rtol=2e-5)


def test_decay_is_added_after_the_direction():
  plain, decayed = directions("adam"), directions("adam", weight_decay=0.3)
  np.testing.assert_allclose(np.subtract(decayed, plain), 0.3, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_rises_and_falls_as_the_equation_says(schedule):
  steps = np.arange(20)
  found = [optimizers.rate_at(int(s), 20, schedule, 0.25) for s in steps]
  fall = (1 + np.cos(np.pi * steps / 20)) / 2 if schedule == "cosine" else 1
  expected = np.minimum(1, (steps + 1) / 5) * fall
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_name_added_to_the_dict_is_what_a_run_uses(monkeypatch):
  names = {"optimizer.name": "still", "optimizer.schedule": "triple"}
  config = override(tiny_config(), {"optimizer.weight_decay": 0.5})
  with pytest.raises(InputError, match="'still'"):
    validate(override(config, names))
  monkeypatch.setitem(optimizers.OPTIMIZERS, "still", optax.set_to_zero)
  monkeypatch.setitem(optimizers.SCHEDULES, "triple", lambda step, steps: 3.0)
  config = override(config, names)
  validate(config)
  splits = data.load(config.data)
  program = programs.program_of(config, splits)
  state = program.init(0, 10, {"loss.temperature": 0.1})
  before = jax.tree.map(np.array, state["params"])
  state, _ = program.step(
    state,
    100,
    splits.train.inputs,
    splits.train.labels,
    np.arange(20, dtype=np.int32),
    jax.random.key(0),
    {"loss.temperature": 0.1, "optimizer.learning_rate": 0.01},
  )
  # The direction is 0, so that decay alone is left: x - 3 · 0.01 · 0.5 x.
  for old, new in zip(
    *map(jax.tree.leaves, (before, state["params"])), strict=True
  ):
    np.testing.assert_allclose(new, 0.985 * old, rtol=1e-6)
