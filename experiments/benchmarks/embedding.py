"""Measures how fast a finished run embeds images, in four ways.

python -m experiments.benchmarks.embedding

10,000 images of 64×64×3 are embedded in turn by the training loop (as it does
to score a part), by `run.embed`, by the exported program, and by `run.embed`
from PNG files in a folder, seven times each. The page shows the medians, and
the ratio to the loop in each turn. Times are CPU seconds, which depend less on
what else the machine does. The default network, conv3, is so small that other
costs show; --network names another. --count, --side and --turns change the
rest.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
from absl import flags
from PIL import Image

from experiments import cli
from experiments.benchmarks.finished import finished_run, random_images
from metric_learning.inference import exported
from metric_learning.study.formats import as_markdown
from metric_learning.training import run_files
from metric_learning.training.embedding import embed_all

_COUNT = flags.DEFINE_integer("count", 10_000, "Images.", 1)
_SIDE = flags.DEFINE_integer("side", 64, "Pixels of a side.", 1)
_TURNS = flags.DEFINE_integer("turns", 7, "Of all ways, one after another.", 1)
_NETWORK = flags.DEFINE_string("network", "conv3", "What embeds.")
_OUTPUT = cli.define_path("output", "results/embedding.md", "The page.")
_LOOP = "the loop's evaluation"
_HEADS = (
  *("", "seconds", "CPU seconds", "images/s"),
  *("of the loop's CPU time", "least", "most"),
)
# Seconds of a clock, and of all processors.
Times = tuple[float, float]


def main() -> None:
  """Times all ways, and writes the page."""
  with tempfile.TemporaryDirectory() as folder:
    found = in_turn(_ways(Path(folder)), _TURNS.value)
  side = _SIDE.value
  text = (
    "# Embedding by a finished run\n\nWritten by `python -m"
    f" experiments.benchmarks.embedding` at commit {run_files.commit()}:"
    f" {_COUNT.value:,} images of {side}×{side}×3 by {_NETWORK.value}, on"
    f" {jax.devices()[0].device_kind} with {os.cpu_count()} CPU cores. Each way"
    f" was measured {_TURNS.value} times in turn, after a call that compiles."
    " The table shows medians of the times, and of the ratio of CPU seconds to"
    " those of the loop in the same turn, with the smallest and the largest"
    " ratio. Load of the machine afterwards:"
    f" {os.getloadavg()[0]:.1f}.\n\n{as_markdown(_HEADS, _lines(found))}\n"
  )
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)


def _ways(folder: Path) -> dict[str, Callable[[], object]]:
  """What is timed, by its name in the table."""
  side = _SIDE.value
  images = random_images(_COUNT.value, (side, side, 3))
  run = finished_run(folder, _NETWORK.value, (side, side, 3))
  embed, _ = exported.load(run.export(folder / "model"))
  album = folder / "album"
  album.mkdir()
  for i, image in enumerate(images):
    Image.fromarray(image).save(album / f"{i:05}.png")
  return {
    _LOOP: lambda: embed_all(run.program, run.state, images),
    "`run.embed`, an array": lambda: run.embed(images),
    "the exported program": lambda: embed(images),
    "`run.embed`, a folder of PNG files": lambda: run.embed(album),
  }


def in_turn(
  ways: dict[str, Callable[[], object]], turns: int
) -> dict[str, list[Times]]:
  """The times of each way in each turn; the first call is not timed."""
  for call in ways.values():
    call()
  found: dict[str, list[Times]] = {name: [] for name in ways}
  for _ in range(turns):
    for name, call in ways.items():
      start, own = time.perf_counter(), time.process_time()
      call()
      found[name].append(
        (time.perf_counter() - start, time.process_time() - own)
      )
  return found


def _lines(found: dict[str, list[Times]]) -> list[tuple[str, ...]]:
  lines = []
  for name, times in found.items():
    middle, of_cpu = map(statistics.median, zip(*times, strict=True))
    ratios = [a / b for (_, a), (_, b) in zip(times, found[_LOOP], strict=True)]
    ends = (statistics.median(ratios), min(ratios), max(ratios))
    lines.append(
      (
        name,
        f"{middle:.3f}",
        f"{of_cpu:.3f}",
        f"{_COUNT.value / middle:,.0f}",
        *(f"{ratio:.2f}" for ratio in ends),
      )
    )
  return lines


if __name__ == "__main__":
  cli.run(main, __doc__)
