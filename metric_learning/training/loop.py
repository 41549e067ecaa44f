"""The one training loop: from a config to a run on disk."""

import contextlib
import functools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from ml_collections import ConfigDict
from tqdm import tqdm

from metric_learning import data, evaluation, models
from metric_learning.data.augment import augment
from metric_learning.data.sampler import Batches, make_batches
from metric_learning.data.stream import read_ahead
from metric_learning.distances import MetricName
from metric_learning.errors import check_choice
from metric_learning.losses import LOSSES
from metric_learning.training import records
from metric_learning.training.checkpoints import Checkpoints
from metric_learning.training.config import (
  AUGMENTATIONS,
  as_dict,
  digest,
  hyper_parameters,
  main_objective_of,
  objective_of,
  traced_numbers,
  validate,
)

_OBJECTIVE = (
  "metric",
  "normalize",
  "reduction",
  "miner",
  "also",
  "regularizer",
)
LOWER_IS_BETTER = ("eer", "frr_at_far")

# Images that are embedded at a time in evaluation.
_EMBED_BATCH = 512
# Images, and seeds, that the mean distance at initialisation is taken over.
_UNIT_IMAGES = 512
_UNIT_SEEDS = 5


class NotFiniteError(ArithmeticError):
  """A loss stopped being finite; the message says where and what is left."""


class Program(NamedTuple):
  """The compiled parts of all runs that differ in numbers only."""

  init: Callable[..., dict[str, Any]]
  step: Callable[..., tuple[dict[str, Any], dict[str, Array]]]
  embed: Callable[..., Array]


def lower_is_better(score: str) -> bool:
  """Whether a smaller value of this score is the better one.

  >>> lower_is_better("own/eer"), lower_is_better("own/map_at_r")
  (True, False)
  """
  return score.rpartition("/")[2].startswith(LOWER_IS_BETTER)


# --- Compiled parts ---------------------------------------------------------


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
  optimizer = _optimizer(config)
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

  def rate(step: Array) -> Array:
    """The schedule, between 0 and 1."""
    warm = max(1.0, fixed["warmup"] * steps)
    rise = jnp.minimum(1.0, (step + 1) / warm)
    if fixed["schedule"] == "constant":
      return rise
    return rise * 0.5 * (1 + jnp.cos(jnp.pi * step / steps))

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
    speed = -rate(number) * numbers["optimizer.learning_rate"]
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


def _optimizer(config: ConfigDict) -> optax.GradientTransformation:
  """A direction for each gradient; the step multiplies it by the rate."""
  fixed = config.optimizer
  if fixed.name == "adam":
    direction = optax.scale_by_adam()
  elif fixed.name == "rmsprop":
    direction = optax.scale_by_rms()
  else:
    direction = optax.trace(decay=fixed.momentum)
  # Decay after the direction: decoupled from the adaptive scale, as AdamW.
  return optax.chain(direction, optax.add_decayed_weights(fixed.weight_decay))


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
    for name in LOSSES[config.loss.name].scaled:
      if f"loss.{name}" in numbers:
        numbers[f"loss.{name}"] *= unit
  return {name: float(value) for name, value in numbers.items()}


# --- What the step sees -----------------------------------------------------


def num_classes(config: ConfigDict, train: data.Dataset) -> int:
  """The number of classes that a loss meets: of images, if these have views."""
  return len(train.labels if config.data.views > 1 else train.class_names)


def feed(
  config: ConfigDict,
  train: data.Dataset,
  batches: Callable[[int], tuple[Any, Any]],
  first: int,
  put: Callable[[np.ndarray], Array] = jnp.asarray,
) -> Iterator[tuple[Any, Any, np.ndarray, np.ndarray | None]]:
  """Images, labels, indices into them, and affinity of each step from `first`.

  Images and labels are all that there are, which `put` brings to the device;
  with `stream`, those of the batch, read while the steps before it run.
  """
  steps, views = range(first, config.train.steps), config.data.views
  labels = train.labels
  if views > 1:
    # Each image is its own class.
    labels = np.arange(len(labels), dtype=np.int32)
  if config.data.stream:

    def read(step):
      indices, affinity = batches(step)
      images = np.asarray(train.images[indices])
      places = np.tile(np.arange(len(indices), dtype=np.int32), views)
      return images, labels[indices], places, affinity

    yield from read_ahead(read, steps)
    return
  whole = put(np.asarray(train.images)), put(labels)
  for step in steps:
    indices, affinity = batches(step)
    yield *whole, np.tile(indices, views), affinity


# --- The loop ---------------------------------------------------------------


def train(
  config: ConfigDict,
  workdir: str | Path,
  *,
  splits: data.Splits | None = None,
  progress: bool = True,
) -> dict[str, Any]:
  """Trains a run, or goes on where it was, and returns its result.

  A finished run is returned as it is. Writes config.json, environment.json,
  metrics.jsonl, train.log, checkpoints/, embeddings.npz and, last, result.json.

  Args:
    config: a whole config; see `base_config`.
    workdir: the folder of the run.
    splits: the data, if it is loaded already.
    progress: a bar on a terminal.

  Raises:
    InputError: for a config or data that cannot be used, or a workdir of
      another config.
    NotFiniteError: if the loss stops being finite.
  """
  workdir = Path(workdir)
  validate(config)
  splits = data.load(config.data) if splits is None else splits
  # Refused before anything is written.
  batches = make_batches(splits.train, config.data, config.seed)
  records.claim(workdir, as_dict(config))
  if (workdir / records.RESULT).exists():
    return records.read_json(workdir / records.RESULT)
  with contextlib.closing(Recorder(config, workdir, splits)) as run:
    return _train(run, batches, progress)


def _train(run: "Recorder", batches: Batches, progress: bool) -> dict[str, Any]:
  config, program = run.config, run.program
  state = run.first_state()
  first, state = run.checkpoints.restore(state) or (0, state)
  run.start(first)
  started = time.perf_counter()
  waiting: list[dict[str, Array]] = []
  last = config.train.steps
  bar = tqdm(
    range(first, last),
    initial=first,
    total=last,
    unit="step",
    disable=not (progress and sys.stderr.isatty()),
  )
  fed = feed(config, run.splits.train, batches, first)
  for number, (images, labels, indices, affinity) in zip(bar, fed, strict=True):
    state, values = program.step(
      state, number, images, labels, indices, run.key, run.traced, affinity
    )
    waiting.append(values)
    done = number + 1
    if is_logged(config, done):
      # Reading a value waits for the device: once in a while, not each step.
      loss = run.log_steps(done, jax.device_get(waiting))
      waiting = []
      bar.set_postfix(loss=f"{loss:.4g}")
    if is_evaluated(config, done):
      run.evaluate(done, state)
  return run.finish(state, time.perf_counter() - started)


def is_evaluated(config: ConfigDict, done: int) -> bool:
  """Whether validation classes are scored after so many steps."""
  return done % config.train.eval_every == 0 or done == config.train.steps


def is_logged(config: ConfigDict, done: int) -> bool:
  """Whether what the steps said is read after so many of them."""
  return done % config.train.log_every == 0 or is_evaluated(config, done)


class Recorder:
  """A run while it trains: where it starts, what it logs, scores and saves."""

  def __init__(self, config: ConfigDict, workdir: Path, splits: data.Splits):
    """Opens the folder of a run that is not finished, and claimed by it."""
    self.config, self.workdir, self.splits = config, workdir, splits
    records.write_json(workdir / records.ENVIRONMENT, records.environment())
    self.program = program_of(config, splits)
    self.numbers = numbers_of(config, splits)
    # As the step takes them: the numbers, and what its keys are made of.
    self.traced = {k: jnp.float32(v) for k, v in self.numbers.items()}
    self.key = jax.random.fold_in(jax.random.key(config.seed), 2)
    # Of the validation images, when they were scored last.
    self._embedded: np.ndarray | None = None
    # Of each run alone: several may train side by side.
    self._log = logging.Logger("run", logging.INFO)
    handler = logging.FileHandler(workdir / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    self._log.addHandler(handler)
    self.checkpoints = Checkpoints(
      workdir / "checkpoints",
      lower_is_better=lower_is_better(config.eval.select),
    )

  def close(self) -> None:
    """Waits for checkpoints that are being written, closes the log."""
    self.checkpoints.close()
    for handler in self._log.handlers:
      handler.close()

  def first_state(self) -> dict[str, Any]:
    """The state before the first step."""
    classes = num_classes(self.config, self.splits.train)
    return self.program.init(self.config.seed, classes, self.numbers)

  def start(self, first: int) -> None:
    """Goes on after the step `first`; what was logged after it is dropped."""
    self._first, self._started = first, time.perf_counter()
    self._metrics = records.Metrics(self.workdir, first)
    self._log.info("from step %d: %s", first, json.dumps(self.numbers))

  def log_steps(self, done: int, steps: list[dict[str, Any]]) -> float:
    """Logs the newest of some steps' values, and returns its loss.

    Raises:
      NotFiniteError: if a value of any of these steps is not finite.
    """
    for number, values in enumerate(steps, start=done - len(steps) + 1):
      sick = [k for k, v in values.items() if not np.isfinite(v)]
      if sick:
        saved = self.checkpoints.steps()
        left = (
          f"the last good checkpoint is step {saved[0]}"
          if saved
          else "no checkpoint was saved before it"
        )
        raise NotFiniteError(
          f"{self.workdir.name}: not finite at step {number}:"
          f" {', '.join(sick)}; {left}. A smaller learning rate or margin, or a"
          " larger temperature, may help."
        )
    speed = (done - self._first) / (time.perf_counter() - self._started)
    newest = {f"train/{k}": float(v) for k, v in steps[-1].items()}
    self._metrics.write(done, newest)
    loss = newest["train/loss"]
    self._log.info("step %d loss %.5g %.1f/s", done, loss, speed)
    return loss

  def evaluate(self, done: int, state: dict[str, Any]) -> None:
    """Scores the validation classes; saves the state when it is time."""
    config, splits = self.config, self.splits
    self._embedded = embed_images(self.program, state, splits.validation.images)
    scores = score(self._embedded, splits.validation, config)
    self._metrics.write(done, {f"validation/{k}": v for k, v in scores.items()})
    select, chosen = config.eval.select, scores[config.eval.select]
    self._log.info("step %d validation %s %.4f", done, select, chosen)
    if done % config.train.save_every == 0 or done == config.train.steps:
      self.checkpoints.save(done, state, chosen)

  def finish(
    self, state: dict[str, Any], seconds: float, **more: Any
  ) -> dict[str, Any]:
    """Writes embeddings and, last, the result. Test classes are not scored."""
    config, checkpoints = self.config, self.checkpoints
    last = config.train.steps
    better = min if lower_is_better(config.eval.select) else max
    # Of equal scores, the latest step. What was trained on validation classes
    # is not chosen by them.
    selected = last
    if not self.splits.validation_seen:
      selected = better(
        sorted(checkpoints.steps(), reverse=True), key=checkpoints.score
      )
    self._write_embeddings(records.EMBEDDINGS, state, self._embedded)
    if selected != last:
      chosen = checkpoints.restore_step(selected, state)
      self._write_embeddings(records.SELECTED_EMBEDDINGS, chosen)
    objective = main_objective_of(config, hyper_parameters(config))
    written = records.read_metrics(self.workdir)
    result = {
      "digest": digest(config),
      "commit": records.environment()["commit"],
      "metric": objective.space,
      "normalize": objective.normalize,
      "reduction": objective.reduction,
      "numbers": self.numbers,
      "steps": last,
      "seconds": seconds,
      "selected_step": selected,
      "train": [r for r in written if "train/loss" in r][-1],
      "validation": _validation(written, last),
      "validation_selected": _validation(written, selected),
      **more,
    }
    if config.margin_unit == "initial_mean":
      result["initial_mean_distance"] = initial_mean_distance(
        config, self.splits
      )
    records.write_json(self.workdir / records.RESULT, result)
    self._log.info("finished")
    return result

  def _write_embeddings(
    self,
    name: str,
    state: dict[str, Any],
    validation: np.ndarray | None = None,
  ) -> None:
    """Writes all that is not trained on; what is embedded already, as it is."""
    found: dict[str, np.ndarray] = {}
    for part in ("validation", "test", "gallery"):
      some = getattr(self.splits, part)
      if some is None:
        continue
      points = validation if part == "validation" else None
      if points is None:
        points = embed_images(self.program, state, some.images)
      found |= arrays_of(part, some, points)
    records.write_arrays(self.workdir / name, found)


def _validation(written: list[dict[str, Any]], step: int) -> dict[str, float]:
  """What metrics.jsonl says of the validation classes after a step."""
  return {
    name.removeprefix("validation/"): value
    for record in written
    if record["step"] == step
    for name, value in record.items()
    if name.startswith("validation/")
  }


def score(
  embeddings: np.ndarray, part: data.Dataset, config: ConfigDict
) -> dict[str, float]:
  """Scores of one part of the data: those to select by, and all quick ones.

  Raises:
    InputError: if `eval.select` is not among them.
  """
  space = objective_of(config, hyper_parameters(config)).space
  select, columns = config.eval.select, config.eval.columns
  scores = scores_of(
    embeddings,
    part,
    space,
    # A table asks for slow scores of the test classes alone.
    asked=[select, *(c for c in columns if not evaluation.is_slow(c))],
    normalize=main_objective_of(config, hyper_parameters(config)).normalize,
  )
  check_choice("score of config.eval.select", config.eval.select, scores)
  return scores


def scores_of(
  embeddings: np.ndarray, part: data.Dataset, metric: MetricName, **options: Any
) -> dict[str, float]:
  """All scores of embeddings of a part: by its classes, or explicit pairs.

  The options are those of `evaluation.evaluate`, for classes.
  """
  pairs = part.pairs
  if pairs is None:
    return evaluation.evaluate(embeddings, part.labels, metric, **options)
  return evaluation.evaluate_pairs(
    embeddings, pairs.first, pairs.second, pairs.is_same, metric
  )


def arrays_of(
  name: str, part: data.Dataset, embeddings: np.ndarray
) -> dict[str, np.ndarray]:
  """What scores take of a part `name`: embeddings, classes, explicit pairs."""
  found = {
    "embeddings": embeddings,
    "labels": part.labels,
    "class_names": np.array(part.class_names),
  }
  if part.pairs is not None:
    found["first"] = part.pairs.first
    found["second"] = part.pairs.second
    found["same"] = part.pairs.is_same
    if part.pairs.folds is not None:
      found["folds"] = part.pairs.folds
  return {f"{name}_{kind}": array for kind, array in found.items()}
