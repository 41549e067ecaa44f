"""Measures the share of training that waits for images from disk.

python -m experiments.benchmarks.reading

Trains efficientnet_lite0 on a folder of JPEG photographs at 96 and 224 pixels.
Threads decode, resize and crop images ahead of the steps; flips and color
changes are part of a step. The page shows for each size the time of a step, the
share of the time outside steps, and the time of a step whose batch is ready.
--data_dir=FOLDER uses your images in class folders; without it, smooth random
images of 500×375 are written. Needs the extra `stream`.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from experiments import cli
from metric_learning.study.formats import as_markdown
from metric_learning.training import base_config, override, run_files
from metric_learning.training.plan import feed_of, make_plan
from metric_learning.training.step import compiled

_DATA = cli.define_path("data_dir", None, "A folder of class folders.")
_OUTPUT = cli.define_path("output", "results/reading.md", "The page.")
_SIZES = flags.DEFINE_multi_integer("size", [96, 224], "Pixels of a side.", 1)
_STEPS = flags.DEFINE_integer("steps", 20, "Steps that are timed.", 1)
_CLASSES, _EACH = 8, 4  # of a batch
_WARM = 3  # steps that are not timed
_HEADS = ("size", "images a batch", "step", "outside", "step alone", "images/s")


def main() -> None:
  """Times both sizes, and writes the page."""
  with tempfile.TemporaryDirectory() as folder:
    place = _DATA.value or folder
    if not _DATA.value:
      write_images(Path(folder))
    lines = [_line(place, size) for size in _SIZES.value]
  text = (
    "# Waiting for images\n\nWritten by `python -m"
    f" experiments.benchmarks.reading` at commit {run_files.commit()}:"
    f" efficientnet_lite0, all of it trained, {_STEPS.value} steps, on"
    f" {jax.devices()[0].device_kind} with {os.cpu_count()} CPU cores:"
    f" {'images of a folder' if _DATA.value else 'JPEGs of 500×375'}."
    " *outside* is the share of the time in which no step runs, since training"
    " waits for a batch. *step alone* is the time of a step whose batch is"
    " ready, while nothing else runs. Load of the machine before:"
    f" {os.getloadavg()[0]:.1f}.\n\n"
    f"{as_markdown(_HEADS, lines)}\n"
  )
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def write_images(folder: Path, classes: int = 16, each: int = 8) -> None:
  """Class folders of JPEGs whose size in bytes is about that of photographs."""
  rng = np.random.default_rng(0)
  for label in range(classes):
    (folder / f"{label:02}").mkdir(parents=True)
    for i in range(each):
      small = rng.integers(0, 256, (75, 100, 3), np.uint8)
      image = Image.fromarray(small).resize((500, 375), 3)
      image.save(folder / f"{label:02}" / f"{i}.jpg", quality=90)


def config_of(folder: str, size: int, steps: int) -> ConfigDict:
  """A run that reads all of its images from disk in each step."""
  changes = {
    "data.name": "image_folder",
    "data.data_dir": str(folder),
    "data.split": "half",
    "data.image_size": (size, size),
    "data.short_side": size * 256 // 224,
    "data.random_crop": 0.84,
    "data.small_classes": "repeat",
    "data.stream": True,
    "batch.classes_per_batch": min(_CLASSES, _least_classes(folder)),
    "batch.images_per_class": _EACH,
    "augment.flip": True,
    "augment.brightness": 0.2,
    "augment.saturation": 0.2,
    "model.name": "efficientnet_lite0",
    "train.steps": steps,
    "train.log_every": steps,
    "train.eval_every": steps,
    "train.save_every": steps,
  }
  return override(base_config(), changes).lock()


def _least_classes(folder: str) -> int:
  """The training classes of a half, of which a fifth validates."""
  return max(2, len([p for p in Path(folder).iterdir() if p.is_dir()]) * 2 // 5)


def timed(config: ConfigDict) -> tuple[float, float, float]:
  """Seconds of all steps, seconds within them, and seconds of a step alone."""
  plan = make_plan(config)
  numbers = {name: jnp.float32(x) for name, x in plan.numbers.items()}
  key = jax.random.key(config.seed)
  state = plan.program.init(config.seed, plan.num_classes, plan.numbers)
  feed = feed_of(plan, 0)
  step: Any = compiled(plan.program.step, feed.gather)

  def run(state: Any, number: int, own: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    state, values = step(state, number, feed.shared, own, key, numbers)
    jax.block_until_ready(values)
    return state, time.perf_counter() - start

  within, start, own = 0.0, 0.0, None
  for number, own in enumerate(feed.own):
    if number == _WARM:
      within, start = 0.0, time.perf_counter()
    state, seconds = run(state, number, own)
    within += seconds
  whole, alone = time.perf_counter() - start, []
  for number in range(_WARM):
    state, seconds = run(state, number, own)
    alone.append(seconds)
  return whole, within, float(np.median(alone))


def _line(folder: str, size: int) -> tuple[str, ...]:
  config = config_of(folder, size, _WARM + _STEPS.value)
  whole, within, alone = timed(config)
  batch = config.batch.classes_per_batch * config.batch.images_per_class
  steps = _STEPS.value
  return (
    f"{size}×{size}",
    str(batch),
    f"{within / steps:.3f} s",
    f"{1 - within / whole:.1%}",
    f"{alone:.3f} s",
    f"{steps * batch / whole:.1f}",
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
