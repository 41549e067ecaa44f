"""How a study goes, over all its runs: done, running, failed, time left."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tqdm import tqdm

from metric_learning.training.progress import in_time

# Seconds after which the line that lives is written anew.
_ANEW = 1.0


class Counts(NamedTuple):
  """How many runs, or trials of a search, there are of each kind."""

  done: int
  running: int
  failed: int


class Tally:
  """What is said of all runs together, while they are done.

  On a terminal one line lives below those of single runs; elsewhere its words
  begin each of these.
  """

  def __init__(
    self,
    total: int,
    look: Callable[..., Counts],
    running: Callable[[], int] | None = None,
  ):
    """Of `total` runs, which `look` counts whenever one is done.

    `look` is given what has changed, or nothing if that is not known.
    `running` counts those that run at any time; it is asked by a thread.
    """
    self._total, self._look = total, look
    self._counts: Counts = look()
    self._running = running or (lambda: self._counts.running)
    self._first, self._started = self._counts.done, time.perf_counter()

  def looked(self, *changed: Any) -> str:
    """Counts, and says what there is.

    >>> Tally(8, lambda: Counts(3, 1, 0)).looked()
    '3/8 done, 0 failed'
    """
    self._counts = self._look(*changed)
    return str(self)

  def __str__(self) -> str:
    """What was counted, and the time left, once anything is done."""
    done, _, failed = self._counts
    words = f"{done}/{self._total} done, {failed} failed"
    if done == self._first:
      return words
    each = (time.perf_counter() - self._started) / (done - self._first)
    return f"{words}, {in_time(each * (self._total - done))} left"

  @contextlib.contextmanager
  def shown(self) -> Iterator[None]:
    """Has the line that lives, on a terminal."""
    if not sys.stderr.isatty():
      yield
      return
    # It warns of notebooks, which are no terminals.
    from tqdm.contrib.logging import logging_redirect_tqdm

    ended = threading.Event()

    def write() -> None:
      while True:
        line.set_description_str(f"{self}, {self._running()} running")
        if ended.wait(_ANEW):
          return

    writer = threading.Thread(target=write, daemon=True)
    ours = [logging.getLogger("metric_learning")]
    with (
      contextlib.closing(tqdm(bar_format="{desc}")) as line,
      logging_redirect_tqdm(ours),
    ):
      writer.start()
      try:
        yield
      finally:
        ended.set()
        writer.join()
        line.set_description_str(str(self))
