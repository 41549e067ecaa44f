"""Runs as tasks of a Ray cluster."""

import contextlib
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metric_learning import data
from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError
from metric_learning.study.launchers.claims import (
  RUNS,
  Group,
  Report,
  claim,
  train_group,
)
from metric_learning.training import run_files
from metric_learning.training.config import as_dict, from_dict

# How many times a task is retried after its worker died.
_RETRIES = 3


def start() -> None:
  """Starts Ray, unless it is running.

  Raises:
    InputError: if its extra is not installed.
  """
  try:
    import ray
  except ImportError:
    raise InputError(
      "--launcher=ray needs Ray: pip install -e '.[ray]'."
    ) from None
  if not ray.is_initialized():
    ray.init()


def launch(
  groups: Sequence[Group],
  folder: Path,
  report: Report,
  *,
  gpus_per_run: float | None = None,
) -> None:
  """Each group is a task of a Ray cluster, retried if its worker dies.

  The cluster is the one that Ray finds (RAY_ADDRESS), or this machine. Workers
  need this package, but not this folder: the driver sends the data and writes
  the returned files of each run. (With `data.stream` it sends paths, so workers
  must see the folder of the images.)

  Args:
    groups: runs that train together.
    folder: of the study.
    report: called with the finished runs.
    gpus_per_run: 1 if not given and the cluster has any, else 0.

  Raises:
    InputError: if runs failed, once all others are finished.
  """
  import ray

  gpus = ray.cluster_resources().get("GPU", 0)
  if gpus_per_run is None:
    gpus_per_run = 1 if gpus else 0
  if gpus_per_run > gpus:
    raise InputError(
      f"--gpus_per_run={gpus_per_run:g}, and the Ray cluster has {gpus:g}."
    )
  task = ray.remote(num_cpus=1, num_gpus=gpus_per_run, max_retries=_RETRIES)(
    train_elsewhere
  )
  code = run_files.code()
  sent: dict[int, Any] = {}
  failed = []
  with contextlib.ExitStack() as held:
    running = {}
    for group in groups:
      specs = claim(group, folder, held)
      if specs:
        splits = load_once(specs[0].config.data)
        if id(splits) not in sent:
          sent[id(splits)] = ray.put(splits)
        fields = {spec.name: _fields(spec.config) for spec in specs}
        running[task.remote(fields, sent[id(splits)], code)] = specs
    while running:
      (done, *_), _ = ray.wait(list(running))
      specs = running.pop(done)
      try:
        found = ray.get(done)
      except ray.exceptions.RayError as error:
        failed.append(f"{specs[0].name}: {error}")
        continue
      workdirs = [folder / RUNS / spec.name for spec in specs]
      report(specs, list(map(write_files, workdirs, found)))
  if failed:
    raise InputError(f"{len(failed)} tasks failed; the first: {failed[0]}")


def _fields(config: Any) -> dict[str, Any]:
  """A config for a task, with its mesh, which is not part of a run."""
  return {**as_dict(config), "mesh": config.mesh.to_dict()}


def train_elsewhere(
  fields: dict[str, dict[str, Any]], splits: data.Splits, code: str
) -> list[dict[str, bytes]]:
  """Trains a group in a temporary folder; returns the files of each run.

  Raises:
    InputError: if the code of the worker is not that of the study.
  """
  if run_files.code() != code:
    raise InputError(
      f"worker {platform.node()} has other code of metric_learning than the"
      " driver: install the driver's version there."
    )
  with tempfile.TemporaryDirectory() as scratch:
    configs = [from_dict(each) for each in fields.values()]
    workdirs = [Path(scratch, name) for name in fields]
    train_group(configs, workdirs, splits)
    return [
      {
        path.relative_to(workdir).as_posix(): path.read_bytes()
        for path in workdir.rglob("*")
        # Without the lock, which here belongs to another process.
        if path.is_file() and not path.name.startswith(".")
      }
      for workdir in workdirs
    ]


def write_files(workdir: Path, files: dict[str, bytes]) -> dict[str, Any]:
  """Writes the files of a run, its result last; returns the result."""
  for name in sorted(files, key=run_files.RESULT.__eq__):
    (workdir / name).parent.mkdir(parents=True, exist_ok=True)
    run_files.write_atomically(
      workdir / name, lambda file, name=name: file.write(files[name])
    )
  return run_files.from_json(files[run_files.RESULT])
