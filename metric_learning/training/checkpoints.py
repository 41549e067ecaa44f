"""Checkpoints of a run, verified by digests.

The state after a step is one safetensors file with its record as metadata. The
file is written atomically; a few megabytes take milliseconds.
"""

import contextlib
import hashlib
import json
import logging
import math
import operator
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from metric_learning.errors import InputError
from metric_learning.training import disk, run_files
from metric_learning.training.records import problem_in

# In the folder of a run.
CHECKPOINTS = "checkpoints"

_SUFFIX = ".safetensors"
# A state saved on a signal; the next checkpoint replaces it.
_STOPPED = f".stopped{_SUFFIX}"
# A safetensors file begins with the length of its header, in this many bytes.
_LENGTH = 8
# How many of the newest checkpoints are kept, beside the best.
_NEWEST = 2


# The record of a state; `digest` is that of its arrays.
_RECORD = {
  "digest": str,
  "run": str,
  "step": int,
  "score": (float, None),
  "seconds": float,
  "metrics": str,
  "skipped": int,
}


class DamagedError(InputError):
  """A checkpoint differs from what was saved, or belongs to another run."""


def digest_of(tree: Any) -> str:
  """SHA-256 over all leaves, their names, types and shapes.

  For typed PRNG keys, over their raw numbers.

  >>> one, other = (digest_of(jax.random.key(seed)) for seed in (0, 1))
  >>> one == other
  False

  Raises:
    InputError: for an array that is spread over processes.
  """
  return _digest(_arrays_of(tree).items())


def _digest(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
  digest = hashlib.sha256()
  for name, array in sorted(arrays, key=operator.itemgetter(0)):
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _arrays_of(tree: Any) -> dict[str, np.ndarray]:
  """The leaves of a state, by their names in the file."""
  arrays = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = _name(path, leaf)
    if isinstance(leaf, jax.Array) and not (
      leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
      raise InputError(
        f"the array {name} is spread over several processes, and a single one"
        " writes a checkpoint: gather the state first, by"
        " jax.experimental.multihost_utils.process_allgather."
      )
    arrays[name] = np.asarray(_numbers(leaf), order="C")
  return arrays


def _is_key(leaf: Any) -> bool:
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path: Any, leaf: Any) -> str:
  """The name of a leaf; for a typed PRNG key, with its type."""
  name = jax.tree_util.keystr(path, simple=True, separator="/")
  return f"{name} {leaf.dtype}" if _is_key(leaf) else name


def _numbers(leaf: Any) -> Any:
  """A leaf as plain numbers, also for a typed PRNG key."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _seal(record: str) -> str:
  return hashlib.sha256(record.encode()).hexdigest()


class Checkpoints:
  """The newest two checkpoints of a run, and the best by one score.

  A digest of the leaves, the run, the step and the score is stored beside the
  state. It detects a flipped bit, and a checkpoint of another run or step.
  `restore` falls back to the step before a damaged one. Only files that are
  known to be damaged are deleted: truncated, or with another digest. Any other
  failure to read (disk, permissions, memory, another shape) raises an error and
  deletes nothing.
  """

  def __init__(self, folder: Path, *, run: str, lower_is_better: bool):
    """Takes a folder, which is created with the first checkpoint.

    `run` identifies the run: see `run_files.run_of`.
    """
    self._folder = folder.absolute()
    self._run = run
    self._better = min if lower_is_better else max

  def _path(self, step: int) -> Path:
    """The file of a step; the one saved on a signal if there is no other."""
    path, stopped = (
      self._folder / f"{step}{suffix}" for suffix in (_SUFFIX, _STOPPED)
    )
    return stopped if stopped.exists() and not path.exists() else path

  def save(
    self,
    step: int,
    state: Any,
    score: float,
    seconds: float = 0.0,
    metrics: str = "",
  ) -> None:
    """Writes the state of a step and its record, atomically.

    `metrics` is the digest of the metrics up to this step.
    """
    known = {"seconds": seconds, "metrics": metrics, "skipped": 0}
    self._write(f"{step}{_SUFFIX}", step, state, score, known)
    self._tidy()
    self.forget_stopped()

  def save_stopped(
    self,
    step: int,
    state: Any,
    seconds: float = 0.0,
    metrics: str = "",
    skipped: int = 0,
  ) -> None:
    """Writes the state at which a signal stops a run.

    It is not one of the `steps` that can be selected, and the next checkpoint
    replaces it. `skipped` counts skipped steps that are not logged yet.
    """
    if step not in self.steps():
      name = f"{step}{_STOPPED}"
      known = {"seconds": seconds, "metrics": metrics, "skipped": skipped}
      self._write(name, step, state, math.nan, known)

  def _write(
    self,
    name: str,
    step: int,
    state: Any,
    score: float,
    known: Mapping[str, Any],
  ) -> None:
    arrays = _arrays_of(state)
    record = disk.to_json(
      {
        "digest": _digest(arrays.items()),
        "run": self._run,
        "step": step,
        "score": score if math.isfinite(score) else None,
        **known,
      }
    )
    data = safetensors.numpy.save(
      arrays, {"record": record, "seal": _seal(record)}
    )
    run_files.make_folder(self._folder)
    disk.write_atomically(self._folder / name, lambda file: file.write(data))

  def _tidy(self) -> None:
    """Deletes all checkpoints but the newest and the best."""
    self.keep_only({*self.steps()[:_NEWEST], self._best()})

  def forget_stopped(self) -> None:
    """Deletes the state saved on a signal."""
    for path in self._folder.glob(f"*{_STOPPED}"):
      path.unlink(missing_ok=True)

  def _best(self) -> int | None:
    """The step of the best finite score; of equal scores, the latest."""
    scores = {}
    for step in self.steps():
      with contextlib.suppress(DamagedError):
        scores[step] = self.record(step)["score"]
    known = [step for step, score in scores.items() if score is not None]
    return self._better(known, key=lambda step: scores[step], default=None)

  def steps(self) -> list[int]:
    """The steps that can be selected, newest first."""
    return steps_in(self._folder)

  def reached(self) -> list[int]:
    """The steps from which the run can resume, newest first."""
    return reached_in(self._folder)

  def record(self, step: int) -> dict[str, Any]:
    """The record of a step: its score, seconds of training, and more.

    A score that was not finite is None.

    Raises:
      DamagedError: if it differs from what was saved.
      InputError: if it cannot be read.
    """
    with self._opened(step) as file:
      length = int.from_bytes(file.read(_LENGTH), "little")
      if length > os.fstat(file.fileno()).st_size:
        raise DamagedError(f"checkpoint {step} is damaged: it is truncated.")
      header = file.read(length)
    try:
      metadata = json.loads(header)["__metadata__"]
      whole = metadata["seal"] == _seal(metadata["record"])
    except (ValueError, LookupError, TypeError, AttributeError):
      whole = False
    if not whole:
      raise DamagedError(f"checkpoint {step} is damaged: its record differs.")
    return self._checked(step, json.loads(metadata["record"]))

  def _checked(self, step: int, record: Any) -> dict[str, Any]:
    """The record, checked to be complete and of this run and step.

    Raises:
      DamagedError: if it is not.
    """
    problem = problem_in(record, _RECORD)
    if problem:
      problem = f"its record is damaged, or of an earlier version: {problem}"
    elif record["run"] != self._run:
      problem = "it belongs to another config or other data"
    elif record["step"] != step:
      problem = f"it was saved at step {record['step']} and renamed"
    if problem:
      raise DamagedError(f"checkpoint {step} cannot be used: {problem}.")
    return record

  def restore_step(self, step: int, like: Any) -> Any:
    """The verified state of one step, on the devices of `like`.

    Raises:
      DamagedError: if it differs from what was saved.
      InputError: if its shapes differ from `like`, or it cannot be read.
    """
    record = self.record(step)
    with self._opened(step) as file:
      data = file.read()
    try:
      arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
      raise DamagedError(f"checkpoint {step} is damaged: {error}.") from None
    if _digest(arrays.items()) != record["digest"]:
      raise DamagedError(f"checkpoint {step} is damaged: its digest differs.")
    self._refuse_another_kind(step, arrays, like)
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: _as_leaf(arrays[_name(path, leaf)], leaf), like
    )

  def _refuse_another_kind(
    self, step: int, arrays: Mapping[str, np.ndarray], like: Any
  ) -> None:
    """Raises if an undamaged state has other arrays than `like`."""
    now = {
      _name(path, leaf): _numbers(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(like)
    }
    for name in sorted(arrays.keys() | now.keys()):
      there, here = (
        f"{state[name].dtype} {state[name].shape}"
        if name in state
        else "missing"
        for state in (arrays, now)
      )
      if there != here:
        raise InputError(
          f"checkpoint {step} in {self._folder} is undamaged but holds another "
          f"kind of state: {name} is {there} there and {here} now. Use the "
          "config and the versions that it was saved with."
        )

  @contextlib.contextmanager
  def _opened(self, step: int) -> Iterator[BinaryIO]:
    """Opens the file of a step; explains a failure to read it."""
    try:
      with self._path(step).open("rb") as file:
        yield file
    except FileNotFoundError:
      raise DamagedError(f"checkpoint {step} is missing.") from None
    except (OSError, MemoryError) as error:
      raise InputError(
        f"checkpoint {step} in {self._folder} cannot be read: "
        f"{type(error).__name__}: {error}. It is not known to be damaged and "
        "is kept: run the same command again if the disk or the memory "
        "failed, or delete it."
      ) from error

  def restore(self, like: Any) -> tuple[int, Any] | None:
    """The newest undamaged step and its state; None without checkpoints.

    Damaged newer steps are logged and deleted, and will be written again.

    Raises:
      InputError: if all are damaged, or one cannot be read; nothing is deleted.
    """
    steps, damages = self.reached(), []
    for step in steps:
      try:
        state = self.restore_step(step, like)
      except DamagedError as error:
        damages.append(str(error))
        continue
      for message in damages:
        logging.getLogger(__name__).warning("%s Falling back.", message)
      self.delete_after(step)
      return step, state
    if steps:
      raise self.none_whole(damages)
    return None

  def none_whole(self, damages: Sequence[str]) -> InputError:
    """The error of a run without an undamaged checkpoint."""
    return InputError(
      f"no checkpoint in {self._folder} is undamaged: {' '.join(damages)} "
      "Nothing is deleted; to start over, delete the folder of the run."
    )

  def delete_after(self, step: int) -> None:
    """Deletes checkpoints after a step, so that they are written again.

    This includes leftovers of a killed process.
    """
    for newer in self.reached():
      if newer > step:
        self._path(newer).unlink(missing_ok=True)
    self._tidy()

  def keep_only(self, steps: Collection[int | None]) -> None:
    """Deletes the checkpoints of all other steps."""
    for step in self.steps():
      if step not in steps:
        self._path(step).unlink(missing_ok=True)


def steps_in(folder: Path) -> list[int]:
  """The steps with checkpoints in a folder, newest first.

  Raises:
    InputError: for checkpoints of an earlier version, one folder each.
  """
  if earlier := [p.name for p in folder.glob("*/") if p.name.isdecimal()]:
    raise InputError(
      f"{folder} has checkpoints of an earlier version of this package, one"
      f" folder each ({', '.join(earlier)}): continue with that version, or"
      " delete the folder of the run to start over."
    )
  return _numbers_in(folder, _SUFFIX)


def reached_in(folder: Path) -> list[int]:
  """Like `steps_in`, with states saved on a signal.

  Raises:
    InputError: like `steps_in`.
  """
  steps = {*steps_in(folder), *_numbers_in(folder, _STOPPED)}
  return sorted(steps, reverse=True)


def _numbers_in(folder: Path, suffix: str) -> list[int]:
  names = (path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
  return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _as_leaf(array: np.ndarray, like: Any) -> Any:
  """An array of a file as a leaf, on the devices of `like`."""
  # A copy: a step reuses the memory of its state, which must not be the file's.
  value = jnp.array(array)
  if _is_key(like):
    value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(like))
  return jax.device_put(value, like.sharding)
