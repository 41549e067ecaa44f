"""Files on disk: written atomically, and read with one clear message."""

import contextlib
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.errors import InputError
from metric_learning.training import records

# The suffix of a file that is still being written.
_PART = ".part"


def write_atomically(path: Path, write: Callable[..., object]) -> None:
  """Calls `write(file)` so that `path` is complete or absent at any time.

  Raises:
    OSError: naming the file, if it cannot be written.
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
  # Flushing its buffer would fail again.
  with contextlib.suppress(OSError, ValueError):
    file.close()
  with contextlib.suppress(OSError):
    os.unlink(file.name)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Makes a system error name this file instead of a temporary one.

  Raises:
    OSError: naming the file, even if a writer of archives wrapped the error.
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


def drop_leftovers(folder: Path, name: str = "*") -> None:
  """Deletes what killed processes wrote in part, of one file or of all.

  Only for a process that alone may write them.
  """
  for path in folder.glob(f".{name}-*{_PART}"):
    path.unlink(missing_ok=True)


def to_json(value: Any, **options: Any) -> str:
  """Strict JSON: NaN becomes null, and infinity a string.

  All JSON of this package is written by this function and read by `from_json`.

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
  """Reads the output of `to_json`, restoring infinity and NaN.

  Null becomes NaN under the name of a score, which contains a slash.

  >>> from_json('{"own/eer": null, "own/threshold": "-Infinity"}')
  {'own/eer': nan, 'own/threshold': -inf}
  >>> from_json('{"trial": null}')
  {'trial': None}

  Raises:
    ValueError: if the text is not JSON.
  """
  return _restored(json.loads(text))


def _restored(value: Any, of_score: bool = False) -> Any:
  """Restores infinities, and for a score turns null into NaN."""
  if isinstance(value, dict):
    return {name: _restored(item, "/" in name) for name, item in value.items()}
  if isinstance(value, list):
    return [_restored(item, of_score) for item in value]
  if value is None and of_score:
    return math.nan
  return float(value) if value in ("Infinity", "-Infinity") else value


def write_json(path: Path, value: Any) -> None:
  """Writes JSON atomically."""
  text = to_json(value, indent=2, sort_keys=True) + "\n"
  write_atomically(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes an npz atomically."""
  write_atomically(
    path, lambda file: np.savez(file, allow_pickle=False, **arrays)
  )


def read_json(path: Path) -> Any:
  """Reads JSON, and checks its contents against `records`.

  Raises:
    InputError: naming the file, the problem and the remedy, if it is missing,
      truncated or has other contents.
  """
  with explained(path):
    value = from_json(path.read_bytes())
  record = records.record_of(path.name)
  if record is not None:
    refuse(path, records.problem_in(value, record.shape))
  return value


def read_arrays(path: Path) -> dict[str, np.ndarray]:
  """Reads an npz without pickles.

  Raises:
    InputError: like `read_json`.
  """
  # Opened here, since NumPy does not close a damaged file.
  with explained(path), path.open("rb") as file:
    stored = np.load(file, allow_pickle=False)
    if not isinstance(stored, Mapping):
      raise ValueError("it is a single array, not an npz")
    arrays = dict(stored)
  record = records.record_of(path.name)
  if record is not None:
    refuse(path, records.problem_in_arrays(arrays, record.shape))
  return arrays


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
  """Turns the errors that a damaged file can raise into one message.

  Raises:
    InputError: naming the file, the problem and the remedy.
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
  """Raises `InputError` if a record has a problem."""
  if problem is not None:
    mend = records.mend_of(path.name)
    raise InputError(f"{path} cannot be read: {problem}. {mend}")
