"""The files of a run during training: logs, scores and checkpoints."""

import contextlib
import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metric_learning import data, devices, evaluation
from metric_learning.distances import MetricName
from metric_learning.errors import InputError
from metric_learning.evaluation import lower_is_better
from metric_learning.models.weights import digest_of
from metric_learning.training import disk, run_files
from metric_learning.training.checkpoints import (
  CHECKPOINTS,
  Checkpoints,
  DamagedError,
)
from metric_learning.training.config import digest
from metric_learning.training.embedding import embed_all, embedded
from metric_learning.training.monitor import (
  WATCHED_SCORES,
  warnings_of,
  watched,
)
from metric_learning.training.plan import Plan
from metric_learning.training.step import LARGEST, SKIPPED, names_of_leaves
from metric_learning.training.stopping import Stopped
from metric_learning.training.writers import Seen, Writers

# In the folder of a run.
LOG = "train.log"
# The logger of the process, beside that of the run.
_told = logging.getLogger(__name__)
# After this many skipped steps in a row, the run ends.
_HOPELESS = 100


class NotFiniteError(ArithmeticError):
  """A loss is no longer finite; the message says where, and what is saved."""


class _LogFile(logging.FileHandler):
  """train.log: a failure to write is reported once; the run goes on."""

  def __init__(self, path: Path):
    super().__init__(path, delay=True)
    self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    self._failed = False

  def emit(self, record: logging.LogRecord) -> None:
    """Writes a line, unless an earlier write failed."""
    if self._failed:
      return
    try:
      super().emit(record)
    except OSError:
      self.handleError(record)

  def handleError(self, record: logging.LogRecord) -> None:
    """Reports the failure once."""
    if not self._failed:
      self._failed = True
      _told.warning(
        "%s cannot be written (%s): the run goes on without it.",
        self.baseFilename,
        sys.exc_info()[1],
      )

  def close(self) -> None:
    """Closes the file; lines that could not be written are lost."""
    with contextlib.suppress(OSError):
      super().close()


class Recorder:
  """A run during training: its start, logs, scores and checkpoints."""

  def __init__(
    self,
    plan: Plan,
    workdir: Path,
    *,
    embeddings: bool = True,
    save_after: float = 0.0,
  ):
    """Opens the claimed folder of an unfinished run."""
    self.plan, self.workdir = plan, workdir
    config = plan.config
    for folder in (workdir, workdir / CHECKPOINTS):
      disk.drop_leftovers(folder)
    self._keeps_embeddings = embeddings
    # Seconds of training that a kill may cost, and the time of the last
    # checkpoint.
    self._save_after, self._saved = save_after, 0.0
    run_files.write_json(
      workdir / run_files.ENVIRONMENT, run_files.environment()
    )
    run_files.write_json(workdir / run_files.INPUTS, _inputs_of(plan))
    # The arguments of the step: its numbers, and the seed of its keys.
    self.traced = {k: jnp.float32(v) for k, v in plan.numbers.items()}
    self.key = jax.random.fold_in(jax.random.key(config.seed), 2)
    # The validation embeddings that were scored last.
    self._embedded: np.ndarray | None = None
    self._writers: Writers | None = None
    # One logger for each run: several may train side by side.
    self._log = logging.Logger("run", logging.INFO)
    self._log.addHandler(_LogFile(workdir / LOG))
    self.checkpoints = Checkpoints(
      workdir / CHECKPOINTS,
      run=run_files.run_of(workdir),
      lower_is_better=lower_is_better(config.eval.select),
    )
    # The warnings already given, and the number of steps skipped in a row.
    self._warned: set[str] = set()
    self._in_a_row = 0

  def close(self) -> None:
    """Closes the log and the writers."""
    if self._writers is not None:
      self._writers.close()
    for handler in self._log.handlers:
      handler.close()

  def first_state(self) -> dict[str, Any]:
    """The state before the first step."""
    plan = self.plan
    state = plan.program.init(plan.config.seed, plan.num_classes, plan.numbers)
    self._leaves = names_of_leaves(state["params"])
    return state

  def start(self, first: int, members: int = 1) -> None:
    """Resumes after the step `first`; later records are dropped.

    The time of a population is divided equally among its `members`.
    """
    self._first, self._started = first, time.perf_counter()
    self._members = members
    saved = self.checkpoints.record(first) if first else {}
    self._before = self._saved = saved.get("seconds", 0.0)
    self._skipped = saved.get("skipped", 0)
    self._metrics = run_files.Metrics(self.workdir, first, saved.get("metrics"))
    self._writers = Writers(self.workdir, first)
    self._watched = [watched(r) for r in run_files.read_metrics(self.workdir)]
    self._log.info("from step %d: %s", first, json.dumps(self.plan.numbers))

  def log_steps(
    self, done: int, steps: list[dict[str, Any]]
  ) -> dict[str, float]:
    """Logs the values of the newest of these steps, and returns them.

    Raises:
      NotFiniteError: if a value of any of these steps is not finite.
    """
    skipped = self._skipped_in(done, steps)
    self._skipped = 0
    speed = (done - self._first) / (time.perf_counter() - self._started)
    newest = {
      f"train/{k}": float(v)
      for k, v in steps[-1].items()
      if k not in (LARGEST, SKIPPED)
    }
    if skipped:
      newest[f"train/{SKIPPED}"] = skipped
    self._write(done, newest)
    loss = newest["train/loss"]
    self._log.info("step %d loss %.5g %.1f/s", done, loss, speed)
    return newest

  def _skipped_in(self, done: int, steps: list[dict[str, Any]]) -> int:
    """How many steps were skipped since the last logged step."""
    first = done - len(steps) + 1
    return self._skipped + sum(
      self._check_finite(number, values)
      for number, values in enumerate(steps, first)
    )

  def _write(self, step: int, values: dict[str, float]) -> None:
    self._metrics.write(step, values)
    if self._writers is not None:
      self._writers.write(step, values)
    self._watched.append(watched({"step": step, **values}))

  def _check_finite(self, step: int, values: dict[str, Any]) -> bool:
    """Whether a step was skipped because a value is not finite.

    Raises:
      NotFiniteError: if such a step stops the run, or too many came in a row.
    """
    sick = [k for k, v in values.items() if not np.isfinite(v)]
    if not sick:
      self._in_a_row = 0
      return False
    leaf = self._leaves[int(values[LARGEST])]
    what = f"{', '.join(sick)}; the largest gradient is that of {leaf}"
    self._in_a_row += 1
    if not values.get(SKIPPED) or self._in_a_row >= _HOPELESS:
      raise self._not_finite(step, what)
    self._warn(f"step {step} is skipped, since it is not finite: {what}")
    return True

  def _warn(self, message: str) -> None:
    """Writes a warning to the logs of the run and of the process."""
    self._log.warning(message)
    _told.warning("%s: %s", self.workdir.name, message)

  def _not_finite(self, step: int, what: str) -> NotFiniteError:
    saved = self.checkpoints.reached()
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
    """Seconds of training, including the time before an interruption."""
    since = time.perf_counter() - self._started
    return self._before + since / self._members

  def evaluate(self, done: int, state: dict[str, Any]) -> None:
    """Scores the validation classes; saves the state when it is time.

    Raises:
      NotFiniteError: if the embeddings are not finite.
    """
    config, part = self.plan.config, self.plan.splits.validation
    self._embedded = embed_all(self.plan.program, state, part.inputs)
    if not np.isfinite(self._embedded).all():
      raise self._not_finite(done, "embeddings of validation images")
    scores = score(self._embedded, part, self.plan, self._save_after > 0)
    if self._writers is not None:
      metric = self.plan.eval_metric
      self._writers.see(done, Seen(self._embedded, part, metric))
    self._write(
      done,
      {f"validation/{k}": v for k, v in scores.items()}
      | self._scored_beside(state),
    )
    select, chosen = config.eval.select, scores[config.eval.select]
    self._log.info("step %d validation %s %.4f", done, select, chosen)
    for warning in warnings_of(self._watched):
      if (kind := warning.partition(" step ")[0]) not in self._warned:
        self._warned.add(kind)
        self._warn(f"step {done}: {warning}")
    if self._is_kept(done) and self._is_worth_it(done):
      self._saved = self.seconds()
      self._metrics.sync()
      self.checkpoints.save(
        done, state, chosen, self._saved, self._metrics.digest
      )

  def stop(
    self, done: int, state: dict[str, Any], steps: list[dict[str, Any]]
  ) -> Stopped:
    """Saves the state when a signal stops the run; returns a message.

    `steps` are the values of the steps that are not logged yet.

    Raises:
      NotFiniteError: if one of these values is not finite.
    """
    skipped = self._skipped_in(done, steps)
    self._metrics.sync()
    self.checkpoints.save_stopped(
      done, state, self.seconds(), self._metrics.digest, skipped
    )
    self._log.info("stopped by a signal after step %d, which is saved", done)
    return Stopped(
      f"{self.workdir} is stopped after step {done} and saved: the same "
      "command resumes it."
    )

  def _is_kept(self, step: int) -> bool:
    """Whether the state of a step is saved as a checkpoint to choose from."""
    train = self.plan.config.train
    return step % train.save_every == 0 or step == train.steps

  def _is_worth_it(self, step: int) -> bool:
    """Whether a checkpoint is worth its time; always without `save_after`."""
    if not self._save_after:
      return True
    lost = self.seconds() - self._saved
    return step < self.plan.config.train.steps and lost > self._save_after

  def _scored_beside(self, state: dict[str, Any]) -> dict[str, float]:
    """Scores with the other weights, if there is a running mean."""
    plan, part = self.plan, self.plan.splits.validation
    if plan.program.embed_beside is None:
      return {}
    name = "weights" if plan.config.eval.averaged else "mean_of_weights"
    program = plan.program._replace(embed=plan.program.embed_beside)
    points = embed_all(program, state, part.inputs)
    scores = score(points, part, plan, self._save_after > 0)
    return {f"validation_by_{name}/{k}": v for k, v in scores.items()}

  def finish(self, state: dict[str, Any]) -> dict[str, Any]:
    """Writes embeddings (if asked) and the result; scores no test class.

    Raises:
      InputError: if the selected checkpoint is damaged.
    """
    seconds = self.seconds()
    config = self.plan.config
    last = config.train.steps
    written = run_files.read_metrics(self.workdir)
    selected = self._selected(written)
    if self._keeps_embeddings:
      self._write_embeddings(state, selected)
    elif not self._save_after:
      # `embed_run` needs these if the run is chosen.
      self.checkpoints.keep_only({last, selected})
    objective = self.plan.objectives.main
    of_last = _validation(written, last)
    result = {
      "digest": digest(config),
      "commit": run_files.environment()["commit"],
      "metric": objective.eval_metric,
      "normalize": objective.normalized,
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
    result["run"] = run_files.run_of(self.workdir)
    result["warnings"] = warnings_of(written)
    skipped = sum(r.get(f"train/{SKIPPED}", 0) for r in written)
    if skipped:
      result["skipped"] = int(skipped)
    if config.model.weights:
      result["weights"] = digest_of(config.model.weights)
    if self._members > 1:
      result["members"] = self._members
    if self.plan.program.mesh is not None:
      result["devices"] = devices.sharers(self.plan.program.mesh)
    if self.plan.mean_distance is not None:
      result["initial_mean_distance"] = self.plan.mean_distance
    path = self.workdir / run_files.RESULT
    run_files.write_json(path, result)
    self.checkpoints.forget_stopped()
    self._log.info("finished")
    return run_files.read_json(path)

  def _selected(self, written: list[dict[str, Any]]) -> int | None:
    """The step of the best checkpoint, by validation score.

    Of equal scores, the latest step. A run that is trained on the validation
    classes takes the last step. None if no score is a number.
    """
    config = self.plan.config
    if self.plan.splits.validation_seen:
      return config.train.steps
    name = f"validation/{config.eval.select}"
    known = {r["step"]: r[name] for r in reversed(written) if name in r}
    if self._save_after:
      # The steps that would have checkpoints: the newest two, and the best.
      steps = [step for step in known if self._is_kept(step)]
      saved = {step for step in steps if np.isfinite(known[step])}
      saved |= set(steps[:2])
    else:
      saved = set(self.checkpoints.steps())
    scores = {step: score for step, score in known.items() if step in saved}
    if not scores or not np.isfinite(list(scores.values())).all():
      self._log.warning("nothing is selected: %s is not a number", name)
      return None
    better = min if lower_is_better(config.eval.select) else max
    return better(scores, key=lambda step: scores[step])

  def _restore_selected(self, step: int, like: Any) -> Any:
    """The state of the selected checkpoint; a damaged one is deleted."""
    try:
      return self.checkpoints.restore_step(step, like)
    except DamagedError as error:
      self.checkpoints.delete_after(step - 1)
      raise InputError(
        f"{self.workdir}: {error} It and later checkpoints are deleted: run "
        "the same command again, and the run resumes before it."
      ) from None

  def _write_embeddings(self, state: Any, selected: int | None) -> None:
    """Writes validation and test embeddings of the last and selected steps."""
    plan = self.plan
    arrays = embedded(plan.program, state, plan.splits, self._embedded)
    run_files.write_own(self.workdir / run_files.EMBEDDINGS, arrays)
    if selected not in (None, plan.config.train.steps):
      chosen = self._restore_selected(selected, state)
      arrays = embedded(plan.program, chosen, plan.splits)
      run_files.write_own(self.workdir / run_files.SELECTED_EMBEDDINGS, arrays)


def _inputs_of(plan: Plan) -> dict[str, Any]:
  """The shape and kind of the network's inputs, to use it without the data."""
  spec, scale = plan.splits.train.input_spec, plan.splits.scale
  return {
    "shape": spec.shape,
    "kind": spec.kind,
    "num_classes": plan.num_classes,
    "scale": None if scale is None else [side.tolist() for side in scale],
  }


def _validation(written: list[dict[str, Any]], step: int) -> dict[str, float]:
  """The validation scores in metrics.jsonl after a step."""
  return {
    name.removeprefix("validation/"): value
    for record in written
    if record["step"] == step
    for name, value in record.items()
    if name.startswith("validation/")
  }


def score(
  embeddings: np.ndarray, part: data.Dataset, plan: Plan, alone: bool = False
) -> dict[str, float]:
  """Scores of one part of the data: the selecting score and all fast scores.

  `alone`: only the selecting score, and the scores that warnings need.
  """
  select, columns = plan.config.eval.select, plan.config.eval.columns
  # Slow scores are computed for the test part only.
  quick = [c for c in columns if not evaluation.is_slow(c)]
  return scores_of(
    embeddings,
    part,
    plan.eval_metric,
    asked=[select, *(WATCHED_SCORES if alone else quick)],
    alone=alone,
    groups=part.groups,
    normalized=plan.normalized,
  )


def scores_of(
  embeddings: np.ndarray, part: data.Dataset, metric: MetricName, **options: Any
) -> dict[str, float]:
  """Scores of the embeddings of a part, by its classes or explicit pairs.

  For classes, the options are those of `evaluation.evaluate`.
  """
  pairs = part.pairs
  if pairs is None:
    return evaluation.evaluate(
      embeddings,
      part.labels,
      metric,
      superclasses=part.superclasses,
      **options,
    )
  return evaluation.evaluate_pairs(
    embeddings, pairs.first, pairs.second, pairs.is_same, metric
  )
