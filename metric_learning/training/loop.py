"""The one training loop: from a config to a run on disk."""

import contextlib
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array
from ml_collections import ConfigDict

from metric_learning import data, devices
from metric_learning.errors import InputError
from metric_learning.training import holding, processes, run_files, stopping
from metric_learning.training.config import as_dict
from metric_learning.training.plan import feed_of, identity_of, make_plan
from metric_learning.training.progress import Progress
from metric_learning.training.recorder import NotFiniteError, Recorder
from metric_learning.training.step import compiled
from metric_learning.training.writers import check_writers


def train(
  config: ConfigDict,
  workdir: str | Path,
  *,
  splits: data.Splits | None = None,
  progress: bool = True,
  embeddings: bool = True,
  save_after: float = 0.0,
) -> dict[str, Any]:
  """Trains a run, or goes on where it was, and returns its result.

  A finished run is returned as it is. Writes config.json, data.json (what the
  data was), inputs.json (what one item is), environment.json, metrics.jsonl,
  train.log, checkpoints/, embeddings.npz and, last, result.json. Meanwhile no
  other process can train there.

  Args:
    config: a whole config; see `base_config`.
    workdir: the folder of the run.
    splits: the data, if it is loaded already.
    progress: one line that lives on a terminal, elsewhere plain ones.
    embeddings: whether embeddings of what is not trained on are written. If
      not, its network never sees a test class; it keeps the checkpoints of the
      last and the selected step, from which `embed_run` writes them later.
    save_after: seconds of training that may be lost by a kill. Above 0, for a
      trial, of which nothing but the result is kept: only what took longer
      since the last checkpoint is saved, and not the last step; the validation
      classes are scored by `eval.select` alone.

  Raises:
    InputError: for a config or data that cannot be used, or a workdir of
      another config or of other data, or that another process has.
    NotFiniteError: if the loss stops being finite, or did so before.
    LostError: if another process of the run is gone.
    Stopped: if a signal came where `stopping.signals_wait` is in force; the
      state is saved.

  Several processes of `jax.distributed` train one run together: each calls this
  with the same config, and that of index 0 writes; see `processes`.
  """
  check_writers()  # Refused before anything is written.
  plan = processes.together(lambda: make_plan(config, splits))
  identity = identity_of(config, plan.splits)
  with contextlib.ExitStack() as opened:

    def claim(folder: Path) -> None:
      run_files.make_folder(folder)
      # What is finished is only read.
      if not (folder / run_files.RESULT).exists():
        opened.enter_context(holding.held(folder))
      run_files.claim(folder, as_dict(config), identity)

    folder = opened.enter_context(processes.own_folder(Path(workdir), claim))
    if (folder / run_files.RESULT).exists():
      return finished(folder)
    opened.enter_context(stopping.heeded())
    run = Recorder(plan, folder, embeddings=embeddings, save_after=save_after)
    opened.enter_context(contextlib.closing(run))
    opened.enter_context(processes.watched())
    return _train(run, progress)


def finished(workdir: Path) -> dict[str, Any]:
  """The result of a finished run.

  Raises:
    InputError: if it cannot be read, or is that of another run.
    NotFiniteError: if its loss stopped being finite.
  """
  result = run_files.read_json(workdir / run_files.RESULT)
  if "diverged" in result:
    raise NotFiniteError(result["diverged"])
  if result.get("run") != run_files.run_of(workdir):
    raise InputError(
      f"{workdir / run_files.RESULT} is that of another run: delete it, and"
      " give the same command again."
    )
  return result


def _train(run: Recorder, progress: bool) -> dict[str, Any]:
  plan, config = run.plan, run.plan.config
  state = run.first_state()
  first, state = run.checkpoints.restore(state) or (0, state)
  run.start(first)
  mesh, key, numbers = plan.program.mesh, run.key, run.traced
  if mesh is not None:
    state, key, numbers = devices.put((state, key, numbers), mesh)
  waiting: list[dict[str, Array]] = []
  last = config.train.steps
  feed = feed_of(plan, first)
  step = compiled(plan.program.step, feed.gather, mesh)
  with contextlib.closing(Progress(first, last, shown=progress)) as watched:
    for number, own in zip(range(first, last), feed.own, strict=True):
      state, values = step(state, number, feed.shared, own, key, numbers)
      waiting.append(values)
      done = number + 1
      if is_logged(config, done):
        # Reading a value waits for the device: once in a while, not each step.
        watched.logged(run.log_steps(done, jax.device_get(waiting)))
        waiting = []
      watched.step()
      if is_evaluated(config, done):
        run.evaluate(done, state)
        watched.evaluated(done)
      if stopping.asked() and done < last:
        raise run.stop(done, state, jax.device_get(waiting))
  return run.finish(state)


def is_evaluated(config: ConfigDict, done: int) -> bool:
  """Whether the validation classes are scored after step `done`."""
  return done % config.train.eval_every == 0 or done == config.train.steps


def is_logged(config: ConfigDict, done: int) -> bool:
  """Whether the values of the steps are logged after step `done`."""
  return done % config.train.log_every == 0 or is_evaluated(config, done)
