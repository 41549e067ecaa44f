"""Runs on one device and on several, in a process with eight devices.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \
      python -m tests.train_on_devices FOLDER

Prints as JSON how far each run differs from the run on one device.
"""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np

from metric_learning import InputError, data, devices
from metric_learning.evaluation import tiles
from metric_learning.training import (
  recorder,
  run_files,
  train,
  train_population,
)
from metric_learning.training.checkpoints import Checkpoints
from metric_learning.training.config import override
from metric_learning.training.plan import make_plan
from tests.tiny import tiny_config, tiny_scores

CONFIG = tiny_config(
  loss__name="contrastive",
  model__name="tests.normed:Normed",
  augment__shift=0.1,
  train__steps=4,
  train__log_every=1,
  train__eval_every=2,
  train__save_every=2,
)
CHUNKED = tiny_config(train__steps=2, train__log_every=1)


def numbers_of(folder):
  """All logged numbers, and the embeddings."""
  logged = [
    [record[name] for name in sorted(record) if not np.isnan(record[name])]
    for record in run_files.read_metrics(folder)
  ]
  points = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  return [*map(np.array, logged), points["validation_embeddings"]]


def apart(one, other):
  """The largest difference, relative for numbers above 1."""
  return max(
    float(np.max(np.abs(a - b) / np.maximum(1, np.abs(a))))
    for a, b in zip(one, other, strict=True)
  )


def run(config, folder, count=1, **fields):
  """Trains on this many devices; returns all numbers of the run."""
  train(
    override(config, {"mesh.batch": count, **fields}), folder, progress=False
  )
  return numbers_of(folder)


def moved(folder, to, count):
  """The numbers of a run that is killed halfway, and resumed elsewhere."""
  shutil.copytree(folder, to)
  (to / run_files.RESULT).unlink()
  kept = Checkpoints(
    to / "checkpoints", run=run_files.run_of(to), lower_is_better=False
  )
  kept.delete_after(2)
  return run(CONFIG, to, count)


def of_population(folder):
  """Two members on four pairs of devices; the numbers of both."""
  fields = [{}, {"optimizer.learning_rate": 0.01}]
  configs = [override(CONFIG, {"mesh.batch": 2, **one}) for one in fields]
  folders = [folder / str(i) for i in range(2)]
  train_population(configs, folders, data.load(CONFIG.data))
  return [numbers_of(one) for one in folders]


def refusals():
  """The message if there are too few devices."""
  said = []
  for count in (8, 16):
    try:
      make_plan(override(CONFIG, {"mesh.batch": count}))
    except InputError as error:
      said.append(str(error))
  return said


def evaluated():
  """The devices with blocks, and whether the codes equal those of one."""
  points = np.random.default_rng(0).normal(size=(1100, 3)).astype(np.float32)
  used, found = set(), []
  put = jax.device_put

  def seen(x, *more):
    placed = put(x, *more)
    used.update(placed.devices())
    return placed

  tiles.jax.device_put = seen
  for one in (False, True):
    codes = np.zeros((1100, 1100), np.int32)

    def use(rows, block, codes=codes):
      codes[rows] = block

    if one:
      with jax.default_device(jax.devices()[3]):
        tiles.for_each_block(use, "l1", points, points)
    else:
      tiles.for_each_block(use, "l1", points, points)
    found.append(codes)
  return len(used), bool(np.array_equal(*found))


def main(folder):
  """Prints the results."""
  recorder.score = tiny_scores
  one, faster = (
    run(CONFIG, folder / f"one{i}", **fields)
    for i, fields in enumerate([{}, {"optimizer.learning_rate": 0.01}])
  )
  found = {"4 devices": apart(one, run(CONFIG, folder / "4", 4))}
  streamed = {"data.stream": True}
  found["streamed"] = apart(one, run(CONFIG, folder / "s", 4, **streamed))
  found["from 4 to 2"] = apart(one, moved(folder / "4", folder / "to2", 2))
  found["from 4 to 1"] = apart(one, moved(folder / "4", folder / "to1", 1))
  both = of_population(folder / "population")
  found["population"] = max(map(apart, (one, faster), both))
  chunks = {"train.chunks": 2}
  chunked = run(CHUNKED, folder / "chunks", 2, **chunks)
  found["chunks"] = apart(run(CHUNKED, folder / "no_chunks"), chunked)
  placed = devices.put(jax.random.key(0), devices.mesh_of(4))
  said = {
    "apart": found,
    "differ": apart(one, faster),
    "devices": run_files.read_json(folder / "4" / run_files.RESULT)["devices"],
    "key on": len(placed.devices()),
    "refused": refusals(),
    "evaluated": evaluated(),
  }
  print(json.dumps(said))


if __name__ == "__main__":
  main(Path(sys.argv[1]))
