"""A folder that stores results, so that they are computed only once."""

import hashlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def folder() -> pathlib.Path:
  """`$METRIC_LEARNING_CACHE`, else `~/.cache/metric_learning`."""
  chosen = os.environ.get("METRIC_LEARNING_CACHE")
  return pathlib.Path(chosen or "~/.cache/metric_learning").expanduser()


def cached(name: str, build: Callable[[], Arrays]) -> Arrays:
  """Returns the arrays stored under `name`, or builds and stores them.

  A damaged file is built again. If the folder cannot be written, nothing is
  stored.
  """
  path = folder() / f"{name}.npz"
  arrays = _read(path)
  if arrays is None:
    arrays = build()
    _write(path, arrays)
  return arrays


def _read(path: pathlib.Path) -> Arrays | None:
  try:
    stored = path.read_bytes()
  except OSError:
    return None
  content, digest = stored[:-32], stored[-32:]
  if hashlib.sha256(content).digest() != digest:
    return None
  with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
    return dict(arrays)


def _write(path: pathlib.Path, arrays: dict[str, Any]) -> None:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  content = buffer.getvalue()
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete, so that no process reads a part of it.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
      whole = pathlib.Path(scratch, path.name)
      whole.write_bytes(content + hashlib.sha256(content).digest())
      whole.replace(path)
  except OSError:
    pass
