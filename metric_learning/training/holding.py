"""A run belongs to one process at a time."""

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
# Who has the lock. Beside it, since whoever tries a lock empties its file.
_HOLDER = ".holder"

log = logging.getLogger(__name__)


class HeldError(InputError):
  """Another process holds the folder of a run."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
  """Holds the folder of a run, so that no other process trains in it.

  The kernel releases the lock of a process that ends, however it ends: what a
  dead one left is taken over. A thread that holds the folder may hold it again.

  Raises:
    HeldError: that says who holds it.
  """
  # One lock for each file and thread, which counts how often it is taken.
  lock = filelock.FileLock(folder.absolute() / _LOCK, is_singleton=True)
  try:
    taken = lock.acquire(blocking=False)
  except filelock.Timeout:
    raise HeldError(
      f"{folder} is in use by {_holder(folder)}: wait until it ends, or stop"
      " it. Its files are left as they are."
    ) from None
  except NotImplementedError:
    log.warning(
      "%s is on a file system without locks: see to it that no other process"
      " trains in it.",
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
  # Only said to people: that it cannot be written stops nothing.
  with contextlib.suppress(OSError):
    (folder / _HOLDER).write_text(text)


def _holder(folder: Path) -> str:
  try:
    said = json.loads((folder / _HOLDER).read_text())
    return f"process {int(said['process'])} on {said['host']}"
  except (OSError, ValueError, TypeError, LookupError):
    return "another process"
