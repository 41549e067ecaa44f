"""Stop signals: a run finishes its step and saves its state first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A shell reports 128 + the signal for a process that a signal ended.
_STATUS = 128


class _Asked:
  """The signal that this process received, and how many runs check for it."""

  def __init__(self) -> None:
    self.number = 0
    self.listeners = 0
    self.lock = threading.Lock()


_ASKED = _Asked()


class Stopped(KeyboardInterrupt):
  """A signal stopped the work; the message says what was saved.

  status: the exit status of a script: 130 after Ctrl-C, 143 after SIGTERM.
  """

  def __init__(self, message: str = "", number: int = 0):
    """Takes the number of the signal, by default the one that was `asked`."""
    super().__init__(message)
    self.status = _STATUS + (number or _ASKED.number or signal.SIGINT)


def asked() -> int:
  """The signal that asks the runs of this process to stop; 0 if none."""
  return _ASKED.number


@contextlib.contextmanager
def heeded() -> Iterator[None]:
  """A context for a loop that checks `asked` after each step.

  Within `signals_wait`, a signal only sets `asked` while such a loop runs.

  Raises:
    Stopped: on entry or exit, if a signal came that no check has handled.
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
  """Delays SIGINT and SIGTERM to the end of a step; a second acts at once.

  Outside training they raise `Stopped` at once. For the main thread only.
  """

  def handle(number: int, frame: Any) -> None:
    if _ASKED.listeners and not _ASKED.number:
      _ASKED.number = number
      # Not `print`: the signal may have interrupted a print.
      os.write(2, b"stopping after this step; a second signal stops at once.\n")
      return
    raise Stopped(number=number)

  before = {number: signal.signal(number, handle) for number in _SIGNALS}
  try:
    yield
  finally:
    _ASKED.number = 0
    for number, handler in before.items():
      signal.signal(number, handler)
