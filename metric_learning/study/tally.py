"""The status of a study over all its runs: done, running, failed, time left."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tqdm import tqdm

from metric_learning.training.progress import in_time

log = logging.getLogger(__name__)

# Seconds between updates of the status on a terminal; elsewhere, seconds
# without a line after which one is written.
_ANEW, SILENT = 1.0, 60.0


class Counts(NamedTuple):
  """How many runs, or trials of a search, there are of each kind."""

  done: int
  running: int
  failed: int


class Tally:
  """The status of all runs together, while they are trained.

  On a terminal, it is one line below those of single runs. Elsewhere, each line
  of a run starts with it, and if no run ends for a minute, a line says so.
  """

  def __init__(
    self,
    total: int,
    look: Callable[..., Counts],
    running: Callable[[], int] | None = None,
  ):
    """Counts `total` runs by calling `look` whenever one ends.

    `look` gets what has changed, or nothing if that is unknown. `running`
    returns the number of running runs at any time; a thread calls it.
    """
    self._total, self._look = total, look
    self._counts: Counts = look()
    self._running = running or (lambda: self._counts.running)
    self._first, self._started = self._counts.done, time.perf_counter()
    self._told = self._started

  def looked(self, *changed: Any) -> str:
    """Counts the runs, and returns the status.

    >>> Tally(8, lambda: Counts(3, 1, 0)).looked()
    '3/8 done, 0 failed'
    """
    self._counts = self._look(*changed)
    self._told = time.perf_counter()
    return str(self)

  def __str__(self) -> str:
    """The counts, and the time left once a run has ended."""
    done, _, failed = self._counts
    words = f"{done}/{self._total} done, {failed} failed"
    if done == self._first:
      return words
    each = (time.perf_counter() - self._started) / (done - self._first)
    return f"{words}, {in_time(each * (self._total - done))} left"

  @contextlib.contextmanager
  def shown(self) -> Iterator[None]:
    """Shows the status while runs are trained, and updates it."""
    if not sys.stderr.isatty():
      with _meanwhile(self._tell_if_silent, SILENT / 10):
        yield
      return
    # Imported here: it warns in notebooks, which are not terminals.
    from tqdm.contrib.logging import logging_redirect_tqdm

    ours = [logging.getLogger("metric_learning")]
    with (
      contextlib.closing(tqdm(bar_format="{desc}")) as line,
      logging_redirect_tqdm(ours),
    ):
      show = lambda: line.set_description_str(self._whole())
      show()
      try:
        with _meanwhile(show, _ANEW):
          yield
      finally:
        line.set_description_str(str(self))

  def _whole(self) -> str:
    return f"{self}, {self._running()} running"

  def _tell_if_silent(self) -> None:
    if time.perf_counter() - self._told > SILENT:
      self._told = time.perf_counter()
      log.info("%s", self._whole())


@contextlib.contextmanager
def _meanwhile(act: Callable[[], Any], seconds: float) -> Iterator[None]:
  """Calls a function again and again in a thread until the block ends."""
  ended = threading.Event()

  def again() -> None:
    while not ended.wait(seconds):
      act()

  thread = threading.Thread(target=again, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
