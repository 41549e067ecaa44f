"""Signals to stop: what trains finishes its step and saves its state first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a shell reports of a process that a signal ended.
_STATUS = 128


class _Asked:
  """What this process was asked for, and how many runs will see it."""

  def __init__(self) -> None:
    self.number = 0
    self.listeners = 0
    self.lock = threading.Lock()


_ASKED = _Asked()


class Stopped(KeyboardInterrupt):
  """A signal stopped what went on; the message says what is left.

  status: what a script exits with: 130 after Ctrl-C, 143 after SIGTERM.
  """

  def __init__(self, message: str = "", number: int = 0):
    """By the number of the signal, which is the one that was `asked` for."""
    super().__init__(message)
    self.status = _STATUS + (number or _ASKED.number or signal.SIGINT)


def asked() -> int:
  """The signal that wants the runs of this process to stop; 0 without."""
  return _ASKED.number


@contextlib.contextmanager
def heeded() -> Iterator[None]:
  """Around steps after each of which `asked` is looked at.

  A signal then waits for that, where `signals_wait` is in force.

  Raises:
    Stopped: at the end, or before, if a signal came and nobody saw to it.
  """
  _stop_if_asked()
  with _ASKED.lock:
    _ASKED.listeners += 1
  try:
    yield
  finally:
    with _ASKED.lock:
      _ASKED.listeners -= 1
  _stop_if_asked()


def _stop_if_asked() -> None:
  if _ASKED.number:
    raise Stopped()


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
  """Makes SIGINT and SIGTERM wait for the end of a step; a second one does not.

  Where nothing trains they raise `Stopped` at once. For the main thread.
  """

  def handle(number: int, frame: Any) -> None:
    if _ASKED.listeners and not _ASKED.number:
      _ASKED.number = number
      # Not print: the signal may have come while that was at work.
      os.write(2, b"stopping after this step; again: at once.\n")
      return
    raise Stopped(number=number)

  before = {number: signal.signal(number, handle) for number in _SIGNALS}
  try:
    yield
  finally:
    _ASKED.number = 0
    for number, handler in before.items():
      signal.signal(number, handler)
