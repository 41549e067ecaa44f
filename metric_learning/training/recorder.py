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

from metric_learning import data, evaluation
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.training import records
from metric_learning.training.checkpoints import Checkpoints, DamagedError
from metric_learning.training.config import digest
from metric_learning.training.embed import embed_all
from metric_learning.training.plan import Plan

LOWER_IS_BETTER = ("eer", "frr_at_far")


class NotFiniteError(ArithmeticError):
  """A loss stopped being finite; the message says where and what is left."""


def lower_is_better(score: str) -> bool:
  """Whether a smaller value of this score is the better one.

  >>> lower_is_better("own/eer"), lower_is_better("own/map_at_r")
  (True, False)
  """
  return score.rpartition("/")[2].startswith(LOWER_IS_BETTER)


class Recorder:
  """A run while it trains: where it starts, what it logs, scores and saves."""

  def __init__(self, plan: Plan, workdir: Path, *, embeddings: bool = True):
    """Opens the folder of a run that is not finished, and claimed by it."""
    self.plan, self.workdir = plan, workdir
    config = plan.config
    self._keeps_embeddings = embeddings
    records.write_json(workdir / records.ENVIRONMENT, records.environment())
    # As the step takes them: the numbers, and what its keys are made of.
    self.traced = {k: jnp.float32(v) for k, v in plan.numbers.items()}
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
    plan = self.plan
    return plan.program.init(plan.config.seed, plan.num_classes, plan.numbers)

  def start(self, first: int, members: int = 1) -> None:
    """Goes on after the step `first`; what was logged after it is dropped.

    Of the time that `members` take together, each has its share.
    """
    self._first, self._started = first, time.perf_counter()
    self._members = members
    self._before = self.checkpoints.record(first)["seconds"] if first else 0.0
    self._metrics = records.Metrics(self.workdir, first)
    self._log.info("from step %d: %s", first, json.dumps(self.plan.numbers))

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
    config, part = self.plan.config, self.plan.splits.validation
    self._embedded = embed_all(self.plan.program, state, part.inputs)
    if not np.isfinite(self._embedded).all():
      raise self._not_finite(done, "embeddings of validation images")
    scores = score(self._embedded, part, self.plan)
    self._metrics.write(done, {f"validation/{k}": v for k, v in scores.items()})
    select, chosen = config.eval.select, scores[config.eval.select]
    self._log.info("step %d validation %s %.4f", done, select, chosen)
    if done % config.train.save_every == 0 or done == config.train.steps:
      self.checkpoints.save(done, state, chosen, self.seconds())

  def finish(self, state: dict[str, Any]) -> dict[str, Any]:
    """Writes embeddings and, last, the result. Test classes are not scored.

    Raises:
      InputError: if the checkpoint that is to be chosen is damaged.
    """
    seconds = self.seconds()
    config = self.plan.config
    last = config.train.steps
    written = records.read_metrics(self.workdir)
    selected = self._selected(written)
    if self._keeps_embeddings:
      self._write_embeddings(records.EMBEDDINGS, state, self._embedded)
      if selected not in (None, last):
        chosen = self._restore_selected(selected, state)
        self._write_embeddings(records.SELECTED_EMBEDDINGS, chosen)
    objective = self.plan.objectives.main
    of_last = _validation(written, last)
    result = {
      "digest": digest(config),
      "commit": records.environment()["commit"],
      "metric": objective.space,
      "normalize": objective.normalize,
      "reduction": objective.reduction,
      "numbers": self.plan.numbers,
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
    if self.plan.mean_distance is not None:
      result["initial_mean_distance"] = self.plan.mean_distance
    path = self.workdir / records.RESULT
    records.write_json(path, result)
    self._log.info("finished")
    return records.read_json(path)

  def _selected(self, written: list[dict[str, Any]]) -> int | None:
    """The step of the best checkpoint on the validation classes.

    Of equal scores, the latest step. What was trained on validation classes is
    not chosen by them: the last step is selected. NaN chooses nothing: None.
    """
    config = self.plan.config
    if self.plan.splits.validation_seen:
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

  def _write_embeddings(
    self,
    name: str,
    state: dict[str, Any],
    validation: np.ndarray | None = None,
  ) -> None:
    """Writes all that is not trained on; what is embedded already, as it is."""
    found: dict[str, np.ndarray] = {}
    for part in ("validation", "test", "gallery"):
      some = getattr(self.plan.splits, part)
      if some is None:
        continue
      points = validation if part == "validation" else None
      if points is None:
        points = embed_all(self.plan.program, state, some.inputs)
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
  embeddings: np.ndarray, part: data.Dataset, plan: Plan
) -> dict[str, float]:
  """Scores of one part of the data: those to select by, and all quick ones."""
  select, columns = plan.config.eval.select, plan.config.eval.columns
  return scores_of(
    embeddings,
    part,
    plan.eval_metric,
    # A table asks for slow scores of the test classes alone.
    asked=[select, *(c for c in columns if not evaluation.is_slow(c))],
    groups=part.groups,
    normalized=plan.normalize,
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


def arrays_of(
  name: str, part: data.Dataset, embeddings: np.ndarray
) -> dict[str, np.ndarray]:
  """What scores take of a part `name`: embeddings, classes, explicit pairs."""
  found = {
    "embeddings": embeddings,
    "labels": part.labels,
    "class_names": np.array(part.class_names),
  }
  if part.groups is not None:
    found["groups"] = part.groups
  if part.pairs is not None:
    found["first"] = part.pairs.first
    found["second"] = part.pairs.second
    found["same"] = part.pairs.is_same
    if part.pairs.folds is not None:
      found["folds"] = part.pairs.folds
  return {f"{name}_{kind}": array for kind, array in found.items()}
