"""Measures our losses, distances and evaluation, and their rivals, in turn.

python -m experiments.benchmarks.speed \\
  --suite=distances,losses,memory,evaluation,input

Distances and losses: value and gradient in float32. Evaluation: Recall@1,
R-precision and MAP@R. Input: training steps on images read from files, beside
images in memory. Each side of a line has its own process, with the same number
of threads; the sides are measured in turn, and medians are shown. Extra memory
is the growth of the process at the peak of one call. The rivals,
pytorch-metric-learning (with faiss) and torch.cdist, need the extra: pip
install -e '.[bench]'; without it their columns are empty.

Every line is written to the JSON file as soon as it is measured, with its
commit. Another call adds to the file, and replaces lines of the same name and
size.

There are two more suites, which train: loop (what a run adds to its steps) and
population (members as one program, beside runs one by one; an hour on a CPU).
"""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.benchmarks.speed.page import page, shown
from experiments.benchmarks.speed.suites import SUITES, Settings
from metric_learning.errors import InputError, check_choice
from metric_learning.training import run_files

# Those that take minutes, and no run.
_QUICK = ("distances", "losses", "memory", "evaluation", "input")

_SUITE = flags.DEFINE_list("suite", list(_QUICK), "Which: " + ", ".join(SUITES))
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


def main() -> None:
  """Measures the suites and writes their tables."""
  for suite in _SUITE.value:
    check_choice("suite", suite, SUITES)
  settings = _settings()
  found = _kept()
  commit = run_files.commit()
  for suite in _SUITE.value:
    for name, measured in SUITES[suite].items():
      for line in measured(settings):
        print(shown(line), flush=True)
        lines = found["suites"].setdefault(name, {})
        lines[_key(line)] = line | {"commit": commit}
        # What was measured is kept, whatever happens to the rest.
        _write(found)
  _write(found)
  print(f"The tables are in {_OUTPUT.value}.")


def _settings() -> Settings:
  """What the flags say.

  Raises:
    InputError: for a size that is no whole number.
  """
  sizes = {"blocked": _BLOCKED, "members": _MEMBERS, "auto": _AUTO}
  for name, flag in sizes.items():
    if not all(text.isdecimal() and int(text) for text in flag.value):
      raise InputError(
        f"--{name}={','.join(flag.value)}: whole numbers of at least 1, with"
        " commas between them."
      )
  return Settings(
    n=_N.value,
    classes=_CLASSES.value,
    dim=_DIM.value,
    repeats=_REPEATS.value,
    only=_ONLY.value,
    rows=_ROWS.value,
    grouped=_GROUPED.value,
    **{name: [*map(int, flag.value)] for name, flag in sizes.items()},
  )


def _kept() -> dict[str, Any]:
  """What was measured before on this machine, or nothing."""
  found: dict[str, Any] = {"machine": machine(), "suites": {}}
  path = Path(_JSON.value)
  if not path.exists():
    return found
  before = run_files.read_json(path)
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
    (_OUTPUT.value, page(found, _JSON.value)),
    (_JSON.value, run_files.to_json(found, indent=1) + "\n"),
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


if __name__ == "__main__":
  cli.run(main, __doc__)
