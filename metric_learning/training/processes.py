"""One run by several processes, which do the same steps with the same numbers.

Each has a share of every batch, and a folder that it writes as if it were
alone. The folder of the first is that of the run; the others begin with a copy
of what it holds, and throw theirs away. So no process needs the disk of
another, and all of them resume, choose and end alike.
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

# What a process goes on from, beside the checkpoints.
_FILES = (
  run_files.DATA,
  run_files.CONFIG,
  run_files.METRICS,
  run_files.RESULT,
)
# Bytes that are sent at a time, and seconds without a sign of life after which
# a process is given up.
_PIECE = 2**26
_HEARTBEAT = 30

T = TypeVar("T")


class LostError(RuntimeError):
  """What all processes compute together failed, as when one of them is gone."""


def join() -> None:
  """Joins the processes of a run. To be called before anything else of JAX.

  By JAX_COORDINATOR_ADDRESS (HOST:PORT of the first), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID; what is not set is what JAX detects: SLURM, Open MPI,
  Kubernetes, Cloud TPU.

  Raises:
    InputError: if these do not say who takes part, or it cannot be reached.
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
  """Leaves the others, all of which do so too; what follows is done alone."""
  if jax.process_count() > 1:
    jax.distributed.shutdown()


@contextlib.contextmanager
def watched() -> Iterator[None]:
  """Within it, what fails for want of another process says so.

  Raises:
    LostError: for an error of JAX, where several processes compute together.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    reason = str(error).partition("\n")[0]
    raise LostError(
      "another process of this run has ended, or what all of them compute"
      f" failed: {reason}. Start all of them again: the run goes on from its"
      " last checkpoint."
    ) from error


def _whole(name: str) -> int | None:
  text = os.environ.get(name)
  if text is not None and not text.isdecimal():
    raise InputError(f"{name}={text!r} must be a whole number.")
  return None if text is None else int(text)


def together(work: Callable[[], T]) -> T:
  """What `work` gives here, once it has worked in all processes.

  >>> together(lambda: 3)
  3

  Raises:
    InputError: of this process, or of another.
  """
  if jax.process_count() == 1:
    return work()
  found, said = [], ""
  try:
    found.append(work())
  except InputError as error:
    said = str(error)
  wrong = [text.decode() for text in _from_each(said.encode())]
  if said:
    raise InputError(said)
  for index, text in enumerate(wrong):
    if text:
      raise InputError(f"process {index} of the run: {text}")
  return found[0]


@contextlib.contextmanager
def own_folder(workdir: Path, claim: Callable[[Path], None]) -> Iterator[Path]:
  """The folder that this process writes; `claim` makes it that of the run.

  Raises:
    InputError: if `claim` refuses it, in any of the processes.
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
    # What the first was given is compared with what was given here.
    together(lambda: None if first else claim(folder))
    yield folder


def _copy(folder: Path, first: bool) -> None:
  """Sends what the first process goes on from, and writes it in the others."""
  names = []
  if first:
    kept = [folder / name for name in _FILES]
    kept += sorted((folder / "checkpoints").glob("*.safetensors"))
    names = [p.relative_to(folder).as_posix() for p in kept if p.exists()]
  for name in json.loads(_of_first(json.dumps(names).encode())):
    data = _of_first((folder / name).read_bytes() if first else b"")
    if not first:
      (folder / name).parent.mkdir(exist_ok=True)
      (folder / name).write_bytes(data)


def _of_first(data: bytes) -> bytes:
  """The bytes that the first process gives, in all of them."""
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
  """The bytes that each process gives, in all of them."""
  sizes = multihost_utils.process_allgather(np.array([len(data)], np.int32))
  padded = np.zeros(max(1, int(np.max(sizes))), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)
  rows = np.asarray(multihost_utils.process_allgather(padded), np.uint8)
  return [
    row[: int(size)].tobytes()
    for row, size in zip(rows, np.ravel(sizes), strict=True)
  ]
