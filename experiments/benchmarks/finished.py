"""Finished runs to measure, and the part `export` of the accelerator run."""

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmarks.clock import Clock, Line, attempt, timed
from metric_learning import inference
from metric_learning.inference import exported
from metric_learning.training import base_config, override, train

Shape = tuple[int, int, int]

# Classes and images of each, of the set that a run is trained on.
_CLASSES, _EACH = 16, 4


def export(clock: Clock) -> Iterator[Line]:
  """An exported folder on this device: against `run.embed`, and on the CPU."""
  networks: list[tuple[str, Shape]] = [("conv4", (64, 64, 3))]
  if clock.tiny:
    networks = [("mlp", (8, 8, 1))]
  else:
    networks.append(("resnet18", (96, 96, 3)))
  for name, shape in networks:
    line: Line = {"name": name, "shape": list(shape), "n": 600}
    measure = functools.partial(_exported, clock, name, shape, line["n"])
    yield line | attempt(measure)


def _exported(clock: Clock, name: str, shape: Shape, count: int) -> Line:
  items = random_images(count, shape)
  with tempfile.TemporaryDirectory() as folder:
    run = finished_run(Path(folder), name, shape)
    model = run.export(Path(folder) / "model")
    embed, distances = exported.load(model)
    points, own = embed(items), run.embed(items)
    with jax.default_device(jax.devices("cpu")[0]):
      embed_there, distances_there = exported.load(model)
      there = embed_there(items)
      far_there = distances_there(points, points)
    return {
      "equal": np.array_equal(points, own),
      "points_apart": _apart(points, there),
      "distances_apart": _apart(distances(points, points), far_there),
      **timed(clock, lambda: embed(items)),
    }


def _apart(one: np.ndarray, other: np.ndarray) -> float:
  """The largest difference, of the largest number."""
  return float(np.abs(one - other).max() / np.abs(other).max())


def finished_run(
  folder: Path, name: str, shape: Shape
) -> inference.FinishedRun:
  """A run of a network on random images: one step, and its checkpoint."""
  np.savez(
    folder / "images.npz",
    images=random_images(_CLASSES * _EACH, shape, seed=1),
    labels=np.repeat(np.arange(_CLASSES), _EACH),
  )
  train(_config_of(folder / "images.npz", name), folder / "run", progress=False)
  return inference.load(folder / "run")


def _config_of(path: Path, name: str) -> ConfigDict:
  once = dict.fromkeys(("steps", "log_every", "eval_every", "save_every"), 1)
  return override(
    base_config(),
    {
      "data.name": "npz",
      "data.data_dir": str(path),
      "data.split": "classes",
      "batch.classes_per_batch": 4,
      "batch.images_per_class": _EACH,
      "model.name": name,
      "model.embedding_dim": 64,
      **{f"train.{field}": value for field, value in once.items()},
    },
  )


def random_images(count: int, shape: Shape, seed: int = 0) -> np.ndarray:
  """Noise, as stored."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (count, *shape), np.uint8)
