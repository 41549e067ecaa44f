"""Kills, signals and faults at random moments, again and again.

    python -m tests.soak [--minutes=30] [--seed=0] [--only=WORD]

Trains a run, sweeps, tunes, trains a population, prepares a set and embeds one,
each once undisturbed. Then does them again in other folders, in processes that
are killed, are told to stop, or meet a disk with a fault; what was stopped is
given the same command again until it ends. What it leaves then must be what the
undisturbed one left. Ends with the counts, which are written to
results/reliability.md, and with status 1 if anything fell short.
"""

import argparse
import collections
import contextlib
import csv
import errno
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults import Disk, Fault
from tests.forks import FORKS, ROOT

PAGE = ROOT / "results" / "reliability.md"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT)
# How a process may end: whole, refused with a message, or by a signal that it
# was sent.
WHOLE, REFUSED = 0, 2


class Task(NamedTuple):
  """What is done in a folder, and what it leaves that must not differ."""

  work: Callable[[Path], None]
  left: Callable[[Path], dict]


# --- What is done: in a process of its own, where JAX is -------------------


def _config(**fields):
  from tests.tiny import tiny_config

  return tiny_config(
    train__steps=60,
    train__log_every=2,
    train__eval_every=3,
    train__save_every=3,
    **fields,
  )


def _train(folder):
  from metric_learning.training import train

  train(_config(), folder / "run", progress=False)


def _study(folder, population):
  from metric_learning.study import (
    make_specs,
    read_study,
    run_study,
    score_chosen,
    write_tables,
  )

  config = _config(loss__name="contrastive", optimizer__name="sgd")
  rows = [
    {"loss.margin": margin, "seed": seed}
    for margin in (0.5, 1.0)
    for seed in (0, 1)
  ]
  specs = make_specs(config, rows)
  run_study(config, specs, folder / "study", population=population)
  write_tables(score_chosen(read_study(folder / "study")))


def _sweep(folder):
  _study(folder, "off")


def _population(folder):
  _study(folder, "on")


def _tune(folder):
  from metric_learning.study import make_specs, tuning
  from metric_learning.training.config import override

  few = {"searches": 1, "trials": 3, "folds": 2, "finalists": 2, "repeats": 1}
  config = override(
    _config(loss__name="contrastive"),
    {f"tune.{name}": value for name, value in few.items()},
  )
  cells = make_specs(config, [{"metric.name": "l2"}])
  tuning.search(config, cells, folder / "study")


def _prepare(folder):
  from metric_learning.data import archives, prepared
  from tests.data import stand_ins

  source = folder.parent / "archives"
  if not source.exists():
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
      for name, content in stand_ins.cub200()[0].items():
        stand_ins.write(Path(scratch) / name, content)
      os.rename(scratch, source)
      os.mkdir(scratch)
  entry = stand_ins.described("cub200", source, {"images": 30})
  archives.ARCHIVES["cub200"] = entry
  prepared.prepare("cub200", str(folder / "sets"), str(source))


def _features(folder):
  from metric_learning.inference import features
  from metric_learning.training.config import override

  features._BLOCK = 100
  fields = {"model.name": "squeezenet", "data.image_size": (17, 17)}
  config = override(_config(), fields)
  features.write_features(config, folder / "features.npz")


# --- What it leaves --------------------------------------------------------


def _runs(folder):
  """All that runs say, but for times, by name."""
  from metric_learning.training import run_files

  found = {}
  for path in sorted(folder.rglob(run_files.RESULT)):
    name = path.parent.relative_to(folder)
    result = run_files.read_json(path)
    found[f"{name}: result"] = run_files.to_json({**result, "seconds": 0})
    metrics = path.parent / run_files.METRICS
    found[f"{name}: metrics"] = metrics.read_text()
    checkpoints = (path.parent / "checkpoints").glob("*")
    found[f"{name}: checkpoints"] = sorted(p.name for p in checkpoints)
    for arrays in sorted(path.parent.glob("*embeddings*.npz")):
      found[f"{name}: {arrays.name}"] = {
        k: hashlib.sha256(x.tobytes()).hexdigest()
        for k, x in run_files.read_arrays(arrays).items()
      }
  found["half written"] = [str(p) for p in folder.rglob("*.part")]
  return found


def _tables(folder):
  """The table, but for times, and all runs."""
  with (folder / "study" / "table.csv").open(newline="") as file:
    rows = [
      {k: v for k, v in row.items() if "seconds" not in k}
      for row in csv.DictReader(file)
    ]
  return {**_runs(folder), "table": rows}


def _choices(folder):
  from metric_learning.training import run_files

  chosen = run_files.read_json(folder / "study" / "tuning.json")
  return {
    **_runs(folder),
    "tuning": [{**entry, "seconds": 0} for entry in chosen],
  }


def _files(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob("*"))
    if path.is_file() and not path.name.startswith(".")
  }


TASKS = {
  "train": Task(_train, _runs),
  "sweep": Task(_sweep, _tables),
  "population": Task(_population, _tables),
  "tune": Task(_tune, _choices),
  "prepare": Task(_prepare, _files),
  "features": Task(_features, _files),
}


def do(name: str, folder: Path, fault: Fault | None, said: Path) -> None:
  """The work of a task, as a script does it; its messages go to a file."""
  os.chdir(ROOT)
  for number in (1, 2):
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
  from experiments import cli
  from metric_learning.training import stopping

  disk = contextlib.nullcontext()
  if fault is not None:
    disk = Disk(fault, kill=lambda: os.kill(os.getpid(), signal.SIGKILL))
  with cli.explained(), stopping.signals_wait(), disk:
    TASKS[name].work(folder)


# --- What is done to it ----------------------------------------------------


class Harm(NamedTuple):
  """A signal after some seconds, or a fault of the disk."""

  kind: str
  after: float = 0.0
  number: int = 0
  fault: Fault | None = None


def harm(rng: random.Random, seconds: float) -> Harm:
  """One at random, for what takes so many seconds undisturbed."""
  kind = rng.choice(
    ("SIGKILL", "SIGTERM", "SIGINT", "killed inside a save", "killed", "errno")
  )
  if kind.startswith("SIG"):
    after = rng.uniform(0, seconds)
    return Harm(kind, after, getattr(signal, kind))
  nth = int(2 ** rng.uniform(0, 8))
  if kind == "errno":
    operation = rng.choice(("open", "write", "fsync", "rename"))
    half = rng.random() < 0.3
    fault = Fault(operation, "", rng.choice(ERRORS), nth, half)
  else:
    saved = ".safetensors" if "save" in kind else ""
    fault = Fault(None, saved, None, nth, half=rng.random() < 0.3)
  return Harm(kind, fault=fault)


def once(name: str, folder: Path, does: Harm | None) -> tuple[int, str]:
  """Runs a task in a process; its status, and what it said."""
  folder.mkdir(parents=True, exist_ok=True)
  said = folder.parent / f"{folder.name}.said"
  fault = does.fault if does else None
  process = FORKS.Process(target=do, args=(name, folder, fault, said))
  process.start()
  if does and does.number:
    process.join(does.after)
    if process.is_alive():
      os.kill(process.pid, does.number)
  process.join()
  return process.exitcode, said.read_text() if said.exists() else ""


def fell_short(status: int, said: str, does: Harm) -> str:
  """Why an end is none that may be; empty if it may."""
  if "Traceback" in said:
    return "traceback: " + said.strip().splitlines()[-1]
  expected = {WHOLE, REFUSED, -signal.SIGKILL}
  if does.number:
    expected |= {128 + does.number, -does.number}
  if status not in expected:
    return f"status {status}"
  if status == REFUSED and (does.fault is None or does.fault.error is None):
    return f"refused: {said.strip()}"
  return ""


class Count(collections.Counter):
  """How often each thing happened, by task and kind of harm."""


def soak(
  root: Path, minutes: float, seed: int, only: str = "", rounds: int = 10**9
) -> tuple[Count, list[str]]:
  """The counts, and what fell short."""
  rng, counts, wrong = random.Random(seed), Count(), []
  wanted, took = {}, {}
  names = [name for name in TASKS if only in name]
  for name in names:
    started = time.monotonic()
    status, said = once(name, root / f"{name} undisturbed", None)
    if status:
      raise SystemExit(f"{name} ends with {status}, undisturbed: {said}")
    took[name] = time.monotonic() - started
    wanted[name] = TASKS[name].left(root / f"{name} undisturbed")
    print(f"{name}: {took[name]:.0f} s undisturbed", flush=True)
  end = time.monotonic() + 60 * minutes
  while rounds > 0 and (time.monotonic() < end or not counts):
    rounds -= 1
    name = rng.choice(names)
    folder = root / name
    does: Harm | None = harm(rng, took[name])
    while True:
      status, said = once(name, folder, does)
      if does is None:
        if status:
          wrong.append(f"{name}, given again: {status}, {said.strip()}")
        break
      counts[name, does.kind, "injected"] += 1
      if reason := fell_short(status, said, does):
        wrong.append(f"{name}, {does}: {reason}")
      if status == REFUSED:
        counts[name, does.kind, "refused with a message"] += 1
      # Then once more: harm, or, one time of three, in peace.
      does = harm(rng, took[name]) if rng.random() < 0.67 else None
    left = TASKS[name].left(folder)
    both = left.keys() | wanted[name].keys()
    differ = [k for k in both if left.get(k) != wanted[name].get(k)]
    if differ:
      wrong.append(f"{name}: {', '.join(sorted(differ))} differ")
    counts[name, "", "ended as the undisturbed one"] += not differ
    counts[name, "", "ended"] += 1
    shutil.rmtree(folder)
  return counts, wrong


def page(counts: Count, wrong: list[str], minutes: float, seed: int) -> str:
  """The report, in Markdown."""
  from metric_learning.training.run_files import commit

  kinds = sorted({kind for _, kind, _ in counts} - {""})
  lines = [
    "# Kills and faults",
    "",
    f"`python -m tests.soak --minutes={minutes:g} --seed={seed}`, commit"
    f" {commit()}. Each number is how often a process was killed, told to stop,"
    " or met a fault of the disk; the same command was given again until it"
    " ended, and what it left was compared with what an undisturbed one left:"
    " results, metrics, embeddings, kept checkpoints and tables; not times.",
    "",
    f"| | {' | '.join(kinds)} | refused with a message | ended | the same |",
    "|" + " --- |" * (len(kinds) + 4),
  ]
  total = Count()
  for name in dict.fromkeys(name for name, _, _ in counts):
    own = [counts[name, kind, "injected"] for kind in kinds]
    own.append(
      sum(counts[name, kind, "refused with a message"] for kind in kinds)
    )
    own.append(counts[name, "", "ended"])
    own.append(counts[name, "", "ended as the undisturbed one"])
    for place, value in enumerate(own):
      total[place] += value
    lines.append(f"| {name} | {' | '.join(map(str, own))} |")
  lines.append(f"| all | {' | '.join(str(x) for x in total.values())} |")
  lines += ["", f"{len(wrong)} fell short.", *(f"- {x}" for x in wrong)]
  return "\n".join(lines) + "\n"


def main() -> None:
  """Soaks, and writes the page."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--minutes", type=float, default=30)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--only", default="")
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    found = soak(Path(root), given.minutes, given.seed, given.only)
  text = page(*found, given.minutes, given.seed)
  print(text)
  if not given.only:
    PAGE.write_text(text)
  sys.exit(bool(found[1]))


if __name__ == "__main__":
  # By its name, under which other processes find what is here.
  from tests import soak as itself

  itself.main()
