"""Records on disk: written whole or not at all, read with one message."""

import contextlib
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.errors import InputError
from metric_learning.training import records

# How a file is called while it is written, so that no reader takes it.
_PART = ".part"


def write_atomically(path: Path, write) -> None:
  """Calls `write(file)` so that `path` is whole or absent, even at a kill.

  Raises:
    OSError: if it cannot be written; it names the file.
  """
  with naming(path):
    with tempfile.NamedTemporaryFile(
      "wb", dir=path.parent, prefix=f".{path.name}-", suffix=_PART, delete=False
    ) as file:
      try:
        write(file)
        file.flush()
        os.fsync(file.fileno())
      except BaseException:
        _discard(file)
        raise
    try:
      os.chmod(file.name, 0o644)
      os.replace(file.name, path)
    except BaseException:
      _discard(file)
      raise


def _discard(file: Any) -> None:
  """Closes and deletes a file that could not be written."""
  # Its buffer may still hold what the disk would not take.
  with contextlib.suppress(OSError, ValueError):
    file.close()
  with contextlib.suppress(OSError):
    os.unlink(file.name)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Makes an error of the system name a file, in place of one on its way.

  Raises:
    OSError: also where a writer of archives makes another error of it.
  """
  try:
    yield
  except Exception as error:
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, OSError):
      behind = behind.__context__
    if behind is None or behind.errno is None:
      raise
    raise OSError(behind.errno, behind.strerror, str(path)) from error


def drop_leftovers(folder: Path) -> None:
  """Deletes what killed processes left half written.

  For whoever holds the folder: nobody else writes in it.
  """
  for path in folder.glob(f".*{_PART}"):
    path.unlink(missing_ok=True)


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
  """Reads `from_json`, and checks it where `records` says what it holds.

  Raises:
    InputError: naming the file, what is wrong and how to mend it, if it is not
      there, not whole or holds something else.
  """
  with explained(path):
    value = from_json(path.read_bytes())
  record = records.record_of(path.name)
  if record is not None:
    refuse(path, records.problem_in(value, record.shape))
  return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
  """Reads an npz; no pickles.

  Raises:
    InputError: as `read_json`.
  """
  # Opened here: NumPy does not close what turns out to be damaged.
  with explained(path), path.open("rb") as file:
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, Mapping):
      raise ValueError("it is one array, and no npz")
    arrays = dict(found)
  record = records.record_of(path.name)
  if record is not None:
    refuse(path, records.problem_in_arrays(arrays, record.shape))
  return arrays


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
  """Makes of what a damaged file raises one message.

  Raises:
    InputError: that names the file, what is wrong and how to mend it.
  """
  try:
    yield
  except OSError as error:
    raise InputError(f"{path} cannot be read: {error.strerror or error}") from (
      None
    )
  except UnicodeDecodeError:
    refuse(path, "it is not text in UTF-8")
  except RecursionError:
    refuse(path, "it is nested too deeply")
  except (
    *(ValueError, EOFError, LookupError, TypeError, SyntaxError, MemoryError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
  ) as error:
    refuse(path, str(error).partition("\n")[0] or type(error).__name__)


def refuse(path: Path, problem: str | None) -> None:
  """Raises `InputError` if there is a problem with a record."""
  if problem is not None:
    mend = records.mend_of(path.name)
    raise InputError(f"{path} cannot be read: {problem}. {mend}")
