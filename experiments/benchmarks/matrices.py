"""The parts of the accelerator run that have neither network nor search.

`device`: versions and ceilings. `losses`: value and gradient on large batches.
`l1`: the matrix of L1 distances.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.clock import (
  Clock,
  Line,
  Unavailable,
  attempt,
  jax_line,
  torch_and_device,
  torch_line,
  unit_points,
)
from metric_learning import pairwise

_DIM = 128
_PACKAGES = (
  *("jax", "jaxlib", "flax", "optax", "numpy"),
  *("torch", "pytorch-metric-learning"),
)


# --- device -----------------------------------------------------------------


def machine() -> dict[str, Any]:
  """The device, and the versions of what computes on it."""
  versions = {"python": platform.python_version()}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = "not installed"
  device = jax.devices()[0]
  return {
    "device": device.device_kind,
    "backend": jax.default_backend(),
    "runtime": device.client.platform_version.split("\n")[0],
    "versions": versions,
  }


def device(clock: Clock) -> Iterator[Line]:
  """The ceilings: matrix products, multiply-adds, and copies."""
  side, numbers = (256, 2**16) if clock.tiny else (8192, 2**28)
  times = 4 if clock.tiny else _CHAIN
  normal = lambda shape, dtype: jax.random.normal(
    jax.random.key(0), shape, dtype
  )
  product = functools.partial(jnp.matmul, precision="highest")
  # Operations and bytes of each function.
  cases: dict[str, tuple[Callable[..., Any], Any, float, float]] = {
    "bf16 product": (
      lambda x: x @ x.T,
      normal((side, side), jnp.bfloat16),
      2.0 * side**3,
      0,
    ),
    "float32 product": (
      lambda x: product(x, x.T),
      normal((side, side), jnp.float32),
      2.0 * side**3,
      0,
    ),
    "float32 multiply-add": (
      functools.partial(_chain, times),
      normal((numbers // 16,), jnp.float32),
      2.0 * times * (numbers // 16),
      0,
    ),
    "copy": (
      lambda x: x + 1,
      normal((numbers,), jnp.float32),
      0,
      8.0 * numbers,
    ),
  }
  for name, (function, x, flops, moved) in cases.items():
    line = attempt(functools.partial(jax_line, clock, function, x))
    line |= {"name": name, "size": list(x.shape)}
    if "seconds" in line:
      line["flops_per_s"] = flops / line["seconds"]
      line["bytes_per_s"] = moved / line["seconds"]
    yield line


_CHAIN = 256


def _chain(times: int, x: jax.Array) -> jax.Array:
  """Multiply-adds of numbers that are in registers, in one kernel."""
  factor = 0.5 * jnp.tanh(x)
  for _ in range(times):
    x = x * factor + factor
  return x


# --- losses -----------------------------------------------------------------

# The linear form of contrastive is the one that both sides have.
_LOSSES = (
  *("contrastive_linear", "triplet", "supcon"),
  *("multi_similarity", "lifted", "fastap"),
)
# In the order of what they tell: each later size fills a gap.
_SIZES = (1024, 16384, 131072, 4096, 65536)
# Of a rehearsal: one of each kind, and one that has no L1 distance.
_TINY_LOSSES = ("contrastive_linear", "multi_similarity", "lifted")
_PER_CLASS = 8
# A line that would take longer than this, by a smaller one, is left out.
_LONGEST, _LATENCY = 6.0, 1e-3


def _pairs(losses: Sequence[str]) -> Iterator[tuple[str, pml.Pair]]:
  """Each loss as a pair of sides, under its product metric and under L1."""
  known = {pair.name: pair for pair in pml.LOSSES}
  for name in losses:
    yield "l2", known[name]
    yield (
      "l1",
      dataclasses.replace(
        known[name],
        ours={**known[name].ours, "metric": "l1", "normalize": "l1"},
        arguments={**known[name].arguments, "distance": pml.L1},
      ),
    )


def losses(clock: Clock) -> Iterator[Line]:
  """Value and gradient of losses on large batches, and their rival's."""
  # Times of smaller batches, which say how long a larger one would take.
  before: dict[tuple[str, str, str], list[tuple[int, Line]]] = {}
  for n in (32,) if clock.tiny else _SIZES:
    batch = _batch(n)
    for family, pair in _pairs(_TINY_LOSSES if clock.tiny else _LOSSES):
      if clock.left() < 0:
        return
      sides: dict[str, Line] = {}
      for side, measure in (("ours", _our_loss), ("theirs", _their_loss)):
        lines = before.setdefault((pair.loss, family, side), [])
        why = _too_large(n, lines, clock.left())
        sides[side] = (
          {"failed": why}
          if why
          else attempt(functools.partial(measure, clock, pair, batch))
        )
        lines.append((n, sides[side]))
      metric = "l1" if family == "l1" else pair.objective().metric
      flops = _loss_floor(family, n)
      yield {"name": pair.loss, "metric": metric, "n": n, **sides, **flops}


def _too_large(n: int, lines: list[tuple[int, Line]], left: float) -> str:
  """Why a batch of n is not tried, by those up to n; "" if it is."""
  limit = min(_LONGEST, left)
  # The largest first: it says most about n.
  for size, line in sorted(lines, key=lambda x: -x[0]):
    failed = line.get("failed", "")
    if size > n or failed.startswith("about"):
      continue
    if failed == "out of memory":
      return f"out of memory at n = {size:,}"
    if failed:
      # What cannot be done at all cannot be done at a larger size.
      return failed
    # A short call is mostly latency, and says little of a large one.
    seconds = line["seconds"] * (n / size) ** 2
    too_long = line["seconds"] > _LATENCY and seconds > limit
    return f"about {seconds:,.0f} s, by n = {size:,}" if too_long else ""
  return ""


def _loss_floor(family: str, n: int) -> Line:
  """Operations and bytes that value and gradient need at the least.

  Each distance once, and each once again in the gradient; no matrix in memory.
  """
  pairs = float(n) * n * _DIM
  # A product has a multiply-add for each number, and its gradient (symmetric:
  # one product) another. |x - y| needs a subtraction and an addition; the
  # gradient needs a comparison, a sign and an addition, each one instruction.
  work = {"flops": 4 * pairs} if family == "l2" else {"instructions": 5 * pairs}
  return {**work, "bytes": 8.0 * n * _DIM}


def _batch(n: int) -> pml_sides.Batch:
  random = np.random.default_rng(0)
  x = random.standard_normal((n, _DIM), np.float32)
  labels = np.arange(n) // _PER_CLASS
  # None of these losses has a table of classes: only its shape is read.
  table = np.broadcast_to(np.float32(0), (n // _PER_CLASS, 1, _DIM))
  return pml_sides.Batch(x, labels, table)


def _our_loss(clock: Clock, pair: pml.Pair, batch: pml_sides.Batch) -> Line:
  value, params = pml_sides.our_side(pair, batch)
  x, labels = map(jnp.asarray, pml_sides.inputs(pair, batch))
  of = lambda x, labels: value(params, x, labels)
  return jax_line(clock, jax.value_and_grad(of), x, labels)


def _their_loss(clock: Clock, pair: pml.Pair, batch: pml_sides.Batch) -> Line:
  torch, where = torch_and_device()
  if importlib.util.find_spec("pytorch_metric_learning") is None:
    raise Unavailable("pytorch-metric-learning is not installed")
  value, _ = pml_sides.their_side(pair, batch)
  points, labels = (
    torch.tensor(array, device=where) for array in pml_sides.inputs(pair, batch)
  )
  last: list[Any] = []

  def call() -> None:
    x = points.clone().requires_grad_()
    total = value(x, labels).sum()
    total.backward()
    last[:] = [total.detach()]

  line = torch_line(clock, torch, call)
  return {**line, "value": float(last[0])}


# --- l1 ---------------------------------------------------------------------


def l1(clock: Clock) -> Iterator[Line]:
  """The matrix of L1 distances, and its gradient, against torch.cdist."""
  for n in (64,) if clock.tiny else (1024, 4096, 8192, 16384):
    x, y = unit_points(n, _DIM), unit_points(n, _DIM, 1)
    weights = jax.random.uniform(jax.random.key(2), (n, n))
    matrix = lambda x, y: pairwise("l1", x, y)
    total = lambda x, y, weights: jnp.sum(weights * pairwise("l1", x, y))
    gradient = jax.value_and_grad(total, argnums=(0, 1))
    pairs = float(n) * n * _DIM
    for name, function, args, instructions in (
      ("forward", matrix, (x, y), 2 * pairs),
      # Two gradients, of x and of y: each adds once for each sign.
      ("forward and backward", gradient, (x, y, weights), 6 * pairs),
    ):
      if clock.left() < 0:
        return
      yield {
        "name": name,
        "n": n,
        "ours": attempt(functools.partial(jax_line, clock, function, *args)),
        "theirs": attempt(functools.partial(_cdist, clock, args)),
        "instructions": instructions,
        "bytes": 4.0 * n * n,
      }


def _cdist(clock: Clock, args: tuple[jax.Array, ...]) -> Line:
  torch, where = torch_and_device()
  x, y, *weights = (torch.tensor(np.asarray(a), device=where) for a in args)
  last: list[Any] = []

  def call() -> None:
    if not weights:
      torch.cdist(x, y, p=1.0)
      return
    first, second = (a.clone().requires_grad_() for a in (x, y))
    total = (weights[0] * torch.cdist(first, second, p=1.0)).sum()
    total.backward()
    last[:] = [total.detach()]

  line = torch_line(clock, torch, call)
  return {**line, "value": float(last[0])} if last else line
