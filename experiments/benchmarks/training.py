"""Two suites of the benchmark: what the loop adds, and populations.

`loop`: a run on glyphs with all that it logs, scores and saves, against the
same steps alone, for two networks. `population`: members that train as one
program against as many runs in turn, on images of Omniglot's size; on an
accelerator also with grouped convolutions ("grouped").
"""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Steps of each member in one call.
STEPS = 10


class Network(NamedTuple):
  """What is trained on random images, and how.

  overrides: fields of the config beside the name of the network.
  steps: of each member in one call.
  """

  name: str
  image_shape: tuple[int, int, int] = (28, 28, 1)
  overrides: Mapping[str, Any] = {}
  steps: int = STEPS


@functools.cache
def _glyphs(network: str) -> tuple[Any, Any]:
  from configs import glyphs
  from metric_learning import data
  from metric_learning.training import with_model

  config = glyphs.get_config()
  with config.unlocked():
    with_model(config, network)
  return config, data.load(config.data)


def whole_run(case: Any) -> Callable[[], float]:
  """A run of the config `glyphs`, with a network, into an empty folder."""
  from metric_learning.training import train

  config, splits = _glyphs(case.name)

  def call() -> float:
    with tempfile.TemporaryDirectory() as folder:
      result = train(config, Path(folder), splits=splits, progress=False)
    return result["train"]["train/loss"]

  call()
  return call


def bare_steps(case: Any) -> Callable[[], float]:
  """The steps of that run, and nothing else."""
  import jax
  import jax.numpy as jnp

  from metric_learning.training.plan import feed_of, make_plan
  from metric_learning.training.step import compiled

  plan = make_plan(*_glyphs(case.name))
  traced = {name: jnp.float32(x) for name, x in plan.numbers.items()}
  key = jax.random.fold_in(jax.random.key(plan.config.seed), 2)

  def call() -> float:
    state = plan.program.init(plan.config.seed, plan.num_classes, plan.numbers)
    feed = feed_of(plan, 0)
    step = compiled(plan.program.step, feed.gather)
    for number, own in enumerate(feed.own):
      state, values = step(state, number, feed.shared, own, key, traced)
    return float(values.named()["loss"])

  call()
  return call


def members_of(network: Network) -> tuple[Any, ...]:
  """The program, and what its step takes, of members on random images."""
  import jax
  import jax.numpy as jnp

  from metric_learning import data
  from metric_learning.data.samplers import make_batches
  from metric_learning.training import base_config, override, with_model
  from metric_learning.training.config import traced_numbers
  from metric_learning.training.step import program_of

  config = override(
    with_model(base_config(), network.name), dict(network.overrides)
  )
  labels = np.repeat(np.arange(200, dtype=np.int32), 20)
  random = np.random.default_rng(0)
  shape = len(labels), *network.image_shape
  images = random.integers(0, 256, shape, dtype=np.uint8)
  names = tuple(map(str, range(200)))
  train = data.Dataset("random", images, labels, names)
  program = program_of(config, train.input_spec)
  batches = make_batches(train, config.batch, 0)
  numbers = {
    name: jnp.float32(value) for name, value in traced_numbers(config).items()
  }
  state = program.init(0, len(names), numbers)
  whole = jnp.asarray(images), jnp.asarray(labels)
  return program, state, whole, batches, jax.random.key(0), numbers


def population(
  network: Network, n: int, products: bool = True
) -> Callable[[], float]:
  """`n` members as one program."""
  import jax
  import jax.numpy as jnp

  from metric_learning.data.feeds import gather_resident
  from metric_learning.training.population import on_devices, step_of

  program, one, whole, batches, key, numbers = members_of(network)
  step = step_of(program.step, gather_resident, products)
  repeat = lambda tree: on_devices(
    jax.tree.map(lambda x: jnp.stack([x] * n), tree)
  )
  keys, numbers = repeat(key), repeat(numbers)
  state = repeat(one)

  def call() -> float:
    nonlocal state
    for number in range(network.steps):
      own = np.stack([batches(number).indices] * n), None
      state, values = step(state, number, whole, own, keys, numbers)
    return float(values.vector[0, values.names.index("loss")])

  return call


def in_turn(network: Network, n: int) -> Callable[[], float]:
  """The steps of `n` runs, one run after another."""

  from metric_learning.data.feeds import gather_resident
  from metric_learning.training.step import compiled

  program, state, whole, batches, key, numbers = members_of(network)
  step = compiled(program.step, gather_resident)

  def call() -> float:
    nonlocal state
    for _ in range(n):
      for number in range(network.steps):
        own = batches(number).indices, None
        state, values = step(state, number, whole, own, key, numbers)
    return float(values.named()["loss"])

  return call


BUILDERS: dict[str, Callable[..., Callable[[], float]]] = {
  "whole run": whole_run,
  "bare steps": bare_steps,
  "population": lambda case: population(Network(case.name), case.n),
  "grouped": lambda case: population(
    Network(case.name), case.n, products=False
  ),
  "in turn": lambda case: in_turn(Network(case.name), case.n),
}
