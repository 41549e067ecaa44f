"""A batch in chunks has the value and gradient of the whole batch."""

import jax
import numpy as np
import pytest

from metric_learning import InputError, data
from metric_learning.training import override
from metric_learning.training.plan import feed_of, make_plan
from metric_learning.training.step import compiled
from tests.tiny import tiny_config

VIEWS = {
  "batch.views": 2,
  "batch.sampler": "uniform",
  "augment.flip": True,
  "augment.shift": 0.1,
}
MEMORY = {"memory.size": 60}
# Of each way to meet: a batch, classes, proxies, two views, a state, a memory.
CASES = {
  "contrastive": {},
  "triplet": MEMORY,
  "supcon": VIEWS,
  "multi_similarity": {"memory.size": 40, "memory.warmup": 1},
  "lifted": {"block_size": 8},
  "ntxent": VIEWS,
  "arcface": {},
  "proxy_anchor": {},
  "center": {"also.contrastive.weight": 0.5},
  "vicreg": VIEWS,
  "fastap": {"miner.name": "batch_hard"},
}


@pytest.fixture(scope="module")
def splits():
  return data.load(tiny_config().data)


def after_two_steps(config, splits):
  """The state and the logged values after two steps, by name."""
  plan = make_plan(config, splits)
  state = plan.program.init(0, plan.num_classes, plan.numbers)
  feed = feed_of(plan, 0)
  step = compiled(plan.program.step, feed.gather)
  numbers = {k: np.float32(v) for k, v in plan.numbers.items()}
  for number, own in zip(range(2), feed.own, strict=False):
    state, values = step(
      state, number, feed.shared, own, jax.random.key(0), numbers
    )
  del state["optimizer"]
  return jax.tree.map(np.asarray, {**state, **values.named()})


@pytest.mark.parametrize("loss", CASES)
def test_chunks_give_what_the_whole_batch_gives(loss, splits):
  fields = {
    "loss.name": loss,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.05,
    **CASES[loss],
  }
  config = override(tiny_config(), fields)
  chunked = override(config, {"train.chunks": 4})
  whole = after_two_steps(config, splits)
  found = after_two_steps(chunked, splits)
  assert whole["gradient_norm"] > 0
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-6),
    whole,
    found,
  )


def test_a_frozen_network_in_chunks_does_not_move(splits):
  fields = {"train.chunks": 2, "loss.name": "arcface"}
  fields |= {f"optimizer.{g}.freeze": True for g in ("trunk", "head")}
  config = override(tiny_config(), fields)
  plan = make_plan(config, splits)
  first = plan.program.init(0, plan.num_classes, plan.numbers)
  before = jax.tree.map(np.array, first["params"])
  after = after_two_steps(config, splits)["params"]
  jax.tree.map(np.testing.assert_array_equal, before["model"], after["model"])
  table = lambda params: params["objective"]["loss"]["weights"]
  assert np.abs(table(after) - table(before)).max() > 0


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"train.chunks": 3}, "chunks=3 does not divide a batch of 20 items"),
    ({"train.chunks": 0}, r"train\.chunks must be at least 1"),
    (
      {
        "train.chunks": 2,
        "model.name": "conv4",
        "model.normalization": "batch",
        "data.image_size": (16, 16),
      },
      "conv4 normalizes by its batch",
    ),
  ],
)
def test_what_cannot_be_in_chunks(fields, said):
  config = override(tiny_config(), fields)
  with pytest.raises(InputError, match=said):
    make_plan(config)


def test_the_activations_are_those_of_one_chunk(splits):
  """Read from the compiled program, at four times the batch."""

  def memory(**fields):
    deep = {"model__hidden": (8,) * 30, "batch__images_per_class": 100}
    deep["loss__name"] = "norm_softmax"
    plan = make_plan(tiny_config(**deep, **fields), splits)
    shapes = jax.eval_shape(
      lambda: plan.program.init(0, plan.num_classes, plan.numbers)
    )
    feed = feed_of(plan, 0)
    step = compiled(plan.program.step, feed.gather)
    numbers = {k: np.float32(v) for k, v in plan.numbers.items()}
    own = next(feed.own)
    lowered = step.lower(
      shapes, 0, feed.shared, own, jax.random.key(0), numbers
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert memory() > 3 * memory(train__chunks=5)
