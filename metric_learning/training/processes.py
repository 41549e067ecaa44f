"""One run trained by several processes, with the same steps and numbers.

Each process has a share of every batch, and writes a folder of its own. The
folder of the first process is that of the run; the others start from a copy of
it and discard theirs at the end. So no process needs the disk of another, and
all resume, select and end alike.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from metric_learning.errors import InputError
from metric_learning.training import run_files

# The files from which a process resumes, beside the checkpoints.
_FILES = (
  run_files.DATA,
  run_files.CONFIG,
  run_files.METRICS,
  run_files.RESULT,
)
# Bytes sent at a time, and seconds of silence after which a process counts as
# ended.
_PIECE = 2**26
_HEARTBEAT = 30

T = TypeVar("T")


class LostError(RuntimeError):
  """A joint computation failed, for example because a process has ended."""


def join() -> None:
  """Joins the processes of a run. Call it before any other use of JAX.

  It reads JAX_COORDINATOR_ADDRESS (HOST:PORT of the first process),
  JAX_NUM_PROCESSES and JAX_PROCESS_ID. Under SLURM, Open MPI, Kubernetes and
  Cloud TPU, JAX detects those that are not set.

  Raises:
    InputError: if the processes are not known, or one cannot be reached.
  """
  count, index = (
    _whole(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  )
  try:
    jax.distributed.initialize(
      num_processes=count,
      process_id=index,
      heartbeat_timeout_seconds=_HEARTBEAT,
      shutdown_timeout_seconds=_HEARTBEAT,
    )
  except (ValueError, RuntimeError) as error:
    raise InputError(
      f"--distributed: the processes of the run cannot be joined: {error} Set"
      " JAX_COORDINATOR_ADDRESS=HOST:PORT (of the first process),"
      " JAX_NUM_PROCESSES and JAX_PROCESS_ID, or start the command by srun:"
      " docs/many_devices.md."
    ) from None


def leave() -> None:
  """Disconnects from the other processes; all processes must call it."""
  if jax.process_count() > 1:
    jax.distributed.shutdown()


@contextlib.contextmanager
def watched() -> Iterator[None]:
  """A context that explains failures caused by another process.

  Raises:
    LostError: for an error of JAX in a joint computation.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = str(error).partition("\n")[0]
    raise LostError(
      "another process of this run has ended, or a joint computation failed: "
      f"{reason}. Start all processes again: the run resumes from its last "
      "checkpoint."
    ) from error


def _whole(name: str) -> int | None:
  text = os.environ.get(name)
  if text is not None and not text.isdecimal():
    raise InputError(f"{name}={text!r} must be a whole number.")
  return None if text is None else int(text)


def together(work: Callable[[], T]) -> T:
  """The result of `work` in this process, once it has succeeded in all.

  >>> together(lambda: 3)
  3

  Raises:
    InputError: if it failed in this process or another.
  """
  if jax.process_count() == 1:
    return work()
  results, failure = [], ""
  try:
    results.append(work())
  except InputError as error:
    failure = str(error)
  wrong = [text.decode() for text in _from_each(failure.encode())]
  if failure:
    raise InputError(failure)
  for index, text in enumerate(wrong):
    if text:
      raise InputError(f"process {index} of the run: {text}")
  return results[0]


@contextlib.contextmanager
def own_folder(workdir: Path, claim: Callable[[Path], None]) -> Iterator[Path]:
  """The folder that this process writes, claimed for the run by `claim`.

  Raises:
    InputError: if `claim` refuses it in any process.
  """
  if jax.process_count() == 1:
    claim(workdir)
    yield workdir
    return
  first = jax.process_index() == 0
  together(lambda: claim(workdir) if first else None)
  with contextlib.ExitStack() as opened:
    folder = workdir
    if not first:
      scratch = tempfile.TemporaryDirectory(prefix="metric_learning_")
      folder = Path(opened.enter_context(scratch))
    _copy(folder, first)
    # The config and data of the first process are compared with those here.
    together(lambda: None if first else claim(folder))
    yield folder


def _copy(folder: Path, first: bool) -> None:
  """Copies the files of the first process to the others."""
  names = []
  if first:
    paths = [folder / name for name in _FILES]
    paths += sorted((folder / "checkpoints").glob("*.safetensors"))
    names = [p.relative_to(folder).as_posix() for p in paths if p.exists()]
  for name in json.loads(_of_first(json.dumps(names).encode())):
    data = _of_first((folder / name).read_bytes() if first else b"")
    if not first:
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).write_bytes(data)


def _of_first(data: bytes) -> bytes:
  """Returns, in every process, the bytes that the first process passes."""
  sizes = np.array(divmod(len(data), _PIECE), np.int32)
  many, rest = map(int, multihost_utils.broadcast_one_to_all(sizes))
  pieces = []
  for i, size in enumerate([_PIECE] * many + [rest]):
    piece = np.zeros(size, np.uint8)
    if jax.process_index() == 0:
      piece[:] = np.frombuffer(data[i * _PIECE :][:size], np.uint8)
    sent: Any = multihost_utils.broadcast_one_to_all(piece)
    pieces.append(np.asarray(sent, np.uint8).tobytes())
  return b"".join(pieces)


def _from_each(data: bytes) -> list[bytes]:
  """Returns, in every process, the bytes that each process passes."""
  sizes = multihost_utils.process_allgather(np.array([len(data)], np.int32))
  padded = np.zeros(max(1, int(np.max(sizes))), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)
  rows = np.asarray(multihost_utils.process_allgather(padded), np.uint8)
  return [
    row[: int(size)].tobytes()
    for row, size in zip(rows, np.ravel(sizes), strict=True)
  ]
