"""Measures what this project claims about accelerators, on one H100 or H200.

python -m experiments.benchmarks.accelerator

It takes at most 8 minutes (--budget_s), and writes accelerator.json and
accelerator.md into results/ (--out) after each part. The parts, in order:

device      versions; matrix products in bf16 and float32, copies   (15 s)
losses      value and gradient of six losses under L2 and L1, 1,024
            to 131,072 items, beside pytorch-metric-learning        (150 s)
l1          the matrix of L1 distances against torch.cdist          (25 s)
population  1 to 128 members as one program, runs per hour          (100 s)
conv4       images per second, beside the same network in PyTorch   (35 s)
retrieval   neighbors in 60,500 points, beside top-k in PyTorch    (35 s)
repeat      two equal runs and a killed one, under XLA's flags      (100 s)
resnet50    as conv4, at 224×224 in bf16, with and without remat   (120 s)
export      an exported model here, on the CPU, and as `run.embed`  (40 s)

The same command resumes: parts that are in the JSON file are not measured
again. Parts that do not fit into the budget are left out, and named.
--parts=l1,conv4 measures only these. Delete the JSON file to start afresh.

`--tiny --out=/tmp/rehearsal` rehearses all parts on a CPU in two minutes; its
numbers mean nothing.

It needs Python 3.11 or later with jax, flax, optax, numpy, safetensors,
absl-py, ml_collections, jaxtyping, tqdm, filelock and threadpoolctl. Without
torch or pytorch-metric-learning (which needs scikit-learn and tqdm), the
columns of rivals say that these are missing. PyTorch and JAX share the GPU: JAX
does not reserve its memory beforehand.

For a machine that has JAX and PyTorch but no network, fetch missing packages
elsewhere, copy them along with this repository, and install them there. Both of
these are pure Python; --no-deps keeps the PyTorch that is installed.

python -m pip download --no-deps -d wheels ml_collections \\
  pytorch-metric-learning
python -m pip install --no-index --no-deps --find-links wheels \\
  ml_collections pytorch-metric-learning

Without git, --commit names the commit for the page.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks import (
  finished,
  matrices,
  networks,
  page,
  retrieval,
)
from experiments.benchmarks.clock import Clock, Line
from metric_learning.errors import InputError, check_choice
from metric_learning.training import run_files


class Part(NamedTuple):
  """What is measured together.

  seconds: what it takes on an H100, and its limit: it is not started with
    less than half of them left.
  """

  title: str
  measure: Callable[[Clock], Iterator[Line]]
  seconds: float


PARTS: dict[str, Part] = {
  "device": Part("The device", matrices.device, 15),
  "losses": Part("Losses on large batches", matrices.losses, 150),
  "l1": Part("The matrix of L1 distances", matrices.l1, 25),
  "population": Part("Populations", networks.population, 100),
  "conv4": Part("One run of conv4", networks.conv4, 35),
  "retrieval": Part("Retrieval", retrieval.retrieval, 35),
  "repeat": Part("Exact repetition", networks.repeat, 100),
  "resnet50": Part("One run of resnet50 at full size", networks.resnet50, 120),
  "export": Part("An exported model", finished.export, 40),
}

_TINY = flags.DEFINE_bool("tiny", False, "Rehearse on a CPU, at toy sizes.")
_BUDGET = flags.DEFINE_float(
  "budget_s",
  480.0,
  "Seconds for the whole call; parts that do not fit wait.",
  1,
)
_OUT = cli.define_path("out", "results", "Where both files are written.")
_PARTS = flags.DEFINE_list(
  "parts", list(PARTS), "Which parts: " + ", ".join(PARTS)
)
_COMMIT = flags.DEFINE_string(
  "commit", None, "The commit, where git cannot say it."
)


def main() -> None:
  """Measures the parts that are asked for, and not measured yet."""
  clock = Clock(_BUDGET.value, _TINY.value)
  for name in _PARTS.value:
    check_choice("part", name, PARTS)
  _share_the_gpu()
  if jax.default_backend() == "cpu" and not _TINY.value:
    raise InputError(
      "JAX sees no accelerator here, only a CPU: --tiny --out=/tmp/rehearsal"
      " rehearses the run; with a GPU, install jax[cuda12]."
    )
  folder = Path(_OUT.value)
  run_files.make_folder(folder)
  found = _kept(folder)
  broken = []
  for name in (name for name in PARTS if name in _PARTS.value):
    part = PARTS[name]
    if name in found["parts"]:
      print(f"{name}: measured before, {folder / _JSON} holds it.", flush=True)
      continue
    left = clock.left()
    # How long a rehearsal takes is not known.
    limit = left if clock.tiny else min(left, part.seconds)
    if limit <= (0 if clock.tiny else part.seconds / 2):
      _skip(found, name, f"{left:.0f} s left, it takes {part.seconds:.0f} s")
    else:
      print(f"{name}: at most {limit:.0f} s …", flush=True)
      try:
        found["parts"][name] = _measured(part, Clock(limit, clock.tiny))
        found["skipped"].pop(name, None)
      except Exception as error:  # The parts after it are worth measuring.
        traceback.print_exc()
        _skip(found, name, f"{type(error).__name__}: {error}"[:200])
        broken.append(name)
    run_files.write_json(folder / _JSON, found)
    try:
      _write_page(folder, found)
    except Exception:  # The page can be written later, from the numbers.
      traceback.print_exc()
  _write_page(folder, found)
  print(f"The page is {folder / _PAGE}.")
  if broken:
    raise InputError(
      f"these parts failed, see above: {', '.join(broken)}. The same command"
      " tries them again."
    )


_JSON, _PAGE = "accelerator.json", "accelerator.md"


def _share_the_gpu() -> None:
  """Leaves memory to PyTorch; to be called before JAX starts its backend."""
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")


def _measured(part: Part, clock: Clock) -> dict[str, Any]:
  """The lines of a part, and with what they were measured."""
  start = time.monotonic()
  lines = []
  for line in part.measure(clock):
    lines.append(line)
    print(f"  {_shown(line)}", flush=True)
  return {
    "lines": lines,
    "cut": clock.left() < 0,
    "seconds": time.monotonic() - start,
    "command": " ".join(
      ["python -m experiments.benchmarks.accelerator", *sys.argv[1:]]
    ),
    "commit": _COMMIT.value or run_files.commit(),
  }


def _shown(line: Line) -> str:
  """A line while it runs."""
  words = [str(line[k]) for k in ("name", "metric", "form", "n") if k in line]
  for side in ("", "ours", "theirs"):
    values = line.get(side, {}) if side else line
    if "seconds" in values:
      words.append(f"{side} {1e3 * values['seconds']:.3g} ms".strip())
    elif "failed" in values:
      words.append(f"{side} {values['failed']}".strip())
  return ", ".join(words)


def _skip(found: dict[str, Any], name: str, why: str) -> None:
  print(f"{name}: left out, {why}.", flush=True)
  found["skipped"][name] = why


def _kept(folder: Path) -> dict[str, Any]:
  """What was measured before on this machine, or nothing.

  Raises:
    InputError: if the file is of another machine or of other versions.
  """
  found: dict[str, Any] = {
    "machine": matrices.machine(),
    "tiny": _TINY.value,
    "parts": {},
    "skipped": {},
  }
  path = folder / _JSON
  if not path.exists():
    return found
  before = run_files.read_json(path)
  for field in ("machine", "tiny"):
    if before[field] != found[field]:
      raise InputError(
        f"{path} is of another run, {field}: {before[field]} there,"
        f" {found[field]} here. Choose another --out, or delete the file."
      )
  return before


def _write_page(folder: Path, found: dict[str, Any]) -> None:
  titles = {name: part.title for name, part in PARTS.items()}
  text = page.page(found, titles)
  run_files.write_atomically(
    folder / _PAGE, lambda file: file.write(text.encode())
  )


if __name__ == "__main__":
  cli.run(main, __doc__)
