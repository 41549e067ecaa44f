"""The one training loop: from a config to a run on disk."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict
from tqdm import tqdm

from metric_learning import data
from metric_learning.data.sampler import Batches, make_batches
from metric_learning.data.stream import read_ahead
from metric_learning.training import records
from metric_learning.training.config import as_dict, validate
from metric_learning.training.recorder import Recorder, check_parts


def train(
  config: ConfigDict,
  workdir: str | Path,
  *,
  splits: data.Splits | None = None,
  progress: bool = True,
  embeddings: bool = True,
) -> dict[str, Any]:
  """Trains a run, or goes on where it was, and returns its result.

  A finished run is returned as it is. Writes config.json, data.json (what the
  data was), environment.json, metrics.jsonl, train.log, checkpoints/,
  embeddings.npz and, last, result.json.

  Args:
    config: a whole config; see `base_config`.
    workdir: the folder of the run.
    splits: the data, if it is loaded already.
    progress: a bar on a terminal.
    embeddings: whether embeddings of what is not trained on are written. If
      not, its network never sees a test class; it keeps the checkpoints of the
      last and the selected step, from which `embed_run` writes them later.

  Raises:
    InputError: for a config or data that cannot be used, or a workdir of
      another config or of other data.
    NotFiniteError: if the loss stops being finite.
  """
  workdir = Path(workdir)
  validate(config)
  splits = data.load(config.data) if splits is None else splits
  # Refused before anything is written.
  check_parts(config, splits)
  batches = make_batches(splits.train, config.data, config.seed)
  records.claim(workdir, as_dict(config), splits.identity)
  if (workdir / records.RESULT).exists():
    return records.read_json(workdir / records.RESULT)
  recorder = Recorder(config, workdir, splits, embeddings=embeddings)
  with contextlib.closing(recorder) as run:
    return _train(run, batches, progress)


def _train(run: Recorder, batches: Batches, progress: bool) -> dict[str, Any]:
  config, program = run.config, run.program
  state = run.first_state()
  first, state = run.checkpoints.restore(state) or (0, state)
  run.start(first)
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
  return run.finish(state)


def is_evaluated(config: ConfigDict, done: int) -> bool:
  """Whether validation classes are scored after so many steps."""
  return done % config.train.eval_every == 0 or done == config.train.steps


def is_logged(config: ConfigDict, done: int) -> bool:
  """Whether what the steps said is read after so many of them."""
  return done % config.train.log_every == 0 or is_evaluated(config, done)


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
