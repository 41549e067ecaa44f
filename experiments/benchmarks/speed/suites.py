"""What is measured: each suite yields the lines of its tables."""

import functools
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.speed.sides import (
  DISTANCES,
  PAIRS,
  Case,
  steps_of_a_call,
)
from experiments.benchmarks.speed.turns import in_turn

Line = dict[str, Any]


class Settings(NamedTuple):
  """How large, how often, and which; the flags of the script say it.

  only: parts of names; a line is measured if its name contains one of them.
  blocked, auto: batches of the tables of those names.
  rows: of a block in the suite memory.
  members, grouped: of the suite population.
  """

  n: int
  classes: int
  dim: int
  repeats: int
  only: Sequence[str]
  blocked: Sequence[int]
  auto: Sequence[int]
  rows: int
  members: Sequence[int]
  grouped: bool

  def size(self, n: int | None = None) -> dict[str, int]:
    """The batch of a line; a smaller one has 8 items in each class."""
    if n is None or n >= self.n:
      return {"n": self.n, "classes": self.classes, "dim": self.dim}
    return {"n": n, "classes": max(n // 8, 2), "dim": self.dim}

  def wants(self, name: str) -> bool:
    """Whether the line of this name is measured."""
    return not self.only or any(part in name for part in self.only)


def _installed(name: str) -> bool:
  return importlib.util.find_spec(name) is not None


def _line(
  name: str, rival: str, size: dict[str, int], ours: Line, theirs: Line
) -> Line:
  """A line of a table: two sides, their ratio, how far the values are apart."""
  line = {"name": name, "rival": rival, **size, "ours": ours, "theirs": theirs}
  if "value" in ours and "value" in theirs:
    line["apart"] = _apart(ours["value"], theirs["value"])
  return line | _ratio(ours, theirs)


def _ratio(ours: Line, theirs: Line) -> dict[str, float]:
  """Their time over ours, if both were measured."""
  if "seconds" in ours and "seconds" in theirs:
    return {"ratio": theirs["seconds"] / ours["seconds"]}
  return {}


def _apart(ours: Any, theirs: Any) -> float:
  """The relative difference of two values; the largest of several."""
  ours, theirs = np.atleast_1d(ours), np.atleast_1d(theirs)
  return float(np.max(abs(ours - theirs) / np.maximum(abs(theirs), 1e-30)))


# --- Against rivals ---------------------------------------------------------


def distances(settings: Settings) -> Iterator[Line]:
  """Each distance against torch.cdist."""
  size = settings.size()
  for name, (_, _, rival) in DISTANCES.items():
    if settings.wants(name):
      torch = None
      if _installed("torch"):
        torch = Case("their distance", name, **size)
      ours = Case("our distance", name, **size)
      cdist = "torch" if rival == "cosine" else "torch.cdist"
      yield _line(name, cdist, size, *in_turn(settings.repeats, ours, torch))


def losses(settings: Settings) -> Iterator[Line]:
  """Each loss that the rival has too."""
  have = _installed("pytorch_metric_learning")
  for name, pair in PAIRS.items():
    if settings.wants(name):
      size = settings.size(pair.n)
      theirs = Case("theirs", name, **size) if have else None
      found = in_turn(settings.repeats, Case("ours", name, **size), theirs)
      yield _line(name, pair.theirs, size, *found)
  name = "infonce_per_pair"
  if settings.wants(name):
    size = settings.size(512)
    cases = (Case(kind, name, **size) for kind in ("ours", "optax"))
    found = in_turn(settings.repeats, *cases)
    yield _line(name, "optax.ntxent", size, *found)


_TEST_SETS = ((13_180, 659), (10_000, 10), (60_500, 11_316))


def whole_sets(settings: Settings) -> Iterator[Line]:
  """Retrieval scores of whole test sets; L1 too is held against their L2."""
  rival = "AccuracyCalculator, faiss, L2"
  have = _installed("pytorch_metric_learning") and _installed("faiss")
  for n, classes in _TEST_SETS:
    size = {"n": n, "classes": classes, "dim": settings.dim}
    case = lambda kind, name, size=size: Case(f"{kind} retrieval", name, **size)
    theirs = case("their", "l2") if have else None
    l2, l1, theirs_l2 = in_turn(
      settings.repeats, case("our", "l2"), case("our", "l1"), theirs
    )
    yield _line("l2", rival, size, l2, theirs_l2)
    # Another metric has another score.
    l1.pop("value", None)
    yield _line("l1", rival, size, l1, theirs_l2)


# --- Blocks -----------------------------------------------------------------

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


def large(settings: Settings) -> Iterator[Line]:
  """Losses in blocks on batches whose matrix is large."""
  for name in filter(settings.wants, _LARGE):
    for n in settings.blocked:
      case = Case("ours", name, n, n // 8, settings.dim, settings.rows)
      (ours,) = in_turn(settings.repeats, case)
      yield {"name": name, "n": n, "ours": ours, "matrix": 4 * n * n}


_CHOICES = (None, 64, 256)


def automatic(settings: Settings) -> Iterator[Line]:
  """The block size "auto" against the better of dense and blocked."""
  for name in filter(settings.wants, _LARGE):
    for n in settings.auto:
      sizes = [s for s in ("auto", *_CHOICES) if s is None or s != n]
      case = functools.partial(Case, "ours", name, n, n // 8, settings.dim)
      found = in_turn(settings.repeats, *map(case, sizes))
      seconds = {
        "dense" if size is None else str(size): each.get("seconds")
        for size, each in zip(sizes, found, strict=True)
      }
      others = [s for k, s in seconds.items() if k != "auto" and s is not None]
      line = {"name": name, "n": n, "seconds": seconds}
      if others and seconds["auto"] is not None:
        line["ratio"] = seconds["auto"] / min(others)
      yield line


# --- Training ---------------------------------------------------------------


def reading(settings: Settings) -> Iterator[Line]:
  """Training steps on photographs that are read and resized meanwhile."""
  size = {"n": 64, "classes": 16, "dim": settings.dim}
  with tempfile.TemporaryDirectory() as folder:
    _draw_photographs(Path(folder), classes=2 * size["classes"])
    cases = (
      Case(kind, "conv4", **size, folder=folder)
      for kind in ("streamed", "in memory")
    )
    found = in_turn(settings.repeats, *cases)
  name = f"conv4, 96×96, {steps_of_a_call()} steps"
  yield _line(name, "in memory", size, *found)


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


def _trained(settings: Settings, name: str, n: int, *kinds: str) -> Line:
  """A line of two ways to train."""
  cases = (Case(kind, name, n, 0, 0) for kind in kinds)
  ours, theirs = in_turn(settings.repeats, *cases)
  line = {"name": name, "n": n, "ours": ours, "theirs": theirs}
  return line | _ratio(ours, theirs)


def whole_runs(settings: Settings) -> Iterator[Line]:
  """A run against its steps alone."""
  for name in filter(settings.wants, ("conv3", "conv4")):
    yield _trained(settings, name, 1, "whole run", "bare steps")


def populations(settings: Settings) -> Iterator[Line]:
  """Members as one program against runs in turn."""
  for name in filter(settings.wants, ("conv4", "mlp")):
    for n in settings.members:
      yield _trained(settings, name, n, "population", "in turn")
      if settings.grouped and name == "conv4":
        line = _trained(settings, name, n, "grouped", "in turn")
        yield line | {"name": f"{name}, grouped"}


Suite = Mapping[str, Callable[[Settings], Iterator[Line]]]

# The tables of each suite, and what yields their lines.
SUITES: dict[str, Suite] = {
  "distances": {"distances": distances},
  "losses": {"losses": losses},
  "memory": {"memory": large, "auto": automatic},
  "evaluation": {"evaluation": whole_sets},
  "input": {"input": reading},
  "loop": {"loop": whole_runs},
  "population": {"population": populations},
}
