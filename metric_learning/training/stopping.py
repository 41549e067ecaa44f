"""Stop signals: a run finishes its step and saves its state first."""

import _thread
import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A shell reports 128 + the signal for a process that a signal ended.
_STATUS = 128
# Functions, by the end of their file and their name (None for all), in which
# an error gets lost: imports may turn it into an ImportError, and the
# connections of a database log its traceback.
_DEAF = (
  ("<frozen importlib._bootstrap>", None),
  (os.path.join("sqlalchemy", "pool", "base.py"), "_finalize_fairy"),
  (os.path.join("sqlalchemy", "pool", "base.py"), "_close_connection"),
)


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
  stop_if_asked()
  with _ASKED.lock:
    _ASKED.listeners += 1
  try:
    yield
  finally:
    with _ASKED.lock:
      _ASKED.listeners -= 1
  stop_if_asked()


def stop_if_asked() -> None:
  """Raises `Stopped` if a signal came that no check has handled."""
  if _ASKED.number:
    raise Stopped()


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
  """A frame, and those that called it."""
  while frame is not None:
    yield frame
    frame = frame.f_back


def _is_deaf(frame: FrameType) -> bool:
  """Whether an error in the function of a frame would get lost."""
  code = frame.f_code
  return any(
    code.co_filename.endswith(file) and name in (None, code.co_name)
    for file, name in _DEAF
  )


def _send_again(number: int, handler: Any, main: int) -> None:
  """Repeats a signal a moment later, while it still has the same handler.

  The thread `main` gets a real signal, which ends a wait of the system too.
  """
  time.sleep(0.01)
  if signal.getsignal(number) is handler:
    signal.pthread_kill(main, number)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
  """Delays SIGINT and SIGTERM to the end of a step; a second acts at once.

  Outside training they raise `Stopped` at once. For the main thread only.
  """

  outside = [*_frames(sys._getframe())]
  report = sys.unraisablehook

  def wait(number: int) -> None:
    # Not `Thread.start`, which could wait for a lock.
    main = threading.get_ident()
    _thread.start_new_thread(_send_again, (number, handle, main))

  def handle(number: int, frame: FrameType | None) -> None:
    inside = itertools.takewhile(lambda f: f not in outside, _frames(frame))
    if any(map(_is_deaf, inside)):
      wait(number)
      return
    if _ASKED.listeners and not _ASKED.number:
      _ASKED.number = number
      # Not `print`: the signal may have interrupted a print.
      os.write(2, b"stopping after this step; a second signal stops at once.\n")
      return
    raise Stopped(number=number)

  def drop(unraisable: Any) -> None:
    # Python drops the errors of what its garbage collector calls.
    if isinstance(unraisable.exc_value, Stopped):
      wait(unraisable.exc_value.status - _STATUS)
    else:
      report(unraisable)

  sys.unraisablehook = drop
  before = {number: signal.signal(number, handle) for number in _SIGNALS}
  try:
    yield
  finally:
    _ASKED.number = 0
    sys.unraisablehook = report
    for number, handler in before.items():
      signal.signal(number, handler)
