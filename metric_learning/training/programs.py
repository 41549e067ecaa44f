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

from metric_learning import data, models
from metric_learning.data.augment import augment
from metric_learning.data.stream import read_ahead
from metric_learning.training import records
from metric_learning.training.config import (
  AUGMENTATIONS,
  as_dict,
  hyper_parameters,
  main_objective_of,
  objective_of,
  objectives_of,
  traced_numbers,
)
from metric_learning.training.optimizers import make_optimizer, rate_at
from metric_learning.training.units import (
  distances_in,
  mean_distance,
  unit_images,
)

# Sections that nothing compiled depends on, but for these fields of them.
_NOT_COMPILED = ("seed", "margin_unit", "data", "train", "eval")
_COMPILED = ("train.steps", *(f"data.{name}" for name in AUGMENTATIONS))

# Images that are embedded at a time in evaluation.
_EMBED_BATCH = 512


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
    and (name in _COMPILED or name.split(".")[0] not in _NOT_COMPILED)
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
    return objective_of(config, hyper_parameters(config), numbers)

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
  """d̄ of a config: see `mean_distance`, under the metric of its loss."""
  objective = main_objective_of(config, hyper_parameters(config))
  images = unit_images(splits.train.images)
  return mean_distance(dict(config.model), images, objective)


def numbers_of(config: ConfigDict, splits: data.Splits) -> dict[str, float]:
  """The traced numbers of a run, distances in absolute units.

  Beside the fields that are traced, those of miners and further losses that
  are distances; each in units of the d̄ of its own metric.
  """
  numbers = traced_numbers(config)
  found = {
    prefix: (objective, distances_in(objective))
    for prefix, objective in objectives_of(config).items()
  }
  images = None
  if config.margin_unit == "initial_mean" and any(d for _, d in found.values()):
    images = unit_images(splits.train.images)
  for prefix, (objective, distances) in found.items():
    unit = 1.0
    if images is not None and distances:
      unit = mean_distance(dict(config.model), images, objective)
    for name, (value, power) in distances.items():
      numbers[prefix + name] = value * unit**power
  return {name: float(value) for name, value in numbers.items()}
