"""Each side in a process of its own, measured in turn with its rivals."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.speed.sides import BUILDERS, Case

# A call that takes longer is not repeated; a side that takes longer is lost.
LONG, _LOST = 20.0, 900.0
# Before a turn: threads that wait for more work spin for a while on the cores
# that the other side needs (measured: it doubles our times).
_REST = 0.4
# After the rest threads wake slowly (measured: short calls take twice as long
# at first), and in training calls follow each other: this many seconds of
# calls do not count.
WARM = 0.3
# The calls of a turn that count: this many, or as many as fit.
CALLS, TURN = 10, 0.5
# On a virtual machine others take time away. A turn that lost more than this
# share of it is taken again, after a pause, up to so many times.
_STOLEN, _ATTEMPTS, _PAUSE = 0.03, 12, 2.0


# --- In a process of its own ------------------------------------------------


def _memory() -> tuple[int, int]:
  """Bytes that the process holds, and held at its peak since the reset."""
  status = Path("/proc/self/status")
  if not status.exists():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak
  fields = dict(
    line.split(":", 1)
    for line in status.read_text().splitlines()
    if ":" in line
  )
  now, peak = (int(fields[k].split()[0]) * 1024 for k in ("VmRSS", "VmHWM"))
  return now, peak


def _stolen() -> float:
  """Seconds, over all cores, that this virtual machine has lost to others."""
  stat = Path("/proc/stat")
  if not stat.exists():
    return 0.0
  return int(stat.read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def _forget() -> None:
  """Gives freed memory back and resets the peak, where the system can."""
  gc.collect()
  with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL("libc.so.6").malloc_trim(0)
  with contextlib.suppress(OSError):
    Path("/proc/self/clear_refs").write_text("5")


def _limit_memory() -> None:
  """Lets this process fail before it takes the memory of all others."""
  meminfo = Path("/proc/meminfo")
  if meminfo.exists():
    lines = dict(x.split(":", 1) for x in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (int(0.9 * free),) * 2)


def serve(pipe: Any, case: Case) -> None:
  """Builds one side, then measures a call whenever it is asked to."""
  _limit_memory()
  try:
    if case.kind.startswith("their"):
      import torch

      torch.set_num_threads(os.cpu_count() or 1)
      # The first use of torch starts its threads.
      torch.ones(256, 256, requires_grad=True).mm(torch.ones(256, 256)).sum()
    call = BUILDERS[case.kind](case)
    _forget()
    before, _ = _memory()
    start = time.perf_counter()
    value = call()
    seconds = time.perf_counter() - start
    pipe.send(
      {"value": value, "extra": _memory()[1] - before, "first": seconds}
    )
    while pipe.recv():
      warm = time.perf_counter() + WARM
      while seconds < TURN and time.perf_counter() < warm:
        call()
      times: list[float] = []
      while len(times) < CALLS and sum(times) < TURN:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
      pipe.send(times)
  except (EOFError, BrokenPipeError):
    pass
  except Exception as error:  # A rival that fails is a cell of the table.
    text = str(error).splitlines() or [""]
    memory = isinstance(error, MemoryError) or "alloc" in str(error).lower()
    short = "out of memory" if memory else f"{type(error).__name__}: {text[0]}"
    pipe.send({"failed": short[:80]})


# --- In turn ----------------------------------------------------------------


class Side:
  """One case in its process."""

  def __init__(self, case: Case):
    """Starts the process and waits for its first call."""
    context = multiprocessing.get_context("spawn")
    self.pipe, theirs = context.Pipe()
    self.process = context.Process(
      target=serve, args=(theirs, case), daemon=True
    )
    self.process.start()
    theirs.close()
    self.times: list[float] = []
    self.lost: list[float] = []
    self.first = self._answer()

  def _answer(self) -> Any:
    try:
      if self.pipe.poll(_LOST):
        return self.pipe.recv()
      return {"failed": f"over {_LOST:.0f} s"}
    except (EOFError, ConnectionResetError):
      return {"failed": "out of memory"}

  def turn(self) -> None:
    """A few more calls; a long one is not repeated."""
    if "failed" in self.first:
      return
    if self.first["first"] > LONG:
      self.times = [self.first["first"]]
      return
    for attempt in range(_ATTEMPTS):
      time.sleep(_PAUSE if attempt else _REST)
      before, start = _stolen(), time.perf_counter()
      self.pipe.send(True)
      answer = self._answer()
      if not isinstance(answer, list):
        return
      wall = time.perf_counter() - start
      lost = (_stolen() - before) / (wall * (os.cpu_count() or 1))
      if lost <= _STOLEN:
        break
    self.times += answer
    self.lost.append(lost)

  def stop(self) -> dict[str, Any]:
    """Ends the process; what was found."""
    with contextlib.suppress(OSError):
      self.pipe.send(False)
    self.process.join(5)
    if self.process.is_alive():
      self.process.kill()
    if self.times:
      self.first["seconds"] = statistics.median(self.times)
      self.first["stolen"] = max(self.lost, default=0.0)
    return self.first


def in_turn(repeats: int, *cases: Case | None) -> list[dict[str, Any]]:
  """Measures cases side by side; None is a rival that is not installed.

  repeats: turns of each.
  """
  sides = [None if case is None else Side(case) for case in cases]
  for _ in range(repeats):
    for side in sides:
      if side is not None:
        side.turn()
  return [
    {"failed": "not installed"} if side is None else side.stop()
    for side in sides
  ]
