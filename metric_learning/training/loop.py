"""The one training loop: from a config to a run on disk."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array
from ml_collections import ConfigDict
from tqdm import tqdm

from metric_learning import data, devices
from metric_learning.training import processes, run_files
from metric_learning.training.config import as_dict
from metric_learning.training.plan import feed_of, identity_of, make_plan
from metric_learning.training.recorder import Recorder
from metric_learning.training.step import compiled


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
  train.log, checkpoints/, embeddings.npz and, last, result.json.

  Args:
    config: a whole config; see `base_config`.
    workdir: the folder of the run.
    splits: the data, if it is loaded already.
    progress: a bar on a terminal.
    embeddings: whether embeddings of what is not trained on are written. If
      not, its network never sees a test class; it keeps the checkpoints of the
      last and the selected step, from which `embed_run` writes them later.
    save_after: seconds of training that may be lost by a kill. Above 0 only
      what took longer since the last checkpoint is saved, and not the last
      step: for a trial, of which nothing but the result is kept.

  Raises:
    InputError: for a config or data that cannot be used, or a workdir of
      another config or of other data.
    NotFiniteError: if the loss stops being finite.
    LostError: if another process of the run is gone.

  Several processes of `jax.distributed` train one run together: each calls this
  with the same config, and that of index 0 writes; see `processes`.
  """
  # Refused before anything is written.
  plan = processes.together(lambda: make_plan(config, splits))
  identity = identity_of(config, plan.splits)
  claim = lambda folder: run_files.claim(folder, as_dict(config), identity)
  with processes.own_folder(Path(workdir), claim) as folder:
    if (folder / run_files.RESULT).exists():
      return run_files.read_json(folder / run_files.RESULT)
    recorder = Recorder(
      plan, folder, embeddings=embeddings, save_after=save_after
    )
    with contextlib.closing(recorder) as run, processes.watched():
      return _train(run, progress)


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
  bar = tqdm(
    range(first, last),
    initial=first,
    total=last,
    unit="step",
    disable=not (progress and sys.stderr.isatty()),
  )
  feed = feed_of(plan, first)
  step = compiled(plan.program.step, feed.gather, mesh)
  for number, own in zip(bar, feed.own, strict=True):
    state, values = step(state, number, feed.shared, own, key, numbers)
    waiting.append(values)
    done = number + 1
    if is_logged(config, done):
      # Reading a value waits for the device: once in a while, not each step.
      loss = run.log_steps(done, jax.device_get(waiting))
      waiting = []
      bar.set_postfix(loss=f"{loss:.4g}")
    if is_evaluated(config, done):
      run.evaluate(done, state)
  return run.finish(state)


def is_evaluated(config: ConfigDict, done: int) -> bool:
  """Whether the validation classes are scored after step `done`."""
  return done % config.train.eval_every == 0 or done == config.train.steps


def is_logged(config: ConfigDict, done: int) -> bool:
  """Whether the values of the steps are logged after step `done`."""
  return done % config.train.log_every == 0 or is_evaluated(config, done)
