"""Kills, signals and faults at random moments, again and again.

    python -m tests.soak [--minutes=30] [--seed=0] [--only=WORD]

Trains a run, sweeps, tunes, trains a population, prepares a set and embeds one,
once each without disturbance. Then it does the same in other folders, in
processes that are killed, told to stop, or given a disk with a fault; it
repeats the command until the work is finished. The results must then equal
those without disturbance. Writes the counts to results/reliability.md; the exit
status is 1 if anything differs.
"""

import argparse
import collections
import contextlib
import csv
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from metric_learning.errors import InputError
from tests.faults import Disk, Fault
from tests.forks import FORKS, ROOT
from tests.quick import QUICK_FLAGS

PAGE = ROOT / "results" / "reliability.md"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT)
# How a process may end: whole, refused with a message, or by a signal that it
# was sent.
WHOLE, REFUSED = 0, 2


class Task(NamedTuple):
  """Work in a folder, and the results that must not differ.

  saved: a text in the names of the files that save the progress. A trial saves
    only its end. For `prepare`, all files count, since Python writes few of
    them.
  """

  work: Callable[[Path], None]
  left: Callable[[Path], dict]
  saved: str = ".safetensors"


# --- What is done: in a process of its own, where JAX is -------------------


def _config(**fields):
  from tests.tiny import tiny_config

  return tiny_config(
    loss__name="contrastive",
    optimizer__name="sgd",
    eval__columns=("own/map_at_r",),
    train__steps=15,
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
    only_here,
    read_study,
    run_study,
    score_chosen,
    write_tables,
  )

  config = _config()
  rows = [
    {"loss.margin": margin, "seed": seed}
    for margin in (0.5, 1.0)
    for seed in (0, 1)
  ]
  specs = make_specs(config, rows)
  run_study(config, specs, folder / "study", population=population)
  with only_here(folder / "study"):
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
    _config(),
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

  features._BLOCK = 100
  config = _config(model__name="tests.normed:TinyTrunk")
  features.write_features(config, folder / "features.npz")


# --- What it leaves --------------------------------------------------------


def _runs(folder):
  """All that runs say, but for times and who trained beside them, by name."""
  from metric_learning.training import run_files

  found = {}
  for path in sorted(folder.rglob(run_files.RESULT)):
    name = path.parent.relative_to(folder)
    result = run_files.read_json(path)
    own = {**result, "seconds": 0, "members": 0}
    found[f"{name}: result"] = run_files.to_json(own)
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
  """The table and all runs, except times."""
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
    str(path.relative_to(folder)): _content(path)
    for path in sorted(folder.rglob("*"))
    # Those of TFDS that a kill leaves incomplete, it does not read.
    if path.is_file() and not path.name.startswith((".", "incomplete."))
  }


def _content(path):
  """The digest of a file; of records, without the order of their fields.

  That order differs from process to process, as that of a dict of protobuf.
  """
  if ".array_record" not in path.name:
    return hashlib.sha256(path.read_bytes()).hexdigest()
  from array_record.python.array_record_module import ArrayRecordReader

  with contextlib.closing(ArrayRecordReader(str(path))) as reader:
    return [
      hashlib.sha256(bytes(sorted(record))).hexdigest()
      for record in reader.read_all()
    ]


TASKS = {
  "train": Task(_train, _runs),
  "sweep": Task(_sweep, _tables),
  "population": Task(_population, _tables),
  "tune": Task(_tune, _choices, ".json"),
  "prepare": Task(_prepare, _files, ""),
  "features": Task(_features, _files, ".npz"),
}


def do(name: str, folder: Path, fault: Fault | None, notes: Path) -> None:
  """Does the work of a task, like a script.

  Its messages go to the file `said` in a folder. The file `met` is no longer
  empty once the fault has happened; without a fault, it counts the operations
  that could have failed, inside a save and in total.
  """
  os.chdir(ROOT)
  said, met = (
    os.open(notes / file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for file in ("said", "met")
  )
  for number in (1, 2):
    os.dup2(said, number)
  from experiments import cli
  from metric_learning import evaluation
  from metric_learning.training import stopping
  from tests.tiny import tiny_scores

  evaluation.evaluate = tiny_scores  # It takes longest, and saves nothing.

  disk = Disk(
    fault or Fault(None, TASKS[name].saved, nth=10**9),
    kill=lambda: os.kill(os.getpid(), signal.SIGKILL),
    tell=lambda: os.write(met, b"!"),
  )
  with cli.explained(), stopping.signals_wait(), disk:
    TASKS[name].work(folder)
  if fault is None:
    counts = [disk.fitting, sum(disk.seen.values())]
    os.write(met, json.dumps(counts).encode())


# --- What is done to it ----------------------------------------------------


# The message about a run whose only checkpoint is torn.
ONLY_TORN = re.compile(r"no checkpoint in (\S+)/checkpoints is undamaged")


class Harm(NamedTuple):
  """A signal after some seconds, or a fault of the disk."""

  kind: str
  after: float = 0.0
  number: int = 0
  fault: Fault | None = None


# More of what loses most.
KINDS = {
  "SIGKILL": 2,
  "killed inside a save": 2,
  "killed at an operation": 1,
  "SIGTERM": 1,
  "SIGINT": 1,
  "error of the disk": 2,
}
KILLS = [kind for kind in KINDS if "KILL" in kind.upper()]


class Measure(NamedTuple):
  """The cost of a task without disturbance: seconds and disk operations."""

  seconds: float
  saving: int
  operations: int


def harm(rng: random.Random, whole: Measure, saved: str) -> Harm:
  """A random kind of harm, for a task with this cost."""
  (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
  if kind.startswith("SIG"):
    after = rng.uniform(0, whole.seconds)
    return Harm(kind, after, getattr(signal, kind))
  half = rng.random() < 0.3
  # Half of a renamed file stays only after a loss of power. The digest tells of
  # it in a checkpoint; other records are refused, for a person to restore.
  anything = "write" if half else None
  if kind == "error of the disk":
    operations = ("write",) if half else ("open", "write", "fsync", "rename")
    nth = rng.randint(1, max(whole.operations // 4, 1))
    error = rng.choice(ERRORS)
    fault = Fault(rng.choice(operations), "", error, nth, half)
  elif kind == "killed inside a save":
    operation = None if saved == ".safetensors" else anything
    nth = rng.randint(1, whole.saving)
    fault = Fault(operation, saved, None, nth, half)
  else:
    nth = rng.randint(1, whole.operations)
    fault = Fault(anything, "", None, nth, half)
  return Harm(kind, fault=fault)


class End(NamedTuple):
  """The end of a process: its status, its messages, whether harm happened."""

  status: int
  said: str
  met: str


def torn(does: Harm) -> bool:
  """Whether a harm leaves half of a checkpoint, as a loss of power does."""
  fault = does.fault
  return fault is not None and fault.half and fault.name == ".safetensors"


def once(name: str, folder: Path, does: Harm | None) -> End:
  """Runs a task in a process."""
  notes = folder.parent / f"{folder.name} notes"
  for made in (folder, notes):
    made.mkdir(parents=True, exist_ok=True)
  fault = does.fault if does else None
  process = FORKS.Process(target=do, args=(name, folder, fault, notes))
  process.start()
  sent = False
  if does and does.number:
    process.join(does.after)
    with contextlib.suppress(ProcessLookupError):  # It ends just now.
      if process.is_alive():
        os.kill(process.pid, does.number)
        sent = True
  process.join()
  said, met = (
    (notes / file).read_text() if (notes / file).exists() else ""
    for file in ("said", "met")
  )
  return End(process.exitcode, said, met or "!" * sent)


def fell_short(end: End, does: Harm) -> str:
  """Why the end of a process is not acceptable; empty if it is."""
  status, said, met = end
  if "Traceback" in said:
    return f"traceback: {said.strip()}"
  expected = {WHOLE}
  if met and does.number:
    # It may be over before the signal comes; or so young that it dies of it.
    expected |= {128 + does.number, -does.number}
  elif met and does.fault is not None:
    killed = does.fault.error is None
    expected = {-signal.SIGKILL} if killed else {WHOLE, REFUSED}
  if status not in expected:
    return f"status {status}"
  # Notes and warnings may come before it.
  refusals = [x for x in said.splitlines() if x.startswith("error: ")]
  if status == REFUSED and len(refusals) != 1:
    return f"no one message: {said.strip()}"
  return ""


class Count(collections.Counter):
  """How often each thing happened, by task and kind of harm."""

  def kills(self, name: str) -> int:
    """How often a task was killed."""
    return sum(self[name, kind] for kind in KILLS)


def undisturbed(
  root: Path, names: list[str]
) -> tuple[dict[str, dict], dict[str, Measure]]:
  """The results and the cost of each task without disturbance."""
  wanted, takes = {}, {}
  for name in names:
    if name == "prepare":
      once(name, root / "archives of it", None)  # Makes them.
    folder = root / f"{name} undisturbed"
    started = time.monotonic()
    end = once(name, folder, None)
    if end.status:
      raise SystemExit(f"{name} ends with {end.status} undisturbed: {end.said}")
    takes[name] = Measure(time.monotonic() - started, *json.loads(end.met))
    wanted[name] = TASKS[name].left(folder)
    print(f"{name}: {takes[name]}", flush=True)
  return wanted, takes


def disturbed(
  name: str, folder: Path, rng: random.Random, whole: Measure, counts: Count
) -> tuple[list[str], list[tuple[Harm, int]]]:
  """Repeats a task under harm until it is finished.

  Returns the failures, and the harms with the status of each.
  """
  wrong: list[str] = []
  done: list[tuple[Harm, int]] = []
  does: Harm | None = harm(rng, whole, TASKS[name].saved)
  while True:
    end = once(name, folder, does)
    only = ONLY_TORN.search(end.said)
    if only and any(torn(harm) for harm, _ in done):
      counts[name, STARTED_OVER] += 1
      shutil.rmtree(only[1])  # As the message says.
      continue
    if does is None:
      if end.status:
        wrong.append(f"{name}, given again: {end.status}, {end.said.strip()}")
      return wrong, done
    done.append((does, end.status))
    if end.met:
      counts[name, does.kind] += 1
      counts[name, REFUSALS] += end.status == REFUSED
      counts[name, ENDED_ANYWAY] += end.status == WHOLE
    if reason := fell_short(end, does):
      wrong.append(f"{name}, {does}: {reason}")
    # Then once more: harm, or, one time of three, in peace.
    again = rng.random() < 0.67
    does = harm(rng, whole, TASKS[name].saved) if again else None


def soak(
  root: Path, minutes: float, seed: int, only: str = "", rounds: int = 10**9
) -> tuple[Count, list[str]]:
  """The counts, and the failures."""
  rng, counts = random.Random(seed), Count()
  names = [name for name in TASKS if only in name]
  wanted, takes = undisturbed(root, names)
  wrong = []
  end = time.monotonic() + 60 * minutes
  while rounds > 0 and (time.monotonic() < end or not counts):
    rounds -= 1
    name = min(names, key=lambda name: (counts.kills(name), rng.random()))
    folder, told = root / name, len(wrong)
    failures, harms = disturbed(name, folder, rng, takes[name], counts)
    wrong += failures
    try:
      left = TASKS[name].left(folder)
    except (OSError, InputError) as error:
      left = {str(error): None}
    both = left.keys() | wanted[name].keys()
    differ = [k for k in both if left.get(k) != wanted[name].get(k)]
    if differ:
      wrong.append(f"{name}: {', '.join(sorted(differ))} differ after {harms}")
    counts[name, SAME] += not differ
    counts[name, ENDED] += 1
    shutil.rmtree(folder)
    print(f"{name}: {counts.kills(name)} kills", *wrong[told:], flush=True)
  return counts, wrong


# --- The report ------------------------------------------------------------

REFUSALS = "refused with a message"
ENDED_ANYWAY = "completed all the same"
STARTED_OVER = "started over"
ENDED, SAME = "rounds completed", "equal to undisturbed"


def page(counts: Count, wrong: list[str], minutes: float, seed: int) -> str:
  """The report, in Markdown."""
  from metric_learning.training.run_files import commit

  columns = [*KINDS, REFUSALS, ENDED_ANYWAY, STARTED_OVER, ENDED, SAME]
  names = list(dict.fromkeys(name for name, _ in counts))
  rows = [[name, *(counts[name, c] for c in columns)] for name in names]
  rows.append(["all", *(sum(counts[n, c] for n in names) for c in columns)])
  lines = [
    "# Kills and faults",
    "",
    f"`python -m tests.soak --minutes={minutes:g} --seed={seed}`, commit"
    f" {commit()}. The table counts how often the process of each task was"
    " killed, told to stop, or met an error of the disk, each at a random"
    " moment before its end. The same command then ran again until it ended,"
    " and its files were compared with those of an undisturbed process:"
    " results, metrics, embeddings, kept checkpoints, choices and tables, but"
    " not times.",
    "",
    f"- *{REFUSALS}*: the status was 2, and one line said what failed.",
    f"- *{ENDED_ANYWAY}*: the process did not need what failed, such as its"
    " log, or the signal came at its end.",
    f"- *{STARTED_OVER}*: a loss of power was simulated, which left half of the"
    " only checkpoint of a run; the folder of the run was deleted, as the"
    " message says.",
    f"- *{ENDED}*: how often the task was started afresh, disturbed, and"
    " completed.",
    "",
    f"| | {' | '.join(columns)} |",
    "|" + " --- |" * (len(columns) + 1),
    *(f"| {' | '.join(map(str, row))} |" for row in rows),
    "",
    f"{len(wrong)} failures.",
    *(f"- {x}" for x in wrong),
  ]
  return "\n".join(lines) + "\n"


def main() -> None:
  """Runs the soak, and writes the page."""
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
  # Compiling is most of what they do.
  os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
  os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)
  # By its name, under which other processes find what is here.
  from tests import soak as itself

  itself.main()
