"""The compiled parts of a run: shared by runs that differ in numbers only."""

import functools
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from metric_learning import data, evaluation, models
from metric_learning.data.augment import augment
from metric_learning.data.stream import read_ahead
from metric_learning.losses import LOSSES
from metric_learning.training import records
from metric_learning.training.config import (
  AUGMENTATIONS,
  as_dict,
  hyper_parameters,
  main_objective_of,
  objective_of,
  traced_numbers,
)
from metric_learning.training.optimizers import make_optimizer, rate_at

_OBJECTIVE = (
  "metric",
  "normalize",
  "reduction",
  "miner",
  "also",
  "regularizer",
  "block_size",
)

# Images that are embedded at a time in evaluation.
_EMBED_BATCH = 512
# Images, and seeds, that the mean distance at initialisation is taken over.
_UNIT_IMAGES = 512
_UNIT_SEEDS = 5


class Program(NamedTuple):
  """The compiled parts of all runs that differ in numbers only."""

  init: Callable[..., dict[str, Any]]
  step: Callable[..., tuple[dict[str, Any], dict[str, Array]]]
  embed: Callable[..., Array]


def program_of(config: ConfigDict, splits: data.Splits) -> Program:
  """The program of a config: shared by runs that differ in numbers only."""
  numbers = traced_numbers(config)
  # What the compiled parts depend on beside the shape of an image.
  static = {
    name: value
    for name, value in records.flatten(as_dict(config)).items()
    if name not in numbers
    and (
      name in ("train.steps", *_OBJECTIVE)
      or name.startswith(("loss.", "model.", "optimizer.", "memory."))
      or name in (f"data.{field}" for field in AUGMENTATIONS)
    )
  }
  shape = _image_shape(splits.train)
  key = json.dumps([static, shape], sort_keys=True)
  with _ONE_AT_A_TIME:
    if key not in _PROGRAMS:
      _PROGRAMS[key] = _make_program(config, shape)
    return _PROGRAMS[key]


_PROGRAMS: dict[str, Program] = {}
# Runs on several devices ask from threads.
_ONE_AT_A_TIME = threading.Lock()


def _image_shape(dataset: data.Dataset) -> tuple[int, int, int]:
  _, height, width, channels = dataset.images.shape
  return height, width, channels


def _make_program(
  config: ConfigDict, image_shape: tuple[int, int, int]
) -> Program:
  options = dict(config.model)
  name, dim = options.pop("name"), options.pop("embedding_dim")
  create = functools.partial(
    models.create, name, image_shape=image_shape, embedding_dim=dim, **options
  )
  # A network's function is the same for every seed.
  apply = create(seed=0).apply
  optimizer = make_optimizer(**config.optimizer)
  fixed = dict(config.optimizer)

  def objective_with(numbers):
    hyper = {
      k.removeprefix("loss."): v
      for k, v in numbers.items()
      if k.startswith("loss.")
    }
    return objective_of(config, {**hyper_parameters(config), **hyper})

  steps = config.train.steps
  jitter = {name: config.data[name] for name in AUGMENTATIONS}

  def init(seed: int, num_classes: int, numbers) -> dict[str, Any]:
    """The state before the first step."""
    model = create(seed=seed)
    objective = objective_with(numbers)
    key = jax.random.fold_in(jax.random.key(seed), 1)
    sizes = {"num_classes": num_classes, "embedding_dim": dim}
    params = {
      "model": model.params,
      "objective": objective.init(key, **sizes),
    }
    return {
      "params": params,
      "kept": objective.init_state(**sizes),
      "stats": model.stats,
      "optimizer": optimizer.init(params),
    }

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, number, images, labels, indices, key, numbers, affinity=None):
    """One step on the images at `indices`."""
    objective = objective_with(numbers)
    # Fused into the first layer, the lookup would be done once for each of its
    # patches (measured on a CPU: twice the time of a whole step).
    batch = jax.lax.optimization_barrier(
      images[indices].astype(jnp.float32) / 255
    )
    key = jax.random.fold_in(key, number)
    if any(jitter.values()):
      batch = augment(key, batch, **jitter)

    def loss_of(params):
      embeddings, stats = apply(
        params["model"], state["stats"], batch, train=True
      )
      value, aux = objective(
        params["objective"],
        embeddings,
        labels[indices],
        state=state["kept"],
        # Another stream than that of the augmentation.
        key=jax.random.fold_in(key, 1),
        **({} if affinity is None else {"affinity": affinity}),
      )
      return value, (stats, aux)

    (value, (stats, aux)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
      state["params"]
    )
    updates, moments = optimizer.update(
      gradient, state["optimizer"], state["params"]
    )
    rate = rate_at(number, steps, fixed["schedule"], fixed["warmup"])
    speed = -rate * numbers["optimizer.learning_rate"]
    speeds = {"model": speed, "objective": speed * fixed["loss_factor"]}
    updates = {
      part: jax.tree.map(lambda u, s=s: s * u, updates[part])
      for part, s in speeds.items()
    }
    state = {
      "params": optax.apply_updates(state["params"], updates),
      "kept": aux.state,
      "stats": stats,
      "optimizer": moments,
    }
    norm = optax.tree.norm(gradient["model"])
    return state, {"loss": value, "gradient_norm": norm, **aux.diagnostics}

  @jax.jit
  def embed(state, images):
    """The points that the distance sees, of uint8 images."""
    images = jax.lax.optimization_barrier(images.astype(jnp.float32) / 255)
    embeddings, _ = apply(
      state["params"]["model"], state["stats"], images, train=False
    )
    objective = objective_of(config, hyper_parameters(config))
    return objective.embed(state["params"]["objective"], embeddings)

  return Program(init, step, embed)


def embed_images(
  program: Program, state: dict[str, Any], images: np.ndarray | data.ImageFiles
) -> np.ndarray:
  """Embeddings of all images, in batches of one shape."""
  found = []
  starts = range(0, len(images), _EMBED_BATCH)
  read = lambda start: np.asarray(images[start : start + _EMBED_BATCH])
  on_disk = isinstance(images, data.ImageFiles)
  for some in read_ahead(read, starts) if on_disk else map(read, starts):
    short = _EMBED_BATCH - len(some)
    padded = np.pad(some, [(0, short)] + [(0, 0)] * (images.ndim - 1))
    found.append(np.asarray(program.embed(state, padded))[: len(some)])
  return np.concatenate(found)


def num_classes(config: ConfigDict, train: data.Dataset) -> int:
  """The number of classes that a loss meets: of images, if these have views."""
  return len(train.labels if config.data.views > 1 else train.class_names)


# --- Units of the margin ----------------------------------------------------


def initial_mean_distance(config: ConfigDict, splits: data.Splits) -> float:
  """Mean distance between training images under the untrained network.

  Over seeds 0 to 4, whatever the seed of the run, so that one margin means one
  number for all seeds. Cached for the process.
  """
  whole = as_dict(config)
  objective = main_objective_of(config, hyper_parameters(config))
  key = json.dumps(
    [whole["data"], whole["model"], objective.metric, objective.normalize],
    sort_keys=True,
  )
  if key not in _UNITS:
    program = program_of(config, splits)
    numbers = traced_numbers(config)
    classes = num_classes(config, splits.train)
    chosen = np.random.default_rng(0).permutation(len(splits.train.labels))
    images = splits.train.images[chosen[:_UNIT_IMAGES]]
    means = []
    for seed in range(_UNIT_SEEDS):
      state = program.init(seed, classes, numbers)
      points = embed_images(program, state, images)
      distances, _ = evaluation.pairs_of(
        points, np.zeros(len(points), int), objective.space
      )
      means.append(float(np.mean(distances)))
    _UNITS[key] = float(np.mean(means))
  return _UNITS[key]


_UNITS: dict[str, float] = {}


def numbers_of(config: ConfigDict, splits: data.Splits) -> dict[str, float]:
  """The traced numbers of a run, distances in absolute units."""
  numbers = traced_numbers(config)
  if config.margin_unit == "initial_mean":
    unit = initial_mean_distance(config, splits)
    for name, power in LOSSES[config.loss.name].scaled.items():
      if f"loss.{name}" in numbers:
        numbers[f"loss.{name}"] *= unit**power
  return {name: float(value) for name, value in numbers.items()}
