"""Where the rows of a study train: on devices of this process, or under Ray.

A launcher takes groups of rows: one row, or several that train as one
population. It does those that no other process has, and returns.
"""

import contextlib
import json
import platform
import queue
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import jax
from ml_collections import ConfigDict

from metric_learning import data
from metric_learning.data.held_out import hold_out
from metric_learning.errors import InputError, check_choice
from metric_learning.study.sweeps import StudyRow
from metric_learning.training import (
  NotFiniteError,
  records,
  train,
  train_population,
)
from metric_learning.training.config import (
  AUGMENTATIONS,
  as_dict,
  from_dict,
  override,
)
from metric_learning.training.population import common_of

RUNS = "runs"

Group = list[StudyRow]
Report = Callable[[Group, list[dict[str, Any]]], None]

# Fields of the data that say what a step makes of them.
OF_BATCHES = (
  *("sampler", "classes_per_batch", "images_per_class"),
  *("superclasses_per_batch", "num_triplets", "num_pairs", "views"),
  *AUGMENTATIONS,
)
# Without a part that is held out otherwise than the split does.
_UNCUT = {
  "data.validation_folds": 1,
  "data.validation_fold": 0,
  "data.train_on": "train",
}
_SPLITS: dict[str, data.Splits] = {}


def load_once(config: ConfigDict) -> data.Splits:
  """The data of a config; images are read once in a process."""
  fields = as_dict(config)["data"].items()
  key = json.dumps({k: v for k, v in fields if k not in OF_BATCHES})
  if key not in _SPLITS:
    uncut = override(config, _UNCUT)
    _SPLITS[key] = (
      data.load(config.data)
      if uncut.data == config.data
      else hold_out(load_once(uncut), config.data)
    )
  return _SPLITS[key]


def data_of(rows: Sequence[StudyRow]) -> dict[str, Any]:
  """What rows load: the `identity` of each data set, by one of its rows."""
  found: dict[str, Any] = {}
  for row in sorted(rows, key=lambda row: row.name):
    identity = load_once(row.config).identity
    if identity not in found.values():
      found[row.name] = identity
  return found


# --- Groups and claims ------------------------------------------------------


def groups_of(rows: Sequence[StudyRow], members: int) -> list[Group]:
  """Rows that can train as one population, at most so many together."""
  together: dict[str, Group] = {}
  for row in rows:
    # What streams has images of its own in each batch.
    own = row.name if row.config.data.stream else ""
    together.setdefault(own + common_of(row.config), []).append(row)
  return [
    group[start : start + members]
    for group in together.values()
    for start in range(0, len(group), members)
  ]


def is_finished(workdir: Path) -> bool:
  """Whether a run has its result."""
  return (workdir / records.RESULT).exists()


def claim(
  rows: Sequence[StudyRow], folder: Path, held: contextlib.ExitStack
) -> Group:
  """Those of the rows that are not finished, and that no other process has.

  They are this process's until `held` is closed. The kernel releases the lock
  of a process that is killed.
  """
  ours = []
  for row in rows:
    workdir = folder / RUNS / row.name
    if is_finished(workdir):
      continue
    records.make_folder(workdir)
    try:
      lock = filelock.FileLock(workdir / ".lock")
      held.enter_context(lock.acquire(blocking=False))
    except filelock.Timeout:
      continue
    # Another process may have finished it just before.
    if not is_finished(workdir):
      ours.append(row)
  return ours


def _as_far(rows: Group, folder: Path) -> list[Group]:
  """The rows of a population that go on from the same checkpoint.

  Together, those that are ahead would begin where the last is.
  """
  groups: dict[int, Group] = {}
  for row in rows:
    saved = (folder / RUNS / row.name / "checkpoints").glob("[0-9]*")
    step = max((int(p.name) for p in saved if p.name.isdecimal()), default=0)
    groups.setdefault(step, []).append(row)
  return list(groups.values())


def train_group(
  configs: Sequence[ConfigDict], workdirs: Sequence[Path], splits: data.Splits
) -> list[dict[str, Any]]:
  """Trains one run, or several as a population; a diverged one says why.

  They keep checkpoints and no embeddings: who is chosen is embedded later.
  """
  if len(configs) > 1:
    return train_population(configs, workdirs, splits, embeddings=False)
  (config,), (workdir,) = configs, workdirs
  try:
    found = train(
      config, workdir, splits=splits, progress=False, embeddings=False
    )
    return [found]
  except NotFiniteError as error:
    result = {"diverged": str(error)}
    records.write_json(workdir / records.RESULT, result)
    return [result]


# --- Launchers --------------------------------------------------------------


def local(groups: Sequence[Group], folder: Path, report: Report) -> None:
  """Populations in turn, on all devices; single rows, one on each device."""

  def work(group: Group) -> None:
    with contextlib.ExitStack() as held:
      for rows in _as_far(claim(group, folder, held), folder):
        workdirs = [folder / RUNS / row.name for row in rows]
        splits = load_once(rows[0].config)
        report(rows, train_group([r.config for r in rows], workdirs, splits))

  devices = jax.local_devices()
  if len(devices) == 1:
    for group in groups:
      work(group)
    return
  free: queue.Queue[Any] = queue.Queue()
  for device in devices:
    free.put(device)

  def work_on_a_device(group: Group) -> None:
    device = free.get()
    try:
      with jax.default_device(device):
        work(group)
    finally:
      free.put(device)

  for group in groups:
    if len(group) > 1:
      work(group)
  with ThreadPoolExecutor(len(devices)) as pool:
    # The first error ends it; what has not begun is left.
    list(pool.map(work_on_a_device, [g for g in groups if len(g) == 1]))


def on_ray(
  groups: Sequence[Group],
  folder: Path,
  report: Report,
  *,
  gpus_per_run: float | None = None,
) -> None:
  """Each group is a task of a Ray cluster, done again when its worker dies.

  The cluster is the one that Ray finds (RAY_ADDRESS), or this machine. Workers
  need this package, not this folder: the driver sends the data and writes what
  comes back, all files of a run. (Of `data.stream` it sends the paths: that
  folder must be where a worker is.)

  Args:
    groups: rows that train together.
    folder: of the study.
    report: is told of the rows that are done.
    gpus_per_run: 1 if not given and the cluster has any, else 0.

  Raises:
    InputError: if rows failed; all others are done then.
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
  code = records.code()
  sent: dict[int, Any] = {}
  failed = []
  with contextlib.ExitStack() as held:
    running = {}
    for group in groups:
      rows = claim(group, folder, held)
      if rows:
        splits = load_once(rows[0].config)
        if id(splits) not in sent:
          sent[id(splits)] = ray.put(splits)
        fields = {row.name: as_dict(row.config) for row in rows}
        running[task.remote(fields, sent[id(splits)], code)] = rows
    while running:
      (done, *_), _ = ray.wait(list(running))
      rows = running.pop(done)
      try:
        found = ray.get(done)
      except ray.exceptions.RayError as error:
        failed.append(f"{rows[0].name}: {error}")
        continue
      workdirs = [folder / RUNS / row.name for row in rows]
      report(rows, list(map(write_files, workdirs, found)))
  if failed:
    raise InputError(f"{len(failed)} tasks failed; the first: {failed[0]}")


# How often a task is begun again after its worker died.
_RETRIES = 3


def train_elsewhere(
  fields: dict[str, dict[str, Any]], splits: data.Splits, code: str
) -> list[dict[str, bytes]]:
  """Trains a group in a folder of its own; the files of each run by path.

  Raises:
    InputError: if the code here is not that of the study.
  """
  if records.code() != code:
    raise InputError(
      f"the metric_learning of worker {platform.node()} is other code than the"
      " driver's: install the driver's there."
    )
  with tempfile.TemporaryDirectory() as scratch:
    configs = [from_dict(each) for each in fields.values()]
    workdirs = [Path(scratch, name) for name in fields]
    train_group(configs, workdirs, splits)
    return [
      {
        path.relative_to(workdir).as_posix(): path.read_bytes()
        for path in workdir.rglob("*")
        if path.is_file()
      }
      for workdir in workdirs
    ]


def write_files(workdir: Path, files: dict[str, bytes]) -> dict[str, Any]:
  """Writes the files of a run, its result last; returns the result."""
  for name in sorted(files, key=records.RESULT.__eq__):
    (workdir / name).parent.mkdir(parents=True, exist_ok=True)
    records.write_atomically(
      workdir / name, lambda file, name=name: file.write(files[name])
    )
  return records.from_json(files[records.RESULT])


LAUNCHERS: dict[str, Callable[..., None]] = {"local": local, "ray": on_ray}


def start_launcher(name: str) -> None:
  """Starts Ray for "ray", unless it runs; "local" has nothing to start.

  To be called before JAX has threads: Ray forks.

  Raises:
    InputError: for a launcher that there is not, or that lacks its extra.
  """
  check_choice("launcher", name, LAUNCHERS)
  if name == "ray":
    try:
      import ray
    except ImportError:
      raise InputError(
        "--launcher=ray needs Ray: pip install -e '.[ray]'."
      ) from None
    if not ray.is_initialized():
      ray.init()
