"""Optimizers and schedules: each by its name, and none in place of another."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metric_learning import InputError, data
from metric_learning.data.feeds import gather_resident
from metric_learning.training import base_config, optimizers, override
from metric_learning.training.plan import make_plan
from metric_learning.training.step import compiled
from tests.tiny import tiny_config

GRADIENTS = np.random.default_rng(0).normal(size=(3, 5))


def directions(name, **fields):
  """What an optimizer makes of three gradients, at a rate of -1."""
  fields = {"optimizer.name": name, "optimizer.schedule.warmup": 0.0, **fields}
  if name == "sgd":
    fields["optimizer.momentum"] = 0.5
  config = override(
    base_config(), {"optimizer.schedule.name": "constant", **fields}
  )
  optimizer = optimizers.make_optimizer(
    config.optimizer.to_dict(), 3, {"optimizer.learning_rate": -1.0}
  )
  params = {"model": {"head": {"kernel": jnp.ones(5), "bias": jnp.ones(5)}}}
  state, found = optimizer.init(params), []
  for gradient in jnp.asarray(GRADIENTS, jnp.float32):
    gradients = jax.tree.map(lambda _, g=gradient: g, params)
    updates, state = optimizer.update(gradients, state, params)
    head = updates["model"]["head"]
    found.append(np.stack([head["kernel"], head["bias"]]))
  return np.array(found)


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
  for each in directions(name).swapaxes(0, 1):
    np.testing.assert_allclose(each, expected, rtol=2e-5)


def test_decay_is_added_after_the_direction_and_acts_on_kernels():
  decay = {"optimizer.head.weight_decay": 0.3}
  plain, decayed = directions("adam"), directions("adam", **decay)
  kernels, biases = (decayed - plain).swapaxes(0, 1)
  np.testing.assert_allclose(kernels, 0.3, rtol=1e-5)
  np.testing.assert_array_equal(biases, 0)
  of_all = directions("adam", **decay, **{"optimizer.decay": "all"})
  np.testing.assert_allclose(of_all - plain, 0.3, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_rises_and_falls_as_the_equation_says(schedule):
  steps = np.arange(20)
  section = {"name": schedule, "warmup": 0.25}
  found = [optimizers.rate_at(int(s), 20, section) for s in steps]
  fall = (1 + np.cos(np.pi * steps / 20)) / 2 if schedule == "cosine" else 1
  expected = np.minimum(1, (steps + 1) / 5) * fall
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def after_a_step(splits, **fields):
  """Parameters of a tiny run by group: at first, and after one step."""
  config = override(tiny_config(loss__name="norm_softmax"), fields)
  plan = make_plan(config, splits)
  state = plan.program.init(0, 10, plan.numbers)
  before = jax.tree.map(np.array, state["params"])
  state, _ = compiled(plan.program.step, gather_resident)(
    state,
    100,
    (splits.train.inputs, splits.train.labels),
    (np.arange(20, dtype=np.int32), None),
    jax.random.key(0),
    {k: np.float32(v) for k, v in plan.numbers.items()},
  )
  groups = jax.tree.leaves(optimizers.groups_of(before))
  return [
    (group, old, np.asarray(new))
    for group, old, new in zip(
      groups,
      *map(jax.tree.leaves, (before, state["params"])),
      strict=True,
    )
  ]


@pytest.fixture(scope="module")
def splits():
  return data.load(tiny_config().data)


def test_a_name_added_to_the_dict_is_what_a_run_uses(monkeypatch, splits):
  names = {"optimizer.name": "still", "optimizer.schedule.name": "triple"}
  with pytest.raises(InputError, match="'still'"):
    override(tiny_config(), names)

  def still(*, share: float = 0.5):
    return optax.chain(optax.set_to_zero(), optax.scale(share))

  monkeypatch.setitem(optimizers.OPTIMIZERS, "still", still)
  monkeypatch.setitem(optimizers.SCHEDULES, "triple", lambda step, steps: 3.0)
  decay = {f"optimizer.{g}.weight_decay": 0.5 for g in optimizers.GROUPS}
  found = after_a_step(
    splits,
    **names,
    **decay,
    **{
      "optimizer.share": 0.25,
      "optimizer.decay": "all",
      "optimizer.learning_rate": 0.01,
      "optimizer.schedule.warmup": 0.0,
    },
  )
  # The direction is 0, so that decay alone is left: x - 3 · 0.01 · 0.5 x.
  assert {group for group, *_ in found} == {*optimizers.GROUPS}
  for _, old, new in found:
    np.testing.assert_allclose(new, 0.985 * old, rtol=1e-6)


@pytest.mark.parametrize("group", optimizers.GROUPS)
def test_a_group_that_is_frozen_does_not_move_by_a_bit(group, splits):
  for name, old, new in after_a_step(
    splits, **{f"optimizer.{group}.freeze": True}
  ):
    assert np.array_equal(old, new) is (name == group)


def test_a_factor_multiplies_the_rate_of_its_group(splits):
  fields = {"optimizer.name": "sgd", "optimizer.momentum": 0.0}
  once = after_a_step(splits, **fields)
  thrice = after_a_step(splits, **fields, **{"optimizer.head.factor": 3.0})
  for (group, old, new), (_, _, other) in zip(once, thrice, strict=True):
    factor = 3 if group == "head" else 1
    np.testing.assert_allclose(
      other - old, factor * (new - old), rtol=1e-3, atol=1e-7
    )
