"""Measures whether memory and speed stay constant over a long run.

python -m experiments.benchmarks.long_run

Trains a small network for 20,000 steps (--steps) in the ordinary loop, with
scores and checkpoints. It samples the memory of its process once a second and
writes results/long_run.md: memory, speed and compilations over the steps. The
first tenth is warm-up. The status is 1 if the memory then grows by 5 % or more,
if anything is compiled, or if the last tenth takes more than 1.5 times as long
as the second.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import cli
from metric_learning.study.formats import as_markdown
from metric_learning.training import base_config, override, run_files, train

_OUTPUT = cli.define_path("output", "results/long_run.md", "The page.")
_STEPS = flags.DEFINE_integer("steps", 20_000, "Of the run.", lower_bound=100)

# Of a share of the memory after the warm-up, and of the time of a step.
GROWTH, SLOWER = 0.05, 1.5
TENTHS = 10
_COMPILED = "/jax/core/compile/backend_compile_duration"


class Look(NamedTuple):
  """What was seen at one moment."""

  seconds: float
  step: int
  memory: float


class Watch:
  """Looks at this process once a second while it trains."""

  def __init__(self, folder: Path):
    """Of the run in a folder, which may not be there yet."""
    self._metrics, self.looks = folder / run_files.METRICS, list[Look]()
    self.compiled: list[int] = []
    self._start, self._ended = time.perf_counter(), threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
    if event == _COMPILED:
      self.compiled.append(self.step())

  def step(self) -> int:
    """The last step that was logged; the end of the file tells it."""
    try:
      with self._metrics.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
        lines = file.read().splitlines()
      return int(run_files.from_json(lines[-1])["step"])
    except (OSError, ValueError, IndexError):
      return 0

  def _watch(self) -> None:
    while not self._ended.wait(1.0):
      self.look()

  def look(self) -> None:
    """Looks once."""
    seconds = time.perf_counter() - self._start
    self.looks.append(Look(seconds, self.step(), _resident()))

  def __enter__(self) -> "Watch":
    """Begins to look."""
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    """Ends it."""
    self._ended.set()
    self._thread.join()
    self.look()


def _resident() -> float:
  """Bytes of this process in memory."""
  pages = int(Path("/proc/self/statm").read_text().split()[1])
  return float(pages * os.sysconf("SC_PAGE_SIZE"))


def tenths(looks: list[Look], steps: int) -> list[tuple[float, float]]:
  """Of each tenth of the run: the median memory, and seconds for a step.

  >>> looks = [Look(float(i), 10 * i, 1e6) for i in range(11)]
  >>> tenths(looks, 100)[3]
  (1000000.0, 0.1)
  """
  seen = np.array([(s.seconds, s.step, s.memory) for s in looks])
  edges = np.linspace(0, steps, TENTHS + 1)
  at = np.interp(edges, seen[:, 1], seen[:, 0])
  found = []
  for i in range(TENTHS):
    inside = (seen[:, 1] >= edges[i]) & (seen[:, 1] <= edges[i + 1])
    memory = float(np.median(seen[inside, 2])) if inside.any() else float("nan")
    found.append((memory, float((at[i + 1] - at[i]) * TENTHS / steps)))
  return found


def main() -> None:
  """Trains, writes the page, and says what did not hold."""
  steps = _STEPS.value
  each = max(10, steps // 40)
  config = override(
    base_config(),
    {
      "data.name": "digits",
      "data.split": "images",
      "data.protocol": "closed-set",
      "batch.classes_per_batch": 8,
      "model.name": "mlp",
      "model.hidden": (64,),
      "model.embedding_dim": 16,
      "train.steps": steps,
      "train.eval_every": each,
      "train.save_every": each,
    },
  )
  with tempfile.TemporaryDirectory() as scratch:
    folder = Path(scratch) / "run"
    with Watch(folder) as watch:
      train(config, folder, progress=False)
  found = tenths(watch.looks, steps)
  # After the last step the selected checkpoint is read, and embedded.
  late = [step for step in watch.compiled if steps / TENTHS < step < steps]
  ended = watch.compiled.count(steps)
  text = page(steps, found, len(watch.compiled), late, ended)
  run_files.write_atomically(
    Path(_OUTPUT.value), lambda file: file.write(text.encode())
  )
  print(text)
  if wrong := failures(found, late):
    print("error: " + "; ".join(wrong), file=sys.stderr)
    sys.exit(1)


def failures(found: list[tuple[float, float]], late: list[int]) -> list[str]:
  """What does not hold of a run.

  >>> failures([(1.0, 1.0)] * 9 + [(1.1, 2.0)], [7])
  ['memory grew by 10 %', 'steps became 2.0 times as slow',
   '1 programs were compiled after the warm-up']
  """
  _, second, *_, last = found
  wrong = []
  growth, slower = last[0] / second[0] - 1, last[1] / second[1]
  if not growth < GROWTH:
    wrong.append(f"memory grew by {100 * growth:.0f} %")
  if not slower < SLOWER:
    wrong.append(f"steps became {slower:.1f} times as slow")
  if late:
    wrong.append(f"{len(late)} programs were compiled after the warm-up")
  return wrong


def page(
  steps: int,
  found: list[tuple[float, float]],
  compiled: int,
  late: list[int],
  ended: int,
) -> str:
  """The page of Markdown."""
  (_, second, *_, last) = found
  lines = [
    [
      f"{i * steps // TENTHS:,} to {(i + 1) * steps // TENTHS:,}",
      f"{memory / 2**20:.1f} MiB",
      f"{1e3 * seconds:.2f} ms",
    ]
    for i, (memory, seconds) in enumerate(found)
  ]
  heads = ["steps", "memory of the process", "time of a step"]
  return (
    "# A long run\n\nWritten by `python -m experiments.benchmarks.long_run` at"
    f" commit {run_files.commit()}, jax {jax.__version__}, on"
    f" {jax.devices()[0].device_kind}: {steps:,} steps of a dense network on"
    " the data set digits, scored and saved forty times. The table shows the"
    " median memory of each tenth, and its time per step, including scores and"
    " saves; the machine also did other work. From the second tenth to the last"
    f" the memory changed by {100 * (last[0] / second[0] - 1):+.1f} %."
    f" {compiled} programs were compiled, {len(late)} of them between the first"
    f" tenth and the last step, and {ended} after it, where the selected"
    " checkpoint is read.\n\n"
    f"{as_markdown(heads, lines)}\n"
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
