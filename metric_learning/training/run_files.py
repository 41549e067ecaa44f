"""A run on disk: config, data, environment, metrics, embeddings, result."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from metric_learning.errors import InputError
from metric_learning.training import records
from metric_learning.training.disk import (  # noqa: F401 (used by callers)
  drop_leftovers,
  explained,
  from_json,
  naming,
  read_arrays,
  read_json,
  refuse,
  to_json,
  write_arrays,
  write_atomically,
  write_json,
)

CONFIG = "config.json"
DATA = "data.json"
WEIGHTS = "weights"  # in DATA: the digest of the pretrained weights file
INPUTS = "inputs.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
EMBEDDINGS = "embeddings.npz"
SELECTED_EMBEDDINGS = "embeddings_selected.npz"
RESULT = "result.json"

# The name under which a file that is computed from a run identifies that run.
_RUN = "run"

_PACKAGES = (
  "metric-learning",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "safetensors",
  "numpy",
)


def make_folder(path: Path) -> None:
  """Creates a folder, and checks that it can be written.

  Raises:
    InputError: if it cannot be written.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise InputError(
      f"{path} cannot be written ({error.strerror}): choose another folder, or"
      " mend its permissions."
    ) from None


@functools.cache
def environment() -> dict[str, Any]:
  """Versions, device, commit and command that produced the numbers."""
  versions = {}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = "not installed"
  device = jax.devices()[0]
  return {
    "versions": versions,
    "python": platform.python_version(),
    "machine": f"{platform.system()} {platform.machine()}",
    "cores": os.cpu_count(),
    "device": f"{len(jax.devices())} x {device.device_kind}",
    "backend": jax.default_backend(),
    "commit": commit(),
    "command": command(sys.orig_argv),
  }


def command(arguments: Sequence[str]) -> str:
  """The command line, without user names and passwords in URLs.

  >>> command(["/bin/python3", "-m", "tune", "--storage=sql://me:pw@host/db"])
  'python -m tune --storage=sql://host/db'
  """
  words = [re.sub(r"://[^/@]*@", "://", word) for word in arguments[1:]]
  return shlex.join(["python", *words])


def commit() -> str:
  """The commit of this code, with "+changes" if it was edited since."""

  def git(*args: str) -> str:
    return subprocess.run(
      ["git", "-C", str(Path(__file__).parent), *args],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + "+changes" * bool(changed)
  except (OSError, subprocess.CalledProcessError):
    return "unknown"


# Files and folders of this package that only read finished runs.
READS_RUNS = (
  "figures",
  "inference",
  "report",
  "study/best.py",
  "study/catalogue.py",
  "study/comparisons.py",
  "study/curve_table.py",
  "study/difference_curves.py",
  "study/formats.py",
  "study/multiple.py",
  "study/replication.py",
  "study/results.py",
  "study/spread.py",
  "study/spread_table.py",
  "study/statistics.py",
  "study/table_lines.py",
  "study/table_notes.py",
  "study/tables.py",
)


@functools.cache
def code() -> str:
  """A digest of the source of this package, for edits without a commit."""
  return digest_of_code(Path(__file__).parents[1])


def digest_of_code(package: Path) -> str:
  """A digest of the source files in a folder that can change a number of a run.

  Files that only read runs may change while a study is in progress.
  """
  digest = hashlib.sha256()
  for path in sorted(package.rglob("*.py")):
    name = path.relative_to(package)
    if not reads_runs(name):
      digest.update(f"{name.as_posix()}\n".encode())
      digest.update(path.read_bytes())
  return digest.hexdigest()[:12]


def reads_runs(name: Path) -> bool:
  """Whether a source file only reads finished runs.

  >>> reads_runs(Path("figures/maps.py")), reads_runs(Path("losses/pairs.py"))
  (True, False)
  """
  return any(name.is_relative_to(part) for part in READS_RUNS)


def identity(**parts: Any) -> dict[str, Any]:
  """The identity of a study, as it is read from its file: parts and code."""
  whole = {"code": code(), "commit": commit(), **parts}
  return from_json(to_json(whole))


def refuse_another(path: Path, here: Mapping[str, Any]) -> None:
  """Raises if the stored identity differs; a different commit alone is allowed.

  Raises:
    InputError: with the difference.
  """
  there = {"code": None, "commit": None, **read_json(path)}

  def fields(subset: Mapping[str, Any]) -> dict[str, Any]:
    rows = subset["rows"]
    if not isinstance(rows, Mapping):
      rows = {row["name"]: row for row in rows}
    return {**subset, "rows": rows, "commit": ""}

  if "data" not in there:
    # A study of an earlier version is refused because its code differs.
    here = {k: v for k, v in here.items() if k != "data"}
  shown = difference(fields(there), fields(here))
  if not shown:
    return
  hint = ""
  if there["code"] != here["code"]:
    hint = (
      f" Its code was that of commit {there['commit']}, and this is "
      f"{here['commit']}: to continue it, check out that commit."
    )
  raise InputError(
    f"{path.parent} holds another study: {shown}.{hint} Choose another --study,"
    " or delete it."
  )


def claim(
  folder: Path, config: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
  """Claims a folder for this run, or checks that it already belongs to it.

  `data` is the digest of the data, from `plan.identity_of`.

  Raises:
    InputError: if the folder belongs to another config or other data.
  """
  make_folder(folder)
  path = folder / CONFIG
  if not path.exists():
    write_json(folder / DATA, data)
    write_json(path, config)  # last: if it exists, so does the other
    return
  shown = difference(read_json(path), config)
  if shown:
    raise InputError(
      f"{folder} holds a run of another config: {shown}. Choose another"
      " --workdir, or delete it."
    )
  if not (folder / DATA).exists():
    raise InputError(
      f"{folder} holds a run of an earlier version, without {DATA}, so it is "
      "unknown whether its data was the same. Its files can still be read; to "
      "train, choose another --workdir, or delete it."
    )
  shown = difference(read_json(folder / DATA), data)
  if shown:
    raise InputError(
      f"{folder} holds a run on other data: {shown}. Give it the data it "
      "started with, choose another --workdir, or delete it."
    )


def run_of(folder: Path) -> str:
  """A digest of the config and the data, which identifies a run.

  Raises:
    InputError: if the files in the folder do not hold them.
  """
  config, data = (read_json(folder / name) for name in (CONFIG, DATA))
  text = to_json([config, data], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def write_own(path: Path, values: Mapping[str, Any]) -> None:
  """Writes what was computed from a run into its folder: an npz, or JSON.

  The file names its run, so that `read_own` refuses it in another run.
  """
  run = _known_run(path.parent)
  named = {**values, **({} if run is None else {_RUN: run})}
  write = write_arrays if path.suffix == ".npz" else write_json
  write(path, named)


def read_own(path: Path) -> dict[str, Any]:
  """Reads what `write_own` wrote. A file of an earlier version names no run.

  Raises:
    InputError: as `read_json` and `read_arrays`; for a file of another run.
  """
  found = (read_arrays if path.suffix == ".npz" else read_json)(path)
  named, here = found.pop(_RUN, None), _known_run(path.parent)
  if named is not None and here is not None and str(named) != here:
    refuse(path, "it belongs to a run of another config or other data")
  return found


def _known_run(folder: Path) -> str | None:
  """`run_of`; None for a run of an earlier version, which lacks the files."""
  known = all((folder / name).exists() for name in (CONFIG, DATA))
  return run_of(folder) if known else None


def data_of(folder: Path) -> dict[str, str]:
  """The digests of the data of a run.

  The weights file is left out: it is not needed after the first step.

  Raises:
    InputError: if they cannot be read.
  """
  digests = read_json(folder / DATA)
  return {part: x for part, x in digests.items() if part != WEIGHTS}


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
  """The first fields in which two nested dicts differ, as text.

  >>> difference({"seed": 0, "loss": {"margin": 1.0}}, {"seed": 5})
  'loss.margin (1.0 there, None now), seed (0 there, 5 now)'
  """
  old, new = flatten(there), flatten(here)
  names = sorted(old.keys() | new.keys())
  differing = [n for n in names if old.get(n) != new.get(n)]
  more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
  return (
    ", ".join(
      f"{n} ({old.get(n)!r} there, {new.get(n)!r} now)" for n in differing[:5]
    )
    + more
  )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested dicts as one, with dotted names.

  >>> flatten({"loss": {"name": "supcon"}, "seed": 0})
  {'loss.name': 'supcon', 'seed': 0}
  """
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat


class Metrics:
  """Appends records to metrics.jsonl, one JSON object a line.

  digest: SHA-256 of the file; each checkpoint stores it.
  """

  def __init__(self, folder: Path, last_step: int, expected: str | None = None):
    """Opens the file and drops what was written after `last_step`.

    Raises:
      InputError: if the remaining lines do not have the `expected` digest.
    """
    self._path = folder / METRICS
    records = [r for r in read_metrics(folder) if r["step"] <= last_step]
    lines = "".join(to_json(record) + "\n" for record in records).encode()
    self._digest = hashlib.sha256(lines)
    if expected is not None and self.digest != expected:
      refuse(
        self._path,
        f"it has changed since checkpoint {last_step} was saved",
      )
    write_atomically(self._path, lambda file: file.write(lines))

  @property
  def digest(self) -> str:
    """The digest of all lines so far."""
    return self._digest.hexdigest()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends one record; all values are converted to floats."""
    record = {"step": step} | {k: float(v) for k, v in values.items()}
    line = (to_json(record) + "\n").encode()
    with naming(self._path), self._path.open("ab") as file:
      file.write(line)
    self._digest.update(line)

  def sync(self) -> None:
    """Waits until all lines are on disk, as before a checkpoint."""
    with naming(self._path), self._path.open("ab") as file:
      os.fsync(file.fileno())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
  """The records of a run, without a last line that a kill cut short.

  Raises:
    InputError: with the number of any other line that is not a record or
      repeats an earlier step.
  """
  path = folder / METRICS
  if not path.exists():
    return []
  with explained(path):
    *lines, last = path.read_bytes().split(b"\n")
  records: list[dict[str, Any]] = []
  for number, line in enumerate(lines, 1):
    problem = _problem_of_line(line, records)
    refuse(path, problem and f"line {number}: {problem}")
  if last:
    _problem_of_line(last, records)
  return records


def _problem_of_line(line: bytes, earlier: list[dict[str, Any]]) -> str | None:
  """What is wrong with a line; a valid line is appended to the records."""
  try:
    record = from_json(line)
  except (ValueError, RecursionError):
    return "it is not a record"
  problem = records.problem_in(record, records.METRICS_LINE)
  if problem is None and earlier:
    problem = _out_of_order(record, earlier[-1])
  if problem is None:
    earlier.append(record)
  return problem


def _out_of_order(
  record: Mapping[str, Any], before: Mapping[str, Any]
) -> str | None:
  step, last = record["step"], before["step"]
  if step < last or (step == last and len(record.keys() & before.keys()) > 1):
    return f"step {step} follows step {last}"
  return None
