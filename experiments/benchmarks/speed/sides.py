"""The sides of a line: calls to measure, of ours and of its rivals."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks import pml, pml_sides, training


@dataclasses.dataclass(frozen=True)
class Case:
  """One line of one side: what to build, and how large.

  kind: a key of `BUILDERS`.
  folder: of images to train on.
  """

  kind: str
  name: str
  n: int
  classes: int
  dim: int
  block_size: Any = "auto"
  folder: Any = ""


def _batch(case: Case) -> pml_sides.Batch:
  random = np.random.RandomState(0)
  normal = lambda *shape: np.asarray(random.normal(size=shape), np.float32)
  labels = np.repeat(np.arange(case.classes), -(-case.n // case.classes))
  return pml_sides.Batch(
    normal(case.n, case.dim),
    labels[: case.n],
    normal(case.classes, pml.CENTERS, case.dim),
  )


def _compiled(function: Callable[..., Any], *args: Any) -> Callable[[], float]:
  """A call without arguments, compiled, that waits for value and gradient."""
  import jax

  from metric_learning import devices

  options = devices.wide_vectors()
  compiled = jax.jit(function, compiler_options=options).lower(*args).compile()

  def call() -> float:
    return float(jax.block_until_ready(compiled(*args))[0])

  return call


def _our_loss(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp

  pair = PAIRS.get(case.name) or pml.Pair(case.name, "")
  batch = _batch(case)
  value, params = pml_sides.our_side(pair, batch, block_size=case.block_size)
  x, labels = map(jnp.asarray, pml_sides.inputs(pair, batch))
  both = jax.value_and_grad(value, argnums=(0, 1))
  return _compiled(both, params, x, labels)


def _their_loss(case: Case) -> Callable[[], float]:
  import torch

  pair, batch = PAIRS[case.name], _batch(case)
  value, learned = pml_sides.their_side(pair, batch)
  points, labels = map(torch.tensor, pml_sides.inputs(pair, batch))

  def call() -> float:
    x = points.clone().requires_grad_()
    if learned is not None:
      learned.grad = None
    found = value(x, labels).sum()
    found.backward()
    return float(found.detach())

  return call


def _our_distance(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp

  from metric_learning import pairwise

  metric, exact, _ = DISTANCES[case.name]
  x = jnp.asarray(_batch(case).x)
  weights = jnp.asarray(_cotangent(case))
  total = lambda x: jnp.sum(weights * pairwise(metric, x, x, exact=exact))
  return _compiled(jax.value_and_grad(total), x)


def _their_distance(case: Case) -> Callable[[], float]:
  import torch

  of = DISTANCES[case.name][2]
  points, weights = map(torch.tensor, (_batch(case).x, _cotangent(case)))

  def call() -> float:
    x = points.clone().requires_grad_()
    if of == "cosine":
      unit = torch.nn.functional.normalize(x)
      distances = 1 - unit @ unit.T
    elif of == "squared":
      distances = torch.cdist(x, x) ** 2
    else:
      distances = torch.cdist(x, x, p=of)
    found = torch.sum(weights * distances)
    found.backward()
    return float(found.detach())

  return call


def _cotangent(case: Case) -> np.ndarray:
  """What multiplies a matrix: positive, so that nothing cancels in the sum."""
  random = np.random.RandomState(1)
  return random.uniform(size=(case.n, case.n)).astype(np.float32)


def _optax(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp
  import optax

  batch = _batch(case)
  labels = jnp.asarray(batch.labels)

  def value(x: Any) -> Any:
    return optax.losses.ntxent(x, labels, temperature=0.07)

  return _compiled(jax.value_and_grad(value), jnp.asarray(batch.x))


def _embeddings(case: Case) -> tuple[np.ndarray, np.ndarray]:
  """Unit vectors whose classes overlap a little, and their labels."""
  random = np.random.RandomState(0)
  labels = np.arange(case.n) % case.classes
  x = random.normal(size=(case.classes, case.dim))[labels]
  x += 1.3 * random.normal(size=(case.n, case.dim))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  return x.astype(np.float32), labels


def _our_retrieval(case: Case) -> Callable[[], list[float]]:
  from metric_learning.evaluation import retrieval

  names = ("recall_at_1", "r_precision", "map_at_r")
  x, labels = _embeddings(case)

  def call() -> list[float]:
    found = retrieval(x, labels, metric=case.name, ks=(1,))
    return [found[name] for name in names]

  return call


def _their_retrieval(case: Case) -> Callable[[], list[float]]:
  import torch
  from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
  )

  names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
  calculator = AccuracyCalculator(
    include=names, k="max_bin_count", device=torch.device("cpu")
  )
  x, labels = map(torch.tensor, _embeddings(case))

  def call() -> list[float]:
    found = calculator.get_accuracy(x, labels)
    return [float(found[name]) for name in names]

  return call


def _training(case: Case) -> Callable[[], float]:
  """Training steps of conv4 at 96×96, with the loop's own input."""
  import jax
  import jax.numpy as jnp

  from metric_learning import data
  from metric_learning.training import base_config, override
  from metric_learning.training.plan import feed_of, make_plan
  from metric_learning.training.step import compiled

  config = override(
    base_config(),
    {
      "model.name": "conv4",
      "model.embedding_dim": case.dim,
      "data.name": "image_folder",
      "data.data_dir": case.folder,
      "data.split": "classes",
      "data.image_size": (96, 96),
      "data.stream": case.kind == "streamed",
      "batch.classes_per_batch": case.classes,
      "batch.images_per_class": case.n // case.classes,
      "train.steps": 10**6,
    },
  )
  plan = make_plan(config, data.load(config.data))
  state = plan.program.init(0, plan.num_classes, plan.numbers)
  traced = {name: jnp.float32(x) for name, x in plan.numbers.items()}
  feed = feed_of(plan, 0)
  step, fed = compiled(plan.program.step, feed.gather), enumerate(feed.own)

  def steps(count: int) -> float:
    nonlocal state
    for _ in range(count):
      number, own = next(fed)
      state, values = step(
        state, number, feed.shared, own, jax.random.key(0), traced
      )
    return float(values.named()["loss"])

  steps(1)  # compiles
  return lambda: steps(steps_of_a_call())


def steps_of_a_call() -> int:
  """Of one call: more than are read ahead, or reading would not be measured."""
  from metric_learning.data.stream import THREADS

  return 2 * THREADS


BUILDERS = {
  "ours": _our_loss,
  "theirs": _their_loss,
  "our distance": _our_distance,
  "their distance": _their_distance,
  "optax": _optax,
  "our retrieval": _our_retrieval,
  "their retrieval": _their_retrieval,
  "streamed": _training,
  "in memory": _training,
  **training.BUILDERS,
}
PAIRS = {pair.name: pair for pair in pml.LOSSES}
# Our metric, whether exact, and the p of torch.cdist.
DISTANCES: dict[str, tuple[Any, bool, Any]] = {
  "l1": ("l1", False, 1.0),
  "l2": ("l2", False, 2.0),
  "l2, exact": ("l2", True, 2.0),
  "squared_l2": ("squared_l2", False, "squared"),
  "cosine": ("cosine", False, "cosine"),
  "lp, p = 3": (("lp", {"p": 3}), False, 3.0),
  "linf": ("linf", False, math.inf),
}
