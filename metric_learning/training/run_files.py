"""A run on disk: config, data, environment, metrics, embeddings, result."""

import functools
import hashlib
import importlib.metadata
import json
import math
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
import numpy as np

from metric_learning.errors import InputError

CONFIG = "config.json"
DATA = "data.json"
WEIGHTS = "weights"  # in it, the digest of the file that the network begins as
INPUTS = "inputs.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
EMBEDDINGS = "embeddings.npz"
SELECTED_EMBEDDINGS = "embeddings_selected.npz"
RESULT = "result.json"

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
  """Creates a folder that can be written.

  Raises:
    InputError: if it cannot.
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


def write_atomically(path: Path, write) -> None:
  """Calls `write(file)` so that `path` is whole or absent, even at a kill."""
  with tempfile.NamedTemporaryFile(
    "wb", dir=path.parent, prefix=f".{path.name}-", delete=False
  ) as file:
    try:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    except BaseException:
      os.unlink(file.name)
      raise
  os.chmod(file.name, 0o644)
  os.replace(file.name, path)


def to_json(value: Any, **options: Any) -> str:
  """Strict JSON, which has no NaN and no infinity: null, and a text.

  All JSON of this package is written here, and read by `from_json`.

  >>> to_json({"own/eer": float("nan"), "own/threshold": float("-inf")})
  '{"own/eer": null, "own/threshold": "-Infinity"}'
  """
  return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {name: _finite(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float) and math.isinf(value):
    return "Infinity" if value > 0 else "-Infinity"
  if isinstance(value, float) and math.isnan(value):
    return None
  return value


def from_json(text: str | bytes) -> Any:
  """Reads what `to_json` wrote: infinity again, and NaN.

  Null is NaN under a score's name, which has a slash.

  >>> from_json('{"own/eer": null, "own/threshold": "-Infinity"}')
  {'own/eer': nan, 'own/threshold': -inf}
  >>> from_json('{"trial": null}')
  {'trial': None}

  Raises:
    ValueError: if it is not JSON.
  """
  return _restored(json.loads(text))


def _restored(value: Any, of_score: bool = False) -> Any:
  """A value with its infinities, and NaN for null if it is of a score."""
  if isinstance(value, dict):
    return {name: _restored(item, "/" in name) for name, item in value.items()}
  if isinstance(value, list):
    return [_restored(item, of_score) for item in value]
  if value is None and of_score:
    return math.nan
  return float(value) if value in ("Infinity", "-Infinity") else value


def write_json(path: Path, value: Any) -> None:
  """Writes `to_json`, whole or not at all."""
  text = to_json(value, indent=2, sort_keys=True) + "\n"
  write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an npz, whole or not at all."""
  write_atomically(
    path, lambda file: np.savez(file, allow_pickle=False, **arrays)
  )


def read_json(path: Path) -> Any:
  """Reads `from_json`.

  Raises:
    InputError: naming the file, if it is not there or not whole.
  """
  try:
    return from_json(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(f"{path} cannot be read: {error}") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
  """Reads an npz; no pickles."""
  try:
    with np.load(path, allow_pickle=False) as file:
      return dict(file)
  except (OSError, ValueError, EOFError) as error:
    raise InputError(f"{path} cannot be read: {error}") from None


@functools.cache
def environment() -> dict[str, Any]:
  """Versions, device, commit and command: what a number was made with."""
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
  """A command line of Python; names and passwords of a URL are left out.

  >>> command(["/bin/python3", "-m", "tune", "--storage=sql://me:pw@host/db"])
  'python -m tune --storage=sql://host/db'
  """
  words = [re.sub(r"://[^/@]*@", "://", word) for word in arguments[1:]]
  return shlex.join(["python", *words])


def commit() -> str:
  """The commit of this code, with "+changes" if it was edited since."""

  def git(*args):
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
  "study/comparisons.py",
  "study/formats.py",
  "study/multiple.py",
  "study/results.py",
  "study/spread.py",
  "study/spread_table.py",
  "study/statistics.py",
  "study/table_lines.py",
  "study/tables.py",
)


@functools.cache
def code() -> str:
  """A digest of the source of this package: what the commit may not say."""
  return digest_of_code(Path(__file__).parents[1])


def digest_of_code(package: Path) -> str:
  """A digest of the sources in a folder that can change a number of a run.

  What only reads runs may be mended while a study goes on.
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
  """What a study is, as it is read back from JSON: its parts, and its code."""
  whole = {"code": code(), "commit": commit(), **parts}
  return from_json(to_json(whole))


def refuse_another(path: Path, here: Mapping[str, Any]) -> None:
  """Raises if a file holds another `identity`; the commit alone is no matter.

  Raises:
    InputError: with the difference.
  """
  there = {"code": None, "commit": None, **read_json(path)}

  def fields(some):
    rows = some["rows"]
    if not isinstance(rows, Mapping):
      rows = {row["name"]: row for row in rows}
    return {**some, "rows": rows, "commit": ""}

  if "data" not in there:
    # Of an earlier version, which is refused for its code.
    here = {k: v for k, v in here.items() if k != "data"}
  shown = difference(fields(there), fields(here))
  if not shown:
    return
  hint = ""
  if there["code"] != here["code"]:
    hint = (
      f" Its code was that of commit {there['commit']}, and this is"
      f" {here['commit']}: to go on with it, check that out."
    )
  raise InputError(
    f"{path.parent} holds another study: {shown}.{hint} Choose another --study,"
    " or delete it."
  )


def claim(
  folder: Path, config: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
  """Makes a folder the run of this config and data, or finds that it is.

  `data` is the `identity` of its splits.

  Raises:
    InputError: if it is the run of another config, or on other data.
  """
  make_folder(folder)
  path = folder / CONFIG
  if not path.exists():
    write_json(folder / DATA, data)
    write_json(path, config)  # last: its presence says that both are there
    return
  shown = difference(read_json(path), config)
  if shown:
    raise InputError(
      f"{folder} holds a run of another config: {shown}. Choose another"
      " --workdir, or delete it."
    )
  if not (folder / DATA).exists():
    raise InputError(
      f"{folder} holds a run of an earlier version, without {DATA}, so that"
      " nothing says whether it was made of this data. Its files can still be"
      " read; to train, choose another --workdir, or delete it."
    )
  shown = difference(read_json(folder / DATA), data)
  if shown:
    raise InputError(
      f"{folder} holds a run on other data: {shown}. Give it the data that it"
      " began with, choose another --workdir, or delete it."
    )


def data_of(folder: Path) -> dict[str, str]:
  """The digests of the data of a run.

  Without that of its weights file, which nothing needs after the first step.

  Raises:
    InputError: if they cannot be read.
  """
  digests = read_json(folder / DATA)
  return {part: x for part, x in digests.items() if part != WEIGHTS}


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
  """The first fields in which two nested dicts differ, in words.

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
  """Appends records to metrics.jsonl, one JSON object a line."""

  def __init__(self, folder: Path, last_step: int):
    """Opens the file and drops what was written after `last_step`."""
    self._path = folder / METRICS
    kept = [r for r in read_metrics(folder) if r["step"] <= last_step]
    lines = "".join(to_json(record) + "\n" for record in kept)
    write_atomically(self._path, lambda file: file.write(lines.encode()))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends one record; every value becomes a float."""
    record = {"step": step} | {k: float(v) for k, v in values.items()}
    with self._path.open("a") as file:
      file.write(to_json(record) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
  """The records of a run; a last line cut short by a kill is left out."""
  path = folder / METRICS
  if not path.exists():
    return []
  records = []
  for line in path.read_text().splitlines():
    try:
      records.append(from_json(line))
    except ValueError:
      break
  return records
