"""Where else the values of a run go: TensorBoard, Weights & Biases, MLflow.

metrics.jsonl is always written, and tables and figures read nothing else. A
writer changes no number, so it is not part of a config. The environment
variable METRIC_LEARNING_WRITERS names the writers, such as "tensorboard" or
"embeddings,mlflow", for single runs, sweeps and tuning.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from metric_learning import evaluation
from metric_learning.data import Dataset
from metric_learning.distances import MetricName
from metric_learning.errors import InputError, check_choice
from metric_learning.training import disk, run_files

WANTED = "METRIC_LEARNING_WRITERS"
# The folders that writers create in the folder of a run.
TENSORBOARD, STEPS = "tensorboard", "embeddings_by_step"
# Of more images than this, a random sample of this size makes the histograms.
_MOST_IMAGES = 500


class Seen(NamedTuple):
  """The validation part as the network sees it after a step.

  metric: the metric that compares the embeddings.
  """

  embeddings: Float[np.ndarray, "n d"]
  part: Dataset
  metric: MetricName


@runtime_checkable
class Writer(Protocol):
  """A receiver of the values of a run, and of its embeddings."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Takes the values after a step."""

  def see(self, step: int, seen: Seen) -> None:
    """Takes the embeddings of validation images, each time they are scored."""

  def close(self) -> None:
    """Writes what is left, and ends."""


class _Functions(NamedTuple):
  """A writer made of functions."""

  write: Callable[[int, Mapping[str, float]], None] = lambda step, values: None
  see: Callable[[int, Seen], None] = lambda step, seen: None
  close: Callable[[], None] = lambda: None


def _embeddings(folder: Path, last_step: int) -> Writer:
  """Writes a file of embeddings each time they are scored, for the explorer."""
  del last_step  # After a resume, the same files are written again.
  run_files.make_folder(folder / STEPS)

  def see(step: int, seen: Seen) -> None:
    disk.write_atomically(
      folder / STEPS / f"{step}.npy",
      lambda file: np.save(file, seen.embeddings, allow_pickle=False),
    )

  return _Functions(see=see)


def kept_steps(folder: Path) -> dict[int, Path]:
  """The files of the writer `embeddings` of a run, by their steps, in order."""
  found = (folder / STEPS).glob("*.npy")
  by_step = {int(p.stem): p for p in found if p.stem.isdecimal()}
  return dict(sorted(by_step.items()))


def _tensorboard(folder: Path, last_step: int) -> Writer:
  """Event files in the folder `tensorboard`: values, and histograms."""
  from tensorboardX import SummaryWriter

  # After a resume, this hides what was written after the checkpoint.
  writer = SummaryWriter(
    str(folder / TENSORBOARD), purge_step=last_step + 1 if last_step else None
  )

  def write(step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      writer.add_scalar(name, value, step)

  def see(step: int, seen: Seen) -> None:
    for name, values in histograms(seen).items():
      if values.size:
        writer.add_histogram(name, values, step)

  return _Functions(write, see, writer.close)


def histograms(seen: Seen) -> dict[str, Float[np.ndarray, " m"]]:
  """Coordinates of embeddings, and distances of same and different pairs.

  Of more than 500 images, the pairs are those of a random sample of 500, which
  is the same each time. Pairs that the data set lists are all used.
  """
  points, part, metric = seen
  if part.pairs is not None:
    same = part.pairs.is_same
    first, second = points[part.pairs.first], points[part.pairs.second]
    distances = evaluation.pair_distances(first, second, metric)
  else:
    lot = np.random.default_rng(0).permutation(len(points))[:_MOST_IMAGES]
    distances, same = evaluation.pairs_of(points[lot], part.labels[lot], metric)
  return {
    "validation/embeddings": points.ravel(),
    "validation/distances/same": distances[same],
    "validation/distances/different": distances[~same],
  }


def _wandb(folder: Path, last_step: int) -> Writer:
  """A run of Weights & Biases, by the name of the folder."""
  import wandb

  del last_step
  run = wandb.init(
    dir=folder,
    name=folder.name,
    config=run_files.read_json(folder / run_files.CONFIG),
  )
  return _Functions(
    lambda step, values: run.log(dict(values), step), close=run.finish
  )


def _mlflow(folder: Path, last_step: int) -> Writer:
  """A run of MLflow, by the name of the folder, at MLFLOW_TRACKING_URI."""
  from mlflow import MlflowClient
  from mlflow.entities import Metric, Param

  del last_step
  client = MlflowClient()
  run = client.create_run("0", run_name=folder.name).info.run_id
  config = run_files.flatten(run_files.read_json(folder / run_files.CONFIG))
  fields = [Param(k, str(v)[:500]) for k, v in config.items() if v != {}]
  for start in range(0, len(fields), 100):  # MLflow takes 100 at once.
    client.log_batch(run, params=fields[start : start + 100])

  def write(step: int, values: Mapping[str, float]) -> None:
    now = int(1000 * time.time())
    metrics = [Metric(k, v, now, step) for k, v in values.items()]
    client.log_batch(run, metrics=metrics)

  return _Functions(write, close=lambda: client.set_terminated(run))


class Kind(NamedTuple):
  """A kind of writer.

  make: from the folder of a run and the step at which it resumes to a writer.
  module, extra: the module it needs, and the extra that installs it.
  """

  make: Callable[[Path, int], Writer]
  module: str = ""
  extra: str = ""


# A new writer is its function and one entry.
WRITERS = {
  "embeddings": Kind(_embeddings),
  "tensorboard": Kind(_tensorboard, "tensorboardX", "tensorboard"),
  "wandb": Kind(_wandb, "wandb", "wandb"),
  "mlflow": Kind(_mlflow, "mlflow", "mlflow"),
}


def check_writers(environment: Mapping[str, str] = os.environ) -> list[str]:
  """The names of the writers that are wanted.

  >>> check_writers({})
  []

  Raises:
    InputError: for an unknown writer, or one whose extra is not installed.
  """
  wanted = environment.get(WANTED, "").split(",")
  names = [name.strip() for name in wanted if name.strip()]
  for name in names:
    check_choice("writer", name, WRITERS)
    kind = WRITERS[name]
    if kind.module and importlib.util.find_spec(kind.module) is None:
      raise InputError(
        f"{WANTED} asks for {name}: pip install"
        f" 'metric-learning[{kind.extra}]'."
      )
  return names


class Writers:
  """All writers of a run but metrics.jsonl."""

  def __init__(self, folder: Path, last_step: int):
    """Opens them, to go on after `last_step`."""
    self._writers = [
      WRITERS[name].make(folder, last_step) for name in check_writers()
    ]

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Hands the values after a step to each writer."""
    for writer in self._writers:
      writer.write(step, values)

  def see(self, step: int, seen: Seen) -> None:
    """Hands the embeddings of validation images to each writer."""
    for writer in self._writers:
      writer.see(step, seen)

  def close(self) -> None:
    """Closes all writers."""
    for writer in self._writers:
      writer.close()
