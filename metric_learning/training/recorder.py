"""A run on disk while it trains: what it logs, scores and saves."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from metric_learning import data, evaluation
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.training import records
from metric_learning.training.checkpoints import Checkpoints, DamagedError
from metric_learning.training.config import (
  digest,
  hyper_parameters,
  main_objective_of,
  objective_of,
  objectives_of,
)
from metric_learning.training.embedding import embedded
from metric_learning.training.programs import (
  embed_images,
  initial_mean_distance,
  num_classes,
  numbers_of,
  program_of,
)


class NotFiniteError(ArithmeticError):
  """A loss stopped being finite; the message says where and what is left."""


class Recorder:
  """A run while it trains: where it starts, what it logs, scores and saves."""

  def __init__(
    self,
    config: ConfigDict,
    workdir: Path,
    splits: data.Splits,
    *,
    embeddings: bool = True,
  ):
    """Opens the folder of a run that is not finished, and claimed by it."""
    self.config, self.workdir, self.splits = config, workdir, splits
    self._keeps_embeddings = embeddings
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

  def start(self, first: int, members: int = 1) -> None:
    """Goes on after the step `first`; what was logged after it is dropped.

    Of the time that `members` take together, each has its share.
    """
    self._first, self._started = first, time.perf_counter()
    self._members = members
    self._before = self.checkpoints.record(first)["seconds"] if first else 0.0
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
        raise self._not_finite(number, ", ".join(sick))
    speed = (done - self._first) / (time.perf_counter() - self._started)
    newest = {f"train/{k}": float(v) for k, v in steps[-1].items()}
    self._metrics.write(done, newest)
    loss = newest["train/loss"]
    self._log.info("step %d loss %.5g %.1f/s", done, loss, speed)
    return loss

  def _not_finite(self, step: int, what: str) -> NotFiniteError:
    saved = self.checkpoints.steps()
    left = (
      f"the last good checkpoint is step {saved[0]}"
      if saved
      else "no checkpoint was saved before it"
    )
    return NotFiniteError(
      f"{self.workdir.name}: not finite at step {step}: {what}; {left}. A"
      " smaller learning rate or margin, or a larger temperature, may help."
    )

  def seconds(self) -> float:
    """How long this run has trained, before it was killed too."""
    since = time.perf_counter() - self._started
    return self._before + since / self._members

  def evaluate(self, done: int, state: dict[str, Any]) -> None:
    """Scores the validation classes; saves the state when it is time.

    Raises:
      NotFiniteError: if the network no longer gives finite embeddings.
    """
    config, splits = self.config, self.splits
    self._embedded = embed_images(self.program, state, splits.validation.images)
    if not np.isfinite(self._embedded).all():
      raise self._not_finite(done, "embeddings of validation images")
    scores = score(self._embedded, splits.validation, config)
    self._metrics.write(done, {f"validation/{k}": v for k, v in scores.items()})
    select, chosen = config.eval.select, scores[config.eval.select]
    self._log.info("step %d validation %s %.4f", done, select, chosen)
    if done % config.train.save_every == 0 or done == config.train.steps:
      self.checkpoints.save(done, state, chosen, self.seconds())

  def finish(self, state: dict[str, Any]) -> dict[str, Any]:
    """Writes embeddings, if it shall, and the result; scores no test class.

    Raises:
      InputError: if the checkpoint that is to be chosen is damaged.
    """
    seconds = self.seconds()
    config = self.config
    last = config.train.steps
    written = records.read_metrics(self.workdir)
    selected = self._selected(written)
    if self._keeps_embeddings:
      self._write_embeddings(state, selected)
    else:
      # From these it is embedded, if it is chosen: see `embed_run`.
      self.checkpoints.keep_only({last, selected})
    objective = main_objective_of(config, hyper_parameters(config))
    of_last = _validation(written, last)
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
      "validation": of_last,
      "validation_selected": dict.fromkeys(of_last, math.nan)
      if selected is None
      else _validation(written, selected),
    }
    if self._members > 1:
      result["members"] = self._members
    if config.margin_unit == "initial_mean":
      result["initial_mean_distance"] = initial_mean_distance(
        config, self.splits
      )
    path = self.workdir / records.RESULT
    records.write_json(path, result)
    self._log.info("finished")
    return records.read_json(path)

  def _selected(self, written: list[dict[str, Any]]) -> int | None:
    """The step of the best checkpoint on the validation classes.

    Of equal scores, the latest step. What was trained on validation classes is
    not chosen by them: the last step is selected. NaN chooses nothing: None.
    """
    config = self.config
    if self.splits.validation_seen:
      return config.train.steps
    name = f"validation/{config.eval.select}"
    saved = set(self.checkpoints.steps())
    scores = {
      record["step"]: record[name]
      for record in reversed(written)
      if record["step"] in saved and name in record
    }
    if not scores or not np.isfinite(list(scores.values())).all():
      self._log.warning("nothing is selected: %s is not a number", name)
      return None
    better = min if lower_is_better(config.eval.select) else max
    return better(scores, key=lambda step: scores[step])

  def _write_embeddings(self, state: Any, selected: int | None) -> None:
    """Writes all that is not trained on, at the last and a selected step."""
    found = embedded(self.program, state, self.splits, self._embedded)
    records.write_arrays(self.workdir / records.EMBEDDINGS, found)
    if selected not in (None, self.config.train.steps):
      chosen = self._restore_selected(selected, state)
      found = embedded(self.program, chosen, self.splits)
      records.write_arrays(self.workdir / records.SELECTED_EMBEDDINGS, found)

  def _restore_selected(self, step: int, like: Any) -> Any:
    """The state of a checkpoint; a damaged one is to be trained again."""
    try:
      return self.checkpoints.restore_step(step, like)
    except DamagedError as error:
      self.checkpoints.delete_after(step - 1)
      raise InputError(
        f"{self.workdir}: {error} It is deleted, with those after it: give the"
        " same command again, and the run goes on before it."
      ) from None


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
  """Scores of one part of the data: those to select by, and all quick ones."""
  space = objective_of(config, hyper_parameters(config)).space
  select, columns = config.eval.select, config.eval.columns
  return scores_of(
    embeddings,
    part,
    space,
    # A table asks for slow scores of the test classes alone.
    asked=[select, *(c for c in columns if not evaluation.is_slow(c))],
    groups=part.groups,
    normalized=main_objective_of(config, hyper_parameters(config)).normalize,
  )


def check_parts(config: ConfigDict, splits: data.Splits) -> None:
  """Checks that the parts give what chooses checkpoints and what tables show.

  And that classes with weights are those of the training part.

  Raises:
    InputError: with the score that a part does not give, or that cannot choose
      there, and why; or for class weights of another number of classes.
  """
  _check_class_weights(config, splits.train)
  wanted = [("select", config.eval.select, splits.validation, False)]
  has_gallery = splits.gallery is not None
  for column in config.eval.columns:
    wanted.append(("columns", column, splits.test, has_gallery))
  for field, name, part, gallery in wanted:
    reason = evaluation.why_absent(
      name,
      len(part.labels),
      explicit_pairs=part.pairs is not None,
      gallery=gallery,
      folds=part.pairs is not None and part.pairs.folds is not None,
    )
    if reason:
      raise InputError(
        f"{part.name} has no {name}, which config.eval.{field} asks for:"
        f" {reason}."
      )
  # What is trained on as well chooses nothing.
  if not splits.validation_seen:
    _check_choice(config.eval.select, splits.validation)


def _check_class_weights(config: ConfigDict, train: data.Dataset) -> None:
  classes = num_classes(config, train)
  for objective in objectives_of(config).values():
    weights = objective.reduction_options.get("class_weights")
    if weights is not None and len(weights) != classes:
      raise InputError(
        f"{train.name}: class_weights of {objective.loss} has {len(weights)}"
        f" weights, and the training part has {classes} classes: give one"
        " weight for each class, in the order of the labels."
      )


def _check_choice(select: str, part: data.Dataset) -> None:
  reason = evaluation.why_no_choice(
    select,
    part.labels,
    groups=part.groups,
    same=None if part.pairs is None else part.pairs.is_same,
  )
  if reason:
    raise InputError(
      f"{part.name}: {select}, which config.eval.select names, cannot choose a"
      f" checkpoint on the validation part ({len(part.labels)} images of"
      f" {len(np.unique(part.labels))} classes): {reason.rstrip('.')}. Give the"
      " part more, choose another config.data.split, or another score."
    )


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
