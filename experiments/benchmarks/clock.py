"""Times and memory of one line: warm, repeated, and a failure is its result.

A line is a dict that JSON can hold. Compilation and the first call are apart
from `seconds`, the median of the calls after them.
"""

import gc
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metric_learning import devices
from metric_learning.errors import InputError

Line = dict[str, Any]

# Calls of one line: at least three and until a second is full, at most thirty.
# A call that is longer than `_LONG` seconds is not repeated after the first.
_LEAST, _MOST, _ENOUGH, _LONG = 3, 30, 1.0, 3.0


class Clock:
  """What is left of a budget of seconds, and whether this is a rehearsal."""

  def __init__(self, seconds: float, tiny: bool):
    """Starts to count."""
    self._end = time.monotonic() + seconds
    self.tiny = tiny

  def left(self) -> float:
    """Seconds until the end; negative after it."""
    return self._end - time.monotonic()


def timed(clock: Clock, call: Callable[[], Any]) -> Line:
  """The first call, and the median of the calls after it."""
  start = time.perf_counter()
  call()
  first = time.perf_counter() - start
  times: list[float] = []
  while not times or (
    not clock.tiny
    and max(times) < _LONG
    and len(times) < _MOST
    and (len(times) < _LEAST or sum(times) < _ENOUGH)
  ):
    start = time.perf_counter()
    call()
    times.append(time.perf_counter() - start)
  return {"first": first, "seconds": statistics.median(times)}


def jax_line(clock: Clock, function: Callable[..., Any], *args: Any) -> Line:
  """A compiled function: compile time, time, and memory beside its arguments.

  `planned` is what the compiler allots; `peak` is what the device measured,
  and None where an earlier line was larger: its counter cannot be reset.
  """
  start = time.perf_counter()
  options = devices.wide_vectors()
  compiled = jax.jit(function, compiler_options=options).lower(*args).compile()
  line: Line = {"compile": time.perf_counter() - start}
  line["planned"] = planned(compiled)
  held, peak = _device_memory()
  last: list[Any] = []

  def call() -> None:
    # What the call before gave is gone, so that memory is that of one call.
    last.clear()
    last.append(jax.block_until_ready(compiled(*args)))

  line |= timed(clock, call)
  line["peak"] = _risen(held, peak)
  value = jax.tree.leaves(last)[0]
  if value.ndim == 0:
    line["value"] = float(value)
  return line


def call_line(clock: Clock, build: Callable[[], Callable[[], Any]]) -> Line:
  """A call that compiles on its first use; `first` holds the compilation."""
  held, peak = _device_memory()
  line = timed(clock, build())
  return {**line, "peak": _risen(held, peak)}


def planned(compiled: Any) -> int | None:
  """Bytes that a compiled function holds beside its arguments."""
  memory = compiled.memory_analysis()
  if memory is None:
    return None
  return (
    memory.temp_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )


def _device_memory() -> tuple[int | None, int | None]:
  """Bytes in use now and at the peak; None where a device does not say."""
  found = jax.local_devices()[0].memory_stats() or {}
  return found.get("bytes_in_use"), found.get("peak_bytes_in_use")


def _risen(held: int | None, before: int | None) -> int | None:
  _, peak = _device_memory()
  if held is None or before is None or peak is None or peak <= before:
    return None
  return peak - held


class Unavailable(Exception):
  """A rival that cannot be measured here."""


def torch_and_device() -> tuple[Any, str]:
  """PyTorch, and its name of the device that JAX uses.

  Raises:
    Unavailable: if it is not installed, or does not see that device.
  """
  if importlib.util.find_spec("torch") is None:
    raise Unavailable("torch is not installed")
  import torch

  if jax.default_backend() == "cpu":
    return torch, "cpu"
  if not torch.cuda.is_available():
    raise Unavailable("torch does not see the GPU")
  return torch, "cuda"


def torch_line(clock: Clock, torch: Any, call: Callable[[], Any]) -> Line:
  """A call of PyTorch: time, and memory beside what is held before it."""
  on_gpu = jax.default_backend() != "cpu"
  held = 0
  if on_gpu:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()

  def finished() -> None:
    call()
    if on_gpu:
      torch.cuda.synchronize()

  line = timed(clock, finished)
  peak = torch.cuda.max_memory_allocated() - held if on_gpu else None
  return {**line, "peak": peak}


def attempt(measure: Callable[[], Line]) -> Line:
  """The line, or {"failed": why}; then gives back what the line held."""
  try:
    line = measure()
  except Exception as error:  # A line that fails is a cell of the table.
    line = {"failed": _why(error)}
  gc.collect()
  if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
    torch.cuda.empty_cache()
  return line


def _why(error: Exception) -> str:
  text = " ".join(str(error).split())
  lower = text.lower()
  if (
    isinstance(error, MemoryError)
    or "resource_exhausted" in lower
    or "out of memory" in lower
    or "can't allocate memory" in lower
  ):
    return "out of memory"
  if isinstance(error, Unavailable | InputError):
    return text[:160]
  return f"{type(error).__name__}: {text}"[:160]


def unit_points(n: int, dim: int, seed: int = 0) -> jax.Array:
  """Random points of norm 1, made on the device."""
  x = jax.random.normal(jax.random.key(seed), (n, dim))
  return x / jnp.linalg.norm(x, axis=1, keepdims=True)
