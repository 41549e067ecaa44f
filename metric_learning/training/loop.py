"""The one training loop: from a config to a run on disk."""

import contextlib
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from metric_learning import data, devices
from metric_learning.errors import InputError
from metric_learning.training import holding, processes, run_files, stopping
from metric_learning.training.config import as_dict
from metric_learning.training.plan import feed_of, identity_of, make_plan
from metric_learning.training.progress import Progress
from metric_learning.training.recorder import NotFiniteError, Recorder
from metric_learning.training.step import Values, compiled
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
  """Trains a run, or resumes it, and returns its result.

  For a finished run, returns its stored result. Writes config.json, data.json
  (the digest of the data), inputs.json (the shape and kind of an item),
  environment.json, metrics.jsonl, train.log, checkpoints/, embeddings.npz and,
  last, result.json. No other process can train in the folder meanwhile.

  Args:
    config: a whole config; see `base_config`.
    workdir: the folder of the run.
    splits: the data, if it is already loaded.
    progress: whether to print the progress: on a terminal, one updated line.
    embeddings: whether to write the embeddings of validation and test items. If
      not, the network never sees a test class; the checkpoints of the last and
      the selected step are kept, so that `embed_run` can write them later.
    save_after: how many seconds of training a kill may cost. Above 0, a
      checkpoint is saved only if more time has passed since the last one, and
      the last step is not saved; the validation classes are scored by
      `eval.select` only. Use it for trials: only their results are needed.

  Raises:
    InputError: for a config or data that cannot be used, or a workdir that
      belongs to another config, other data or another process.
    NotFiniteError: if the loss is no longer finite, now or in the earlier part
      of the run.
    LostError: if another process of the run has ended.
    Stopped: after a signal within `stopping.signals_wait`; the state is saved.

  Several processes of `jax.distributed` can train one run together. Each calls
  this function with the same config, and process 0 writes; see `processes`.
  """
  check_writers()  # Checked before anything is written.
  plan = processes.together(lambda: make_plan(config, splits))
  identity = identity_of(config, plan.splits)
  with contextlib.ExitStack() as opened:

    def claim(folder: Path) -> None:
      run_files.make_folder(folder)
      # A finished run is only read.
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
    InputError: if the result cannot be read, or belongs to another run.
    NotFiniteError: if the loss of the run stopped being finite.
  """
  result = run_files.read_json(workdir / run_files.RESULT)
  if "diverged" in result:
    raise NotFiniteError(result["diverged"])
  if result.get("run") != run_files.run_of(workdir):
    raise InputError(
      f"{workdir / run_files.RESULT} belongs to another run: delete it, and "
      "run the same command again."
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
  waiting: list[Values] = []
  last = config.train.steps
  feed = feed_of(plan, first)
  step = compiled(plan.program.step, feed.gather, mesh)
  with contextlib.closing(Progress(first, last, shown=progress)) as watched:
    for number, own in zip(range(first, last), feed.own, strict=True):
      state, values = step(state, number, feed.shared, own, key, numbers)
      waiting.append(values)
      done = number + 1
      if is_logged(config, done):
        # Reading a value waits for the device, so not at each step.
        watched.logged(run.log_steps(done, [v.named() for v in waiting]))
        waiting = []
      watched.step()
      if is_evaluated(config, done):
        run.evaluate(done, state)
        watched.evaluated(done)
      if stopping.asked() and done < last:
        raise run.stop(done, state, [v.named() for v in waiting])
  return run.finish(state)


def is_evaluated(config: ConfigDict, done: int) -> bool:
  """Whether the validation classes are scored after step `done`."""
  return done % config.train.eval_every == 0 or done == config.train.steps


def is_logged(config: ConfigDict, done: int) -> bool:
  """Whether the values of the steps are logged after step `done`."""
  return done % config.train.log_every == 0 or is_evaluated(config, done)
