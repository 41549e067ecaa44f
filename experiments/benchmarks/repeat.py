"""Tests whether two equal runs and a resumed run give equal results.

The part `repeat` of benchmarks.accelerator calls this with a folder and the
words `twice`, `resume` and `tiny`. `twice` trains one config in two folders, in
one process, and makes a third folder as a kill after half the steps leaves it.
`resume`, in another process with the same XLA flags, resumes the third run and
writes line.json. `tiny` makes the runs small.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.benchmarks import training
from experiments.benchmarks.clock import Clock, timed
from metric_learning.evaluation import lower_is_better
from metric_learning.training import base_config, override, run_files, train
from metric_learning.training.recorder import Checkpoints

FIRST, SECOND, KILLED = "first", "second", "killed"


def _config(tiny: bool) -> ConfigDict:
  steps = 4 if tiny else 200
  fields: dict[str, Any] = {
    "model.name": "mlp" if tiny else "conv4",
    "train.steps": steps,
    "train.log_every": 1,
    "train.eval_every": steps // 2,
    "train.save_every": steps // 2,
  }
  if tiny:
    fields |= {"model.hidden": (8,), "batch.classes_per_batch": 4}
  return override(base_config(), fields)


def twice(folder: Path, tiny: bool) -> None:
  """Trains twice, and measures a step under the flags of this process."""
  config = _config(tiny)
  seconds = []
  for name in (FIRST, SECOND):
    start = time.perf_counter()
    train(config, folder / name, progress=False)
    seconds.append(time.perf_counter() - start)
  shutil.copytree(folder / FIRST, folder / KILLED)
  (folder / KILLED / run_files.RESULT).unlink()
  checkpoints = _checkpoints(folder / KILLED, config)
  checkpoints.delete_after(config.train.steps // 2)
  network = (
    training.Network("mlp", steps=1)
    if tiny
    else training.Network("conv4", steps=50)
  )
  call = training.in_turn(network, 1)
  step = timed(Clock(0, tiny), call)["seconds"] / network.steps
  line = {"first_run": seconds[0], "second_run": seconds[1], "step": step}
  (folder / "times.json").write_text(json.dumps(line))


def resume(folder: Path, tiny: bool) -> None:
  """Resumes the run that was killed, and compares all three."""
  config = _config(tiny)
  train(config, folder / KILLED, progress=False)
  line = run_files.read_json(folder / "times.json")
  for name in (SECOND, KILLED):
    line[name] = _compare(folder / FIRST, folder / name, config)
  run_files.write_json(folder / "line.json", line)


def _checkpoints(run: Path, config: ConfigDict) -> Checkpoints:
  return Checkpoints(
    run / "checkpoints",
    run=run_files.run_of(run),
    lower_is_better=lower_is_better(config.eval.select),
  )


def _compare(one: Path, other: Path, config: ConfigDict) -> dict:
  """Whether last states are equal bit for bit, and how far embeddings are."""
  digests = []
  for run in (one, other):
    checkpoints = _checkpoints(run, config)
    digests.append(checkpoints.record(config.train.steps)["digest"])
  first, second = (
    run_files.read_arrays(r / run_files.EMBEDDINGS) for r in (one, other)
  )
  apart = max(
    float(np.max(np.abs(first[name] - second[name])))
    for name in first
    if first[name].dtype.kind == "f"
  )
  return {"equal": digests[0] == digests[1], "embeddings_apart": apart}


if __name__ == "__main__":
  for stage in (twice, resume):
    if stage.__name__ in sys.argv[2:]:
      stage(Path(sys.argv[1]), "tiny" in sys.argv[2:])
