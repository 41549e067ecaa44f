"""Weights of TensorFlow.js: a manifest, and files of numbers in its folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.errors import InputError

_TYPES = {
  "float32": "<f4",
  "float16": "<f2",
  "int32": "<i4",
  "uint16": "<u2",
  "uint8": "u1",
}


def is_manifest(data: bytes) -> bool:
  """Whether a file is a manifest, judged by its content."""
  return data.lstrip()[:1] == b"[" and b'"weights"' in data


def with_numbers(data: bytes, folder: Path) -> bytes:
  """The manifest followed by its numbers, for a digest.

  Raises:
    InputError: if a file of numbers is missing, or is not in its folder.
  """
  return data + b"".join(_numbers_of(group, folder) for group in _groups(data))


def read(data: bytes, folder: Path) -> dict[str, np.ndarray]:
  """The tensors of a manifest; quantized tensors become float32.

  Raises:
    InputError: for a manifest that is damaged, or does not fit its files.
  """
  tensors = {}
  for group in _groups(data):
    numbers, start = _numbers_of(group, folder), 0
    for entry in group["weights"]:
      name, shape, stored, scale = _entry(entry)
      size = int(np.prod(shape, dtype=object)) * stored.itemsize
      if start + size > len(numbers):
        raise InputError(f"its numbers end within {name!r}: fetch it again.")
      tensor = np.frombuffer(numbers[start : start + size], stored)
      start += size
      if scale:
        tensor = tensor.astype(np.float32) * np.float32(scale["scale"])
        tensor += np.float32(scale["min"])
      tensors[name] = tensor.reshape(shape)
    if start != len(numbers):
      raise InputError(
        f"{len(numbers) - start} bytes follow its last tensor: fetch it again."
      )
  return tensors


def _groups(data: bytes) -> list[Any]:
  try:
    groups = json.loads(data)
    assert all({"weights", "paths"} <= group.keys() for group in groups)
  except (ValueError, AssertionError, AttributeError, TypeError):
    raise InputError(
      "a JSON file, but no manifest of TensorFlow.js: give"
      " …-weights_manifest.json."
    ) from None
  return groups


def _numbers_of(group: Any, folder: Path) -> bytes:
  parts = []
  for name in group["paths"]:
    if not isinstance(name, str) or Path(name).name != name:
      raise InputError(f"it names {name!r}, which is not beside it.")
    try:
      parts.append((folder / name).read_bytes())
    except OSError as error:
      raise InputError(
        f"its numbers are in {name}, which cannot be read"
        f" ({error.strerror}): put that file beside it."
      ) from None
  return b"".join(parts)


def _entry(entry: Any) -> tuple[str, tuple[int, ...], np.dtype, Any]:
  """Name, shape, type in the file, and scale and minimum if quantized."""
  try:
    scale = entry.get("quantization")
    stored = np.dtype(_TYPES[(scale or entry)["dtype"]])
    shape = tuple(entry["shape"])
    assert all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 8
    assert not scale or {"scale", "min"} <= scale.keys()
    return str(entry["name"]), shape, stored, scale
  except (KeyError, TypeError, AttributeError, AssertionError):
    raise InputError(
      "its manifest is damaged, or has a type that is not supported: fetch it"
      " again."
    ) from None
