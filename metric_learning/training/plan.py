"""A config, interpreted once, for `train` and everything that it calls."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from metric_learning import data, devices, evaluation
from metric_learning.data.feeds import Feed, resident, streamed
from metric_learning.data.samplers import Draws, make_batches
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.models.weights import digest_of
from metric_learning.relations import RELATIONS
from metric_learning.training import run_files
from metric_learning.training.build import Objectives, objectives_of
from metric_learning.training.checks import validate
from metric_learning.training.chunks import check_chunks
from metric_learning.training.config import batch_devices, traced_numbers
from metric_learning.training.step import Program, model_of, program_of
from metric_learning.training.units import distances_in, mean_distance


class Plan(NamedTuple):
  """A config and its data, resolved into what a run needs.

  config: for the record, and for single fields.
  objectives: the parts of the minimized value.
  eval_metric: the metric that scores use.
  normalized: how the points that are scored are normalized.
  numbers: the traced numbers by flat name, in absolute units.
  mean_distance: d̄ of the main objective, if numbers are given in units of d̄.
  program: the compiled functions.
  draws: the function from a step to the items of its batch.
  num_classes: the number of classes for the loss; with views, that of items.
  """

  config: ConfigDict
  splits: data.Splits
  objectives: Objectives
  eval_metric: MetricName
  normalized: str
  numbers: dict[str, float]
  mean_distance: float | None
  program: Program
  draws: Draws
  num_classes: int


def make_plan(
  config: ConfigDict,
  splits: data.Splits | None = None,
  *,
  population: bool = False,
) -> Plan:
  """Checks a config against its data, and resolves it.

  `splits` is the data, if it is already loaded. `population` says that the run
  trains as a member of a population, on all devices.

  Raises:
    InputError: for a config, data or a number of devices that cannot be used.
  """
  validate(config)
  mesh = _mesh_of(config, population)
  splits = data.load(config.data) if splits is None else splits
  check_parts(config, splits)
  objectives = objectives_of(config)
  train = splits.train
  numbers, unit = absolute_numbers(config, splits, objectives)
  return Plan(
    config=config,
    splits=splits,
    objectives=objectives,
    eval_metric=objectives.with_numbers({}).eval_metric,
    normalized=objectives.main.normalized,
    numbers=numbers,
    mean_distance=unit,
    program=program_of(config, train.input_spec, mesh),
    draws=draws_of(config, train),
    num_classes=num_classes(config, train),
  )


def _mesh_of(config: ConfigDict, population: bool) -> Mesh | None:
  """The devices that share a batch; None if a single device has all of it."""
  batch = batch_devices(config)
  if batch == 1 and jax.process_count() == 1:
    return None
  return devices.mesh_of(batch, population=population)


def identity_of(config: ConfigDict, splits: data.Splits) -> dict[str, str]:
  """The digests of the data and of the weights file that a run depends on.

  Raises:
    InputError: if the weights file cannot be read.
  """
  path = config.model.weights
  of_weights = {run_files.WEIGHTS: digest_of(path)} if path else {}
  return splits.identity | of_weights


def draws_of(config: ConfigDict, train: data.Dataset) -> Draws:
  """The function from a step to the items of its batch.

  Raises:
    InputError: if the training part cannot fill a batch, or if chunks or
      devices do not divide a batch evenly.
  """
  small_classes = config.data.small_classes
  draws = make_batches(train, config.batch, config.seed, small_classes)
  chunks, sharing = config.train.chunks, batch_devices(config)
  if chunks > 1 or sharing > 1:
    size = len(draws(0).indices) * config.batch.views
    check_chunks(chunks, size)
    if size // chunks % sharing:
      of_chunk = f"each of {chunks} chunks of " if chunks > 1 else ""
      raise InputError(
        f"config.mesh.batch={sharing} devices cannot share {of_chunk}a batch of"
        f" {size} items evenly: take a divisor, or change the batch."
      )
  return draws


def num_classes(config: ConfigDict, train: data.Dataset) -> int:
  """The number of classes for the loss; with views, each item is a class."""
  return len(train.labels if config.batch.views > 1 else train.class_names)


def absolute_numbers(
  config: ConfigDict, splits: data.Splits, objectives: Objectives
) -> tuple[dict[str, float], float | None]:
  """The traced numbers of a run in absolute units, and d̄ if it is needed.

  These are the traced fields, and the numbers of miners and further losses that
  are distances. If the config gives them in units of d̄, each is multiplied by
  the d̄ of its own metric.
  """
  numbers = traced_numbers(config)
  in_units = config.margin_unit == "initial_mean"
  if in_units:
    model = model_of(config, splits.train.input_spec)
    classes = num_classes(config, splits.train)
  for prefix, objective in objectives.each().items():
    distances = distances_in(objective)
    unit = 1.0
    if in_units and distances:
      unit = mean_distance(model, splits.train, objective, classes)
    for name, (value, power) in distances.items():
      numbers[prefix + name] = value * unit**power
  own = None
  if in_units:
    own = mean_distance(model, splits.train, objectives.main, classes)
  return {name: float(value) for name, value in numbers.items()}, own


def feed_of(plan: Plan, first: int, put: Any = None) -> Feed:
  """The batches of all steps from `first` on, on the devices of the plan.

  `put` moves arrays to the device. A set that is streamed does not use it.
  """
  mesh = plan.program.mesh
  if put is None and mesh is not None:
    put = functools.partial(devices.put, mesh=mesh)
  config, train = plan.config, plan.splits.train
  steps, views = range(first, config.train.steps), config.batch.views
  levels = RELATIONS[config.relation.name].labels == "levels"
  if config.data.stream:
    return streamed(
      train,
      plan.draws,
      steps,
      views,
      levels=levels,
      cut=config.data.random_crop,
      seed=config.seed,
      mesh=mesh,
    )
  return resident(
    train, plan.draws, steps, views, put or jnp.asarray, levels=levels
  )


# --- Checks of the parts -----------------------------------------


def check_parts(config: ConfigDict, splits: data.Splits) -> None:
  """Checks that the parts of the data fit the config.

  The parts must allow the scores that select checkpoints and fill tables. The
  weights file must fit the network, class weights the classes of the training
  part, and the relation the labels; only images can be augmented.

  Raises:
    InputError: naming the first condition that fails, and why.
  """
  if config.model.weights:
    # Abstract evaluation draws no numbers, and checks the shapes in the file.
    model = model_of(config, splits.train.input_spec)
    jax.eval_shape(model.init, jax.random.key(config.seed))
  _check_class_weights(config, splits.train)
  _check_relation(config, splits.train)
  spec = splits.train.input_spec
  if any(config.augment.values()) and spec.kind != "image":
    raise InputError(
      f"config.augment changes images, but {splits.train.name} holds {spec}: "
      "set all of its fields to 0 or False."
    )
  for field, name, part, gallery in _wanted(config, splits):
    reason = evaluation.why_absent(
      name,
      len(part.labels),
      explicit_pairs=part.pairs is not None,
      gallery=gallery,
      folds=part.pairs is not None and part.pairs.folds is not None,
      several_labels=part.has_several_labels,
      superclasses=part.superclasses is not None,
    )
    if reason:
      raise InputError(
        f"{part.name} has no {name}, which config.eval.{field} asks for:"
        f" {reason}."
      )
  # Classes that are also trained on do not select checkpoints.
  if not splits.validation_seen:
    _check_choice(config.eval.select, splits.validation)


def _wanted(
  config: ConfigDict, splits: data.Splits
) -> Iterator[tuple[str, str, data.Dataset, bool]]:
  """Each field that names a score, with the score, its part and its gallery."""
  yield "select", config.eval.select, splits.validation, False
  for column in config.eval.columns:
    yield "columns", column, splits.test, splits.gallery is not None


def _check_class_weights(config: ConfigDict, train: data.Dataset) -> None:
  classes = num_classes(config, train)
  for objective in objectives_of(config).each().values():
    weights = objective.reduction_options.get("class_weights")
    if weights is not None and len(weights) != classes:
      raise InputError(
        f"{train.name}: class_weights of {objective.loss} has {len(weights)}"
        f" weights, and the training part has {classes} classes: give one"
        " weight for each class, in the order of the labels."
      )


def _check_relation(config: ConfigDict, train: data.Dataset) -> None:
  """Checks that a batch has labels of the kind that the relation compares.

  With views, each item is a class, whatever the labels.
  """
  name = config.relation.name
  labels = RELATIONS[name].labels
  several = train.has_several_labels and config.batch.views == 1
  if several != (labels == "several"):
    ways = [way for way, one in RELATIONS.items() if one.labels == "several"]
    takes = "several labels" if several else "one label"
    fits = " or ".join(ways) if several else "same_label"
    raise InputError(
      f"{train.name}: an item has {takes}, which config.relation.name={name!r}"
      f" does not compare: set it to {fits}."
    )
  if labels == "levels":
    _check_levels(config.relation, train)


def _check_levels(relation: ConfigDict, train: data.Dataset) -> None:
  if train.superclasses is None:
    raise InputError(
      f"{train.name} has no super-classes, which config.relation.name="
      f"{relation.name!r} compares: set it to same_label."
    )
  weights = relation.get("weights")
  if weights is not None and len(weights) != 2:
    raise InputError(
      f"config.relation.weights={tuple(weights)} has {len(weights)} weights: "
      "give two, one for the super-class and one for the class of "
      f"{train.name}."
    )


def _check_choice(select: str, part: data.Dataset) -> None:
  reason = evaluation.why_no_choice(
    select,
    part.labels,
    groups=part.groups,
    same=None if part.pairs is None else part.pairs.is_same,
    superclasses=part.superclasses,
  )
  if reason:
    classes = np.count_nonzero(part.class_sizes)
    raise InputError(
      f"{part.name}: {select}, which config.eval.select names, cannot choose a "
      f"checkpoint on the validation part ({len(part.labels)} images of "
      f"{classes} classes): {reason.rstrip('.')}. Enlarge the part, or choose "
      "another config.data.split or another score."
    )
