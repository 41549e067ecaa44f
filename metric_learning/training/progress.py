"""The progress of a run: one updated line on a terminal, or plain lines."""

import logging
import sys
import time
from collections.abc import Mapping

import jax
from tqdm import tqdm

log = logging.getLogger(__name__)

# The values of a step that are shown, with the names each may have.
_TOLD = {
  "loss": ("train/loss",),
  "active": ("train/active_fraction", "train/0/active_fraction"),
}


class Progress:
  """A terminal line: device, step rate, loss, active fraction, time left.

  Where there is no terminal, it writes a plain line after each evaluation.
  """

  def __init__(self, first: int, last: int, *, shown: bool):
    """Starts after step `first` of `last`; silent unless `shown`."""
    is_live = shown and sys.stderr.isatty()
    self._is_plain = shown and not is_live
    self._first, self._last, self._started = first, last, time.perf_counter()
    self._told = ""
    self._bar = tqdm(
      initial=first,
      total=last,
      unit="step",
      desc=jax.devices()[0].device_kind,
      disable=not is_live,
    )

  def step(self) -> None:
    """Counts one step."""
    self._bar.update()

  def logged(self, values: Mapping[str, float]) -> None:
    """Shows the newest logged values."""
    self._told = told(values)
    self._bar.set_postfix_str(self._told)

  def evaluated(self, done: int) -> None:
    """Writes a plain line if there is no terminal."""
    if self._is_plain:
      spent = max(time.perf_counter() - self._started, 1e-9)
      rate = (done - self._first) / spent
      left = in_time((self._last - done) / rate)
      log.info(
        "step %d of %d, %s, %.1f/s, %s left",
        *(done, self._last, self._told, rate, left),
      )

  def close(self) -> None:
    """Ends the line."""
    self._bar.close()


def told(values: Mapping[str, float]) -> str:
  """The values of a step, as text.

  >>> told({"train/loss": 0.12345, "train/active_fraction": 0.25})
  'loss 0.1235, active 0.25'
  """
  shown = {
    name: values[key]
    for name, keys in _TOLD.items()
    for key in keys
    if key in values
  }
  return ", ".join(f"{name} {value:.4g}" for name, value in shown.items())


def in_time(seconds: float) -> str:
  """Seconds as hours, minutes and seconds.

  >>> in_time(59.4), in_time(3_723)
  ('0:59', '1:02:03')
  """
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
