"""Measures our losses, distances and evaluation, and their rivals, in turn.

python -m experiments.benchmarks.speed \
  --suite=distances,losses,memory,evaluation,input

Value and gradient in float32; of evaluation, Recall@1, R-precision and MAP@R;
of input, training steps on images read from files, against images in memory.
Each side of a line runs in a process of its own, with as many threads; the two
are measured in turn, and medians are shown. Extra memory is how much the
process grows above what it holds before the call, at its peak. The rivals,
pytorch-metric-learning (with faiss) and torch.cdist, need the extra: pip
install -e '.[bench]'; without them their columns stay empty.

Every line is kept in the JSON file as soon as it is measured, with its commit.
Another call adds to the file: its lines replace those of their name and size.

Two more suites train: loop, what a run adds to its steps, and population,
members as one program against runs in turn (on a CPU, an hour).
"""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import cli
from experiments.benchmarks import pml, training
from metric_learning.errors import InputError, check_choice
from metric_learning.training import records

_AGAINST_RIVALS = ("distances", "losses", "memory", "evaluation", "input")
SUITES = (*_AGAINST_RIVALS, "loop", "population")

_SUITE = flags.DEFINE_list(
  "suite", list(_AGAINST_RIVALS), "Which: " + ", ".join(SUITES)
)
_OUTPUT = cli.define_path("output", "results/benchmarks.md", "The tables.")
_JSON = cli.define_path(
  "json", "results/benchmarks.json", "The numbers, as JSON."
)
_N = flags.DEFINE_integer("n", 2048, "Items in a batch.", 16)
_CLASSES = flags.DEFINE_integer("classes", 256, "Classes in a batch.", 2)
_DIM = flags.DEFINE_integer("dim", 128, "Dimensions.", 2)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns of each side.", 1)
_ONLY = flags.DEFINE_list("only", [], "Only lines whose name contains these.")
_BLOCKED = flags.DEFINE_list(
  "blocked", ["8192", "16384", "32768"], "Batches of the suite memory."
)
_ROWS = flags.DEFINE_integer(
  "rows", 128, "Of a block in the suite memory; 128 is auto's on a CPU.", 1
)
_GROUPED = flags.DEFINE_bool(
  "grouped",
  False,
  "Populations with grouped convolutions too, which a CPU never has.",
)
_MEMBERS = flags.DEFINE_list(
  "members", ["1", "8", "32", "128"], "Of the suite population."
)
_AUTO = flags.DEFINE_list(
  "auto", ["512", "2048", "8192"], "Batches where `auto` is compared."
)

# A call that takes longer is not repeated; a side that takes longer is lost.
_LONG, _LOST = 20.0, 900.0
# Before a turn: threads that wait for more work spin for a while on the cores
# that the other side needs (measured: it doubles our times).
_REST = 0.4
# The calls of a turn: this many, or as many as fit.
_CALLS, _TURN = 5, 0.5
# On a virtual machine others take time away. A turn that lost more than this
# share of it is taken again, after a pause, up to so many times.
_STOLEN, _ATTEMPTS, _PAUSE = 0.03, 12, 2.0


@dataclasses.dataclass(frozen=True)
class Case:
  """One line of one side: what to build, and how large.

  kind: a key of `_BUILDERS`.
  folder: of images to train on.
  """

  kind: str
  name: str
  n: int
  classes: int
  dim: int
  block_size: Any = "auto"
  folder: Any = ""


# --- In a process of its own ------------------------------------------------


def _batch(case: Case) -> pml.Batch:
  random = np.random.RandomState(0)
  normal = lambda *shape: np.asarray(random.normal(size=shape), np.float32)
  labels = np.repeat(np.arange(case.classes), -(-case.n // case.classes))
  return pml.Batch(
    normal(case.n, case.dim),
    labels[: case.n],
    normal(case.classes, pml.CENTERS, case.dim),
  )


def _compiled(function: Callable[..., Any], *args: Any) -> Callable[[], float]:
  """A call without arguments, compiled, that waits for value and gradient."""
  import jax

  compiled = jax.jit(function).lower(*args).compile()

  def call() -> float:
    return float(jax.block_until_ready(compiled(*args))[0])

  return call


def _our_loss(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp

  pair = _PAIRS.get(case.name) or pml.Pair(case.name, "")
  batch = _batch(case)
  value, params = pml.our_side(pair, batch, block_size=case.block_size)
  x, labels = map(jnp.asarray, pml.inputs(pair, batch))
  both = jax.value_and_grad(value, argnums=(0, 1))
  return _compiled(both, params, x, labels)


def _their_loss(case: Case) -> Callable[[], float]:
  import torch

  pair, batch = _PAIRS[case.name], _batch(case)
  value, learned = pml.their_side(pair, batch)
  points, labels = map(torch.tensor, pml.inputs(pair, batch))

  def call() -> float:
    x = points.clone().requires_grad_()
    if learned is not None:
      learned.grad = None
    found = value(x, labels).sum()
    found.backward()
    return float(found.detach())

  return call


def _our_distance(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp

  from metric_learning import pairwise

  metric, exact, _ = _DISTANCES[case.name]
  x = jnp.asarray(_batch(case).x)
  weights = jnp.asarray(_cotangent(case))
  total = lambda x: jnp.sum(weights * pairwise(metric, x, x, exact=exact))
  return _compiled(jax.value_and_grad(total), x)


def _their_distance(case: Case) -> Callable[[], float]:
  import torch

  of = _DISTANCES[case.name][2]
  points, weights = map(torch.tensor, (_batch(case).x, _cotangent(case)))

  def call() -> float:
    x = points.clone().requires_grad_()
    if of == "cosine":
      unit = torch.nn.functional.normalize(x)
      distances = 1 - unit @ unit.T
    elif of == "squared":
      distances = torch.cdist(x, x) ** 2
    else:
      distances = torch.cdist(x, x, p=of)
    found = torch.sum(weights * distances)
    found.backward()
    return float(found.detach())

  return call


def _cotangent(case: Case) -> np.ndarray:
  """What multiplies a matrix: positive, so that nothing cancels in the sum."""
  random = np.random.RandomState(1)
  return random.uniform(size=(case.n, case.n)).astype(np.float32)


def _optax(case: Case) -> Callable[[], float]:
  import jax
  import jax.numpy as jnp
  import optax

  batch = _batch(case)
  labels = jnp.asarray(batch.labels)

  def value(x):
    return optax.losses.ntxent(x, labels, temperature=0.07)

  return _compiled(jax.value_and_grad(value), jnp.asarray(batch.x))


def _embeddings(case: Case) -> tuple[np.ndarray, np.ndarray]:
  """Unit vectors whose classes overlap a little, and their labels."""
  random = np.random.RandomState(0)
  labels = np.arange(case.n) % case.classes
  x = random.normal(size=(case.classes, case.dim))[labels]
  x += 1.3 * random.normal(size=(case.n, case.dim))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  return x.astype(np.float32), labels


def _our_retrieval(case: Case) -> Callable[[], list[float]]:
  from metric_learning.evaluation import retrieval

  names = ("recall_at_1", "r_precision", "map_at_r")
  x, labels = _embeddings(case)

  def call() -> list[float]:
    found = retrieval(x, labels, metric=case.name, ks=(1,))
    return [found[name] for name in names]

  return call


def _their_retrieval(case: Case) -> Callable[[], list[float]]:
  import torch
  from pytorch_metric_learning.utils.accuracy_calculator import (
    AccuracyCalculator,
  )

  names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
  calculator = AccuracyCalculator(
    include=names, k="max_bin_count", device=torch.device("cpu")
  )
  x, labels = map(torch.tensor, _embeddings(case))

  def call() -> list[float]:
    found = calculator.get_accuracy(x, labels)
    return [float(found[name]) for name in names]

  return call


def _training(case: Case) -> Callable[[], float]:
  """Training steps of conv4 at 96×96, with the loop's own input."""
  import jax
  import jax.numpy as jnp

  from metric_learning import data
  from metric_learning.training import base_config, override
  from metric_learning.training.plan import feed_of, make_plan
  from metric_learning.training.step import compiled

  config = override(
    base_config(),
    {
      "model.name": "conv4",
      "model.embedding_dim": case.dim,
      "data.name": "image_folder",
      "data.data_dir": case.folder,
      "data.split": "classes",
      "data.image_size": (96, 96),
      "data.stream": case.kind == "streamed",
      "batch.classes_per_batch": case.classes,
      "batch.images_per_class": case.n // case.classes,
      "train.steps": 10**6,
    },
  )
  plan = make_plan(config, data.load(config.data))
  state = plan.program.init(0, plan.num_classes, plan.numbers)
  traced = {name: jnp.float32(x) for name, x in plan.numbers.items()}
  feed = feed_of(plan, 0)
  step, fed = compiled(plan.program.step, feed.gather), enumerate(feed.own)

  def steps(count: int) -> float:
    nonlocal state
    for _ in range(count):
      number, own = next(fed)
      state, values = step(
        state, number, feed.shared, own, jax.random.key(0), traced
      )
    return float(values["loss"])

  steps(1)  # compiles
  return lambda: steps(_steps())


def _steps() -> int:
  """Of one call: more than are read ahead, or reading would not be measured."""
  from metric_learning.data.stream import THREADS

  return 2 * THREADS


_BUILDERS = {
  "ours": _our_loss,
  "theirs": _their_loss,
  "our distance": _our_distance,
  "their distance": _their_distance,
  "optax": _optax,
  "our retrieval": _our_retrieval,
  "their retrieval": _their_retrieval,
  "streamed": _training,
  "in memory": _training,
  **training.BUILDERS,
}
_PAIRS = {pair.name: pair for pair in pml.LOSSES}
# Our metric, whether exact, and the p of torch.cdist.
_DISTANCES: dict[str, tuple[Any, bool, Any]] = {
  "l1": ("l1", False, 1.0),
  "l2": ("l2", False, 2.0),
  "l2, exact": ("l2", True, 2.0),
  "squared_l2": ("squared_l2", False, "squared"),
  "cosine": ("cosine", False, "cosine"),
  "lp, p = 3": (("lp", {"p": 3}), False, 3.0),
  "linf": ("linf", False, math.inf),
}


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
    call = _BUILDERS[case.kind](case)
    _forget()
    before, _ = _memory()
    start = time.perf_counter()
    value = call()
    seconds = time.perf_counter() - start
    pipe.send(
      {"value": value, "extra": _memory()[1] - before, "first": seconds}
    )
    while pipe.recv():
      times: list[float] = []
      while len(times) < _CALLS and sum(times) < _TURN:
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
    if self.first["first"] > _LONG:
      self.times = [self.first["first"]]
      return
    for attempt in range(_ATTEMPTS):
      time.sleep(_PAUSE if attempt else _REST)
      before = _stolen()
      self.pipe.send(True)
      answer = self._answer()
      if not isinstance(answer, list):
        return
      lost = (_stolen() - before) / (sum(answer) * (os.cpu_count() or 1))
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


def in_turn(*cases: Case | None) -> list[dict[str, Any]]:
  """Measures cases side by side; None is a rival that is not installed."""
  sides = [None if case is None else Side(case) for case in cases]
  for _ in range(_REPEATS.value):
    for side in sides:
      if side is not None:
        side.turn()
  return [
    {"failed": "not installed"} if side is None else side.stop()
    for side in sides
  ]


# --- Suites -----------------------------------------------------------------


def _size(n: int | None = None) -> dict[str, int]:
  """The batch of a line; a smaller one has as many items in each class."""
  if n is None or n >= _N.value:
    return {"n": _N.value, "classes": _CLASSES.value, "dim": _DIM.value}
  return {"n": n, "classes": max(n // 8, 2), "dim": _DIM.value}


def _wanted(name: str) -> bool:
  return not _ONLY.value or any(part in name for part in _ONLY.value)


def _installed(name: str) -> bool:
  return importlib.util.find_spec(name) is not None


def _line(name: str, rival: str, size: dict[str, int], ours, theirs):
  """A line of a table: two sides, their ratio, how far the values are apart."""
  line = {"name": name, "rival": rival, **size, "ours": ours, "theirs": theirs}
  if "seconds" in ours and "seconds" in theirs:
    line["ratio"] = theirs["seconds"] / ours["seconds"]
  if "value" in ours and "value" in theirs:
    line["apart"] = _apart(ours["value"], theirs["value"])
  print(_shown(line), flush=True)
  return line


def _apart(ours: Any, theirs: Any) -> float:
  """The relative difference of two values; the largest of several."""
  ours, theirs = np.atleast_1d(ours), np.atleast_1d(theirs)
  return float(np.max(abs(ours - theirs) / np.maximum(abs(theirs), 1e-30)))


def distances() -> Iterator[dict[str, Any]]:
  """Each distance against torch.cdist."""
  for name, (_, _, rival) in _DISTANCES.items():
    if _wanted(name):
      torch = None
      if _installed("torch"):
        torch = Case("their distance", name, **_size())
      found = in_turn(Case("our distance", name, **_size()), torch)
      cdist = "torch" if rival == "cosine" else "torch.cdist"
      yield _line(name, cdist, _size(), *found)


def losses() -> Iterator[dict[str, Any]]:
  """Each loss that the rival has too."""
  have = _installed("pytorch_metric_learning")
  for name, pair in _PAIRS.items():
    if _wanted(name):
      theirs = Case("theirs", name, **_size(pair.n)) if have else None
      found = in_turn(Case("ours", name, **_size(pair.n)), theirs)
      yield _line(name, pair.theirs, _size(pair.n), *found)
  if _wanted("infonce_per_pair"):
    name = "infonce_per_pair"
    found = in_turn(*(Case(k, name, **_size(512)) for k in ("ours", "optax")))
    yield _line("infonce_per_pair", "optax.ntxent", _size(512), *found)


_LARGE = (
  "contrastive",
  "triplet",
  "lifted",
  "supcon",
  "infonce_per_pair",
  "multi_similarity",
  "circle",
  "fastap",
)


def large() -> Iterator[dict[str, Any]]:
  """Losses in blocks on batches whose matrix is large."""
  for name in filter(_wanted, _LARGE):
    for n in map(int, _BLOCKED.value):
      case = Case("ours", name, n, n // 8, _DIM.value, _ROWS.value)
      (ours,) = in_turn(case)
      line = {"name": name, "n": n, "ours": ours, "matrix": 4 * n * n}
      print(_shown(line), flush=True)
      yield line


_CHOICES = (None, 64, 256)


def automatic() -> Iterator[dict[str, Any]]:
  """The block size "auto" against the better of dense and blocked."""
  for name in filter(_wanted, _LARGE):
    for n in map(int, _AUTO.value):
      sizes = [s for s in ("auto", *_CHOICES) if s is None or s != n]
      found = in_turn(
        *(Case("ours", name, n, n // 8, _DIM.value, s) for s in sizes)
      )
      seconds = {
        "dense" if size is None else str(size): each.get("seconds")
        for size, each in zip(sizes, found, strict=True)
      }
      others = [s for k, s in seconds.items() if k != "auto" and s is not None]
      line = {"name": name, "n": n, "seconds": seconds}
      if others and seconds["auto"] is not None:
        line["ratio"] = seconds["auto"] / min(others)
      print(_shown(line), flush=True)
      yield line


_TEST_SETS = ((13_180, 659), (10_000, 10), (60_500, 11_316))


def whole_sets() -> Iterator[dict[str, Any]]:
  """Retrieval scores of whole test sets; L1 too is held against their L2."""
  rival = "AccuracyCalculator, faiss, L2"
  have = _installed("pytorch_metric_learning") and _installed("faiss")
  for n, classes in _TEST_SETS:
    size = {"n": n, "classes": classes, "dim": _DIM.value}
    case = lambda kind, name, size=size: Case(f"{kind} retrieval", name, **size)
    theirs = case("their", "l2") if have else None
    l2, l1, rivals_l2 = in_turn(case("our", "l2"), case("our", "l1"), theirs)
    yield _line("l2", rival, size, l2, rivals_l2)
    # Another metric has another score.
    l1.pop("value", None)
    yield _line("l1", rival, size, l1, rivals_l2)


def reading() -> Iterator[dict[str, Any]]:
  """Training steps on photographs that are read and resized meanwhile."""
  size = {"n": 64, "classes": 16, "dim": _DIM.value}
  with tempfile.TemporaryDirectory() as folder:
    _draw_photographs(Path(folder), classes=2 * size["classes"])
    kinds = ("streamed", "in memory")
    found = in_turn(
      *(Case(kind, "conv4", **size, folder=folder) for kind in kinds)
    )
  yield _line(f"conv4, 96×96, {_steps()} steps", "in memory", size, *found)


def _draw_photographs(folder: Path, classes: int) -> None:
  """Class folders of ten JPEG images of 256×192, as smooth as photographs."""
  from PIL import Image

  random = np.random.RandomState(0)
  for label in range(classes):
    (folder / f"{label:03d}").mkdir()
    for i in range(10):
      coarse = random.randint(0, 256, (24, 32, 3)).astype(np.uint8)
      image = Image.fromarray(coarse).resize(
        (256, 192), Image.Resampling.BICUBIC
      )
      image.save(folder / f"{label:03d}" / f"{i}.jpg", quality=90)


def _trained(name: str, n: int, *kinds: str) -> dict[str, Any]:
  """A line of two ways to train."""
  ours, theirs = in_turn(*(Case(kind, name, n, 0, 0) for kind in kinds))
  line = {"name": name, "n": n, "ours": ours, "theirs": theirs}
  if "seconds" in ours and "seconds" in theirs:
    line["ratio"] = theirs["seconds"] / ours["seconds"]
  print(_shown(line), flush=True)
  return line


def whole_runs() -> Iterator[dict[str, Any]]:
  """A run against its steps alone."""
  for name in filter(_wanted, ("conv3", "conv4")):
    yield _trained(name, 1, "whole run", "bare steps")


def populations() -> Iterator[dict[str, Any]]:
  """Members as one program against runs in turn."""
  for name in filter(_wanted, ("conv4", "mlp")):
    for n in map(int, _MEMBERS.value):
      yield _trained(name, n, "population", "in turn")
      if _GROUPED.value and name == "conv4":
        line = _trained(name, n, "grouped", "in turn")
        yield line | {"name": f"{name}, grouped"}


# --- Tables -----------------------------------------------------------------


def main() -> None:
  """Measures the suites and writes their tables."""
  for suite in _SUITE.value:
    check_choice("suite", suite, SUITES)
  found = _kept()
  commit = records.commit()
  for suite in _SUITE.value:
    runs = {
      "distances": {"distances": distances},
      "losses": {"losses": losses},
      "memory": {"memory": large, "auto": automatic},
      "evaluation": {"evaluation": whole_sets},
      "input": {"input": reading},
      "loop": {"loop": whole_runs},
      "population": {"population": populations},
    }[suite]
    for name, run in runs.items():
      for line in run():
        lines = found["suites"].setdefault(name, {})
        lines[_key(line)] = line | {"commit": commit}
        # What was measured is kept, whatever happens to the rest.
        _write(found)
  _write(found)
  print(f"The tables are in {_OUTPUT.value}.")


def _kept() -> dict[str, Any]:
  """What was measured before on this machine, or nothing."""
  found: dict[str, Any] = {"machine": machine(), "suites": {}}
  path = Path(_JSON.value)
  if not path.exists():
    return found
  before = records.read_json(path)
  if before["machine"] != found["machine"]:
    raise InputError(
      f"{path} was measured elsewhere or otherwise: {before['machine']}; here"
      f" it is {found['machine']}. Choose another --json, or delete it."
    )
  return before


def _key(line: dict[str, Any]) -> str:
  return f"{line['name']}, n = {line['n']}, against {line.get('rival')}"


def _write(found: dict[str, Any]) -> None:
  for name, text in (
    (_OUTPUT.value, page(found)),
    (_JSON.value, records.to_json(found, indent=1) + "\n"),
  ):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def machine() -> dict[str, Any]:
  """Where and with what this was measured."""
  rivals_of = ("torch", "pytorch-metric-learning", "faiss-cpu", "optax")
  said = {}
  for name in ("jax", "numpy", *rivals_of):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      said[name] = importlib.metadata.version(name)
  cpuinfo = Path("/proc/cpuinfo")
  lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
  model = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
  return {
    "processor": model[0] if model else platform.processor(),
    "cores": os.cpu_count(),
    "versions": said,
    "dim": _DIM.value,
    "repeats": _REPEATS.value,
  }


def page(found: dict[str, Any]) -> str:
  """The tables as Markdown."""
  said = found["machine"]
  commits = {
    line["commit"]
    for suite in found["suites"].values()
    for line in suite.values()
  }
  versions = ", ".join(f"{k} {v}" for k, v in said["versions"].items())
  text = [
    "# Benchmarks",
    "",
    f"{said['processor']}, {said['cores']} cores; {versions}. Value and"
    f" gradient, float32, {said['dim']} dimensions; ours and theirs in"
    f" {said['repeats']} turns of {_CALLS} calls, or as many as fit into"
    f" {_TURN} s, with a rest before each turn; medians over all calls. Each"
    " side has a process of its own with as many threads. Extra memory is the"
    " growth of the process at the peak of one call. Made by"
    " `python -m experiments.benchmarks.speed`, at commits"
    f" {', '.join(sorted(commits))}; {_JSON.value} says which line at which.",
    "",
  ]
  # In the order of the tables, whatever was measured first.
  for name in (name for name in _TABLES if name in found["suites"]):
    text += _TABLES[name](list(found["suites"][name].values()))
  return "\n".join(text)


def _against(title: str, of: str, lines: list[dict[str, Any]]) -> list[str]:
  head = (
    *(of, "n / classes", "rival", "ours", "theirs", "theirs / ours"),
    *("our memory", "their memory", "values apart"),
  )
  text = [f"## {title}", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    text.append(
      _row(
        (
          line["name"],
          f"{line['n']} / {line['classes']}",
          line["rival"],
          _time(line["ours"]),
          _time(line["theirs"]),
          f"{line['ratio']:.1f}" if "ratio" in line else "–",
          _size_of(line["ours"]),
          _size_of(line["theirs"]),
          f"{line['apart']:.0e}" if "apart" in line else "–",
        )
      )
    )
  ratios = [line["ratio"] for line in lines if "ratio" in line]
  if ratios:
    mean = statistics.geometric_mean(ratios)
    text += ["", f"Geometric mean of {len(ratios)} ratios: {mean:.1f}."]
  return [*text, ""]


def _of_sets(lines: list[dict[str, Any]]) -> list[str]:
  title, *table = _against("Evaluation", "metric", lines)
  text = (
    "Recall@1, R-precision and MAP@R of points of norm 1 whose classes overlap,"
    " each a query among all others; whatever the metric of the line, the rival"
    " ranks by L2. Memory is how far the resident memory of a new process,"
    " which holds its imports and the points, grows at the peak of its first"
    " call, with the compilation and all threads. A side whose first call takes"
    f" over {_LONG:.0f} s is not called again."
  )
  return [title, "", text, *table]


def _in_blocks(lines: list[dict[str, Any]]) -> list[str]:
  head = ("loss", "n", "time", "extra memory", "one float32 matrix")
  text = ["## In blocks", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    text.append(
      _row(
        (
          line["name"],
          str(line["n"]),
          _time(line["ours"]),
          _size_of(line["ours"]),
          _bytes(line["matrix"]),
        )
      )
    )
  return [*text, ""]


def _of_auto(lines: list[dict[str, Any]]) -> list[str]:
  head = ("loss", "n", "auto", "dense", "64", "256", "auto / best other")
  text = ["## Block size", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    times = [_time({"seconds": line["seconds"].get(k)}) for k in head[2:6]]
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else "–"
    text.append(_row((line["name"], str(line["n"]), *times, ratio)))
  return [*text, ""]


def _of_training(
  title: str, columns: tuple[str, str], lines: list[dict[str, Any]]
) -> list[str]:
  head = ("", "runs", *columns, f"{columns[1]} / {columns[0]}")
  text = [f"## {title}", "", _row(head), _row(["---"] * len(head))]
  for line in lines:
    times = _time(line["ours"]), _time(line["theirs"])
    ratio = f"{line['ratio']:.2f}" if "ratio" in line else "–"
    text.append(_row((line["name"], str(line["n"]), *times, ratio)))
  return [*text, ""]


_TABLES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
  "distances": functools.partial(_against, "Distances", "distance"),
  "losses": functools.partial(_against, "Losses", "loss"),
  "memory": _in_blocks,
  "auto": _of_auto,
  "evaluation": _of_sets,
  "input": functools.partial(
    _against, "Input: images from files, against images in memory", "network"
  ),
  "loop": functools.partial(
    _of_training, "The loop", ("whole run", "bare steps")
  ),
  "population": functools.partial(
    _of_training,
    f"Populations, {training.STEPS} steps each",
    ("one program", "in turn"),
  ),
}


def _row(cells) -> str:
  return "| " + " | ".join(cells) + " |"


def _time(side: dict[str, Any]) -> str:
  seconds = side.get("seconds")
  if seconds is None:
    return side.get("failed", "–")
  return (
    f"{1e3 * seconds:,.0f} ms" if seconds > 0.1 else f"{1e3 * seconds:.1f} ms"
  )


def _size_of(side: dict[str, Any]) -> str:
  return _bytes(side["extra"]) if "extra" in side else "–"


def _bytes(number: float) -> str:
  return f"{number / 1e9:.2f} GB" if number > 1e9 else f"{number / 1e6:.0f} MB"


def _shown(line: dict[str, Any]) -> str:
  """A line while it runs."""
  said = [f"{line['name']:<28}", f"{line['n']:>6}"]
  if "seconds" in line:
    said += [f"{k} {_time({'seconds': s})}" for k, s in line["seconds"].items()]
  for side in ("ours", "theirs"):
    if side in line:
      said.append(f"{side} {_time(line[side])}, {_size_of(line[side])}")
  if "ratio" in line:
    said.append(f"ratio {line['ratio']:.2f}")
  if "apart" in line:
    said.append(f"apart {line['apart']:.0e}")
  return "  ".join(said)


if __name__ == "__main__":
  cli.run(main, __doc__)
