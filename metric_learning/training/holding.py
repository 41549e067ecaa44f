"""Locks: a run belongs to one process at a time."""

import contextlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import filelock

from metric_learning.errors import InputError

_LOCK = ".lock"
# Names the owner of the lock. A separate file, since trying a lock empties its
# file.
_HOLDER = ".holder"

log = logging.getLogger(__name__)


class HeldError(InputError):
  """Another process holds the folder of a run."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
  """Holds the folder of a run, so that no other process trains in it.

  The kernel releases the lock when a process ends for any reason, so the run of
  a dead process can be resumed. A thread may hold the folder several times.

  Raises:
    HeldError: naming the owner, if another process holds it.
  """
  # One lock for each file and thread; it counts its holders.
  lock = filelock.FileLock(folder.absolute() / _LOCK, is_singleton=True)
  try:
    taken = lock.acquire(blocking=False)
  except filelock.Timeout:
    raise HeldError(
      f"{folder} is in use by {_holder(folder)}: wait until it ends, or stop "
      "it. Its files are not changed."
    ) from None
  except NotImplementedError:
    log.warning(
      "%s is on a file system without locks: make sure that no other process "
      "trains in it.",
      folder,
    )
    yield
    return
  with taken:
    if lock.lock_counter == 1:
      _say_who(folder)
    yield


def _say_who(folder: Path) -> None:
  text = json.dumps({"process": os.getpid(), "host": platform.node()})
  # For people to read: a failure to write it is ignored.
  with contextlib.suppress(OSError):
    (folder / _HOLDER).write_text(text)


def _holder(folder: Path) -> str:
  try:
    holder = json.loads((folder / _HOLDER).read_text())
    return f"process {int(holder['process'])} on {holder['host']}"
  except (OSError, ValueError, TypeError, LookupError):
    return "another process"
