"""Optimizers and schedules: each name gives its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metric_learning import InputError, data
from metric_learning.data.feeds import gather_resident
from metric_learning.training import (
  base_config,
  optimizers,
  override,
  validate,
)
from metric_learning.training.plan import make_plan
from metric_learning.training.step import compiled
from tests.tiny import tiny_config

GRADIENTS = np.random.default_rng(0).normal(size=(3, 5))


def directions(name, **fields):
  """The directions of an optimizer for three gradients, at a rate of -1."""
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
  """The parameters of a tiny run by group: before and after one step."""
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

  def still(decay, *, share: float = 0.5):
    return optax.chain(optax.set_to_zero(), optax.scale(share), decay)

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


def after_three(name, **fields):
  """The directions for three gradients of a [4, 3] matrix; the gradients."""
  gradients = np.random.default_rng(1).normal(size=(3, 4, 3))
  fields = {"optimizer.name": name, "optimizer.schedule.warmup": 0.0, **fields}
  fields["optimizer.schedule.name"] = "constant"
  optimizer = optimizers.make_optimizer(
    override(base_config(), fields).optimizer.to_dict(),
    3,
    {"optimizer.learning_rate": -1.0},
  )
  params = {"model": {"head": {"kernel": jnp.full((4, 3), 2.0)}}}
  state, found = optimizer.init(params), []
  for gradient in jnp.asarray(gradients, jnp.float32):
    grown = {"model": {"head": {"kernel": gradient}}}
    updates, state = optimizer.update(grown, state, params)
    found.append(np.asarray(updates["model"]["head"]["kernel"]))
  return np.array(found), gradients


def test_adamw_is_adam():
  options = {f"optimizer.{k}": v for k, v in (("b1", 0.8), ("b2", 0.7))}
  found, _ = after_three("adamw", **options)
  np.testing.assert_array_equal(found, after_three("adam", **options)[0])
  others = after_three("adam")[0]
  assert np.abs(found - others).max() > 1e-3


def test_nesterov_looks_ahead():
  found, g = after_three("sgd", **{"optimizer.nesterov": True})
  m, expected = 0.0, []
  for gradient in g:
    m = gradient + 0.9 * m
    expected.append(gradient + 0.9 * m)
  np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_rmsprop_with_a_momentum():
  found, g = after_three("rmsprop", **{"optimizer.momentum": 0.5})
  v, m, expected = 0.0, 0.0, []
  for gradient in g:
    v = 0.9 * v + 0.1 * gradient**2
    m = gradient / np.sqrt(v + 1e-8) + 0.5 * m
    expected.append(m)
  np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_lion_takes_the_sign_of_a_mean():
  found, g = after_three("lion")
  m, expected = 0.0, []
  for gradient in g:
    expected.append(np.sign(0.9 * m + 0.1 * gradient))
    m = 0.99 * m + 0.01 * gradient
  np.testing.assert_array_equal(found, expected)


def test_lamb_is_as_long_as_its_parameter():
  found, g = after_three("lamb", **{"optimizer.head.weight_decay": 0.1})
  m = v = 0.0
  for step, (gradient, update) in enumerate(zip(g, found, strict=True), 1):
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    direction = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6)
    direction = direction + 0.1 * 2.0
    expected = np.sqrt(12 * 4) * direction / np.linalg.norm(direction)
    np.testing.assert_allclose(update, expected, rtol=2e-4)


def test_muon_makes_a_momentum_nearly_orthogonal():
  found, g = after_three("muon", **{"optimizer.nesterov": False})
  values = np.linalg.svd(found[0], compute_uv=False)
  # Five steps of Newton and Schulz bring all near 1.
  assert ((values > 0.6) & (values < 1.3)).all()
  left, _, right = np.linalg.svd(g[0], full_matrices=False)
  cosine = np.sum(found[0] * (left @ right)) / np.linalg.norm(found[0])
  assert cosine / np.sqrt(3) > 0.95
  wide = {"model": {"head": {"kernel": jnp.ones((2, 8))}}}
  section = override(base_config(), {"optimizer.name": "muon"}).optimizer
  optimizer = optimizers.make_optimizer(
    section.to_dict(), 1, {"optimizer.learning_rate": -1.0}
  )
  spread = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
  updates, _ = optimizer.update(
    {"model": {"head": {"kernel": jnp.asarray(spread)}}},
    optimizer.init(wide),
    wide,
  )
  values = np.linalg.svd(updates["model"]["head"]["kernel"], compute_uv=False)
  assert ((values > 2 * 0.6) & (values < 2 * 1.3)).all()  # √(8 / 2)


def test_a_bias_moves_by_adam_under_muon():
  for each in directions("muon").swapaxes(0, 1)[1:]:
    np.testing.assert_allclose(each, adam_oracle(0.9, 0.999, True), rtol=2e-5)


def test_schedules_fall_as_their_equations_say():
  rates = lambda **section: [
    float(optimizers.rate_at(s, 8, {"warmup": 0.0, **section}))
    for s in range(8)
  ]
  steps = np.arange(8)
  np.testing.assert_allclose(
    rates(name="linear", floor=0.2), 0.2 + 0.8 * (1 - steps / 8), rtol=1e-5
  )
  np.testing.assert_allclose(
    rates(name="cosine", floor=0.5),
    0.5 + 0.25 * (1 + np.cos(np.pi * steps / 8)),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    rates(name="step", at=(0.25, 0.5), drop=0.5),
    [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25],
    rtol=1e-5,
  )


def test_a_long_gradient_is_cut_to_its_norm_over_all_groups():
  bias = lambda x: {"bias": jnp.array([x])}
  whole = {
    "model": {"a": bias(3.0), "head": bias(0.0)},
    "objective": {"loss": {"weights": jnp.array([4.0])}},
  }
  params = jax.tree.map(jnp.ones_like, whole)
  for clip, factor in ((2.5, 0.5), (7.0, 1.0), (None, 1.0)):
    fields = {
      **{"optimizer.clip": clip, "optimizer.name": "sgd"},
      **{"optimizer.schedule.warmup": 0.0},
    }
    optimizer = optimizers.make_optimizer(
      override(base_config(), fields).optimizer.to_dict(),
      1,
      {"optimizer.learning_rate": -1.0},
    )
    updates, _ = optimizer.update(whole, optimizer.init(params), params)
    for got, expected in zip(
      jax.tree.leaves(updates), jax.tree.leaves(whole), strict=True
    ):
      np.testing.assert_allclose(got, factor * expected, rtol=1e-6)


def test_the_mean_of_the_weights_is_that_of_the_equation():
  section = override(
    base_config(), {"optimizer.ema": 0.5, "optimizer.name": "sgd"}
  ).optimizer
  optimizer = optimizers.make_optimizer(section.to_dict(), 3)
  params = {"model": {"head": {"bias": jnp.zeros(2)}}}
  state, seen = optimizer.init(params), []
  for gradient in (1.0, -2.0, 0.5):
    updates, state = optimizer.update(
      {"model": {"head": {"bias": jnp.full(2, gradient)}}}, state, params
    )
    params = optax.apply_updates(params, updates)
    seen.append(np.asarray(params["model"]["head"]["bias"], float))
  expected = (0.25 * seen[0] + 0.5 * seen[1] + seen[2]) / 1.75
  got = optimizers.mean_of(state)["model"]["head"]["bias"]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_layers_before_the_head_move_less():
  fields = {"optimizer.trunk.layer_decay": 0.5, "optimizer.name": "sgd"}
  fields["optimizer.schedule.warmup"] = 0.0
  section = override(base_config(), fields).optimizer
  names = ("conv1", "deep.a", "deep.b", "head")
  optimizer = optimizers.make_optimizer(
    section.to_dict(), 1, {"optimizer.learning_rate": -1.0}, layers=names
  )
  ones = {"bias": jnp.ones(1)}
  params = {
    "model": {"conv1": ones, "deep": {"a": ones, "b": ones}, "head": ones}
  }
  updates, _ = optimizer.update(params, optimizer.init(params), params)
  moved = updates["model"]
  assert [
    float(part["bias"][0])
    for part in (moved["conv1"], *moved["deep"].values(), moved["head"])
  ] == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"optimizer.clip": 0.0}, "optimizer.clip must be positive"),
    ({"optimizer.ema": 1.0}, "optimizer.ema is a share"),
    ({"eval.averaged": True}, r"set config\.optimizer\.ema"),
    ({"optimizer.trunk.layer_decay": 0.0}, "layer_decay is a factor"),
    ({"optimizer.nesterov": True}, "nesterov"),
  ],
)
def test_what_an_optimizer_refuses(fields, message):
  with pytest.raises(InputError, match=message):
    validate(override(tiny_config(), fields))


def test_only_the_last_layers_of_a_trunk_move(splits):
  """The head moves too; earlier layers keep every bit, even with decay."""
  fields = {"optimizer.trunk.weight_decay": 0.5, "optimizer.decay": "all"}
  fields["model.hidden"] = (8, 8)
  found = after_a_step(splits, **{"optimizer.trunk.last_layers": 1}, **fields)
  moved = [not np.array_equal(old, new) for _, old, new in found]
  groups = [group for group, *_ in found]
  trunk = [
    m for m, group in zip(moved, groups, strict=True) if group == "trunk"
  ]
  assert all(m for m, g in zip(moved, groups, strict=True) if g != "trunk")
  assert sum(trunk) == 2 < len(trunk)  # A kernel and a bias.


def test_more_layers_than_the_trunk_has_are_refused(splits):
  with pytest.raises(InputError, match=r"last_layers=9: the trunk .* has"):
    after_a_step(splits, **{"optimizer.trunk.last_layers": 9})
  with pytest.raises(InputError, match="give 1 or more, None for all"):
    after_a_step(splits, **{"optimizer.trunk.last_layers": 0})
