"""Reads folders, archives and IDX files, and checks them."""

import contextlib
import gzip
import hashlib
import math
import os
import pathlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metric_learning.errors import InputError

# The errors that readers of images and archives raise for a damaged file.
DAMAGE = (
  OSError,
  EOFError,
  ValueError,
  RuntimeError,
  SyntaxError,
  MemoryError,
  tarfile.TarError,
  zipfile.BadZipFile,
  zlib.error,
)
FETCH_AGAIN = "compare its checksum with the source's, or fetch it again"

# A small file can unpack to more than the memory holds. An archive may unpack
# to 4 GiB, twenty times CIFAR, and an image to as many pixels as Pillow allows.
# The limit is an environment variable: it depends on the machine, and a config
# describes only what a run computes.
MAX_UNPACKED = 4 * 2**30
NO_SIZE_LIMIT = "METRIC_LEARNING_NO_SIZE_LIMIT"


def data_path(config: Any, holding: str) -> pathlib.Path:
  """The file or folder that `config.data_dir` names.

  Raises `InputError`, which asks for `holding`, if it is not set or missing.
  """
  if not config.data_dir:
    raise InputError(
      f"data set {config.name!r} needs data_dir: set it to {holding}."
    )
  path = pathlib.Path(config.data_dir).expanduser()
  if not path.exists():
    raise InputError(
      f"data_dir {str(path)!r} does not exist; set it to {holding}."
    )
  return path


def check_digest(path: pathlib.Path, digest: str) -> None:
  """Raises `InputError` unless a file has this MD5 or SHA-256 digest.

  The digest is in hexadecimal: 32 digits for MD5, 64 for SHA-256.
  """
  algorithm = {32: "md5", 64: "sha256"}[len(digest)]
  with path.open("rb") as file:
    found = hashlib.file_digest(file, algorithm).hexdigest()
  if found != digest:
    raise InputError(
      f"{path} has the {algorithm} {found}, not {digest}, which its source "
      "publishes: it is damaged, truncated or another version; fetch it again."
    )


def check_unpacked(path: pathlib.Path, size: int) -> None:
  """Raises `InputError` if a file unpacks to more than `MAX_UNPACKED` bytes."""
  if size > MAX_UNPACKED and not os.environ.get(NO_SIZE_LIMIT):
    raise InputError(
      f"{path} unpacks to over {MAX_UNPACKED} bytes, which may be an attack on "
      f"your memory; if you trust it, set {NO_SIZE_LIMIT}=1."
    )


def check_member(path: pathlib.Path, name: str, is_link: bool) -> None:
  """Raises `InputError` if a member of an archive would leave its folder."""
  # Windows paths have both slashes and drive letters.
  member = pathlib.PureWindowsPath(name)
  if member.anchor or ".." in member.parts or is_link:
    kind = "the link" if is_link else "the path"
    raise InputError(
      f"the archive {path} holds {kind} {name!r}, which may lead out of its "
      f"folder; {FETCH_AGAIN}."
    )


def check_space(folder: pathlib.Path, size: int) -> None:
  """Raises `InputError` unless the disk of a folder has `size` bytes free.

  The folder need not exist.
  """
  folder = folder.absolute()
  place = next(p for p in (folder, *folder.parents) if p.exists())
  free = shutil.disk_usage(place).free
  if free < size:
    raise InputError(
      f"{folder} needs {size / 1e6:,.0f} MB, but its disk has "
      f"{free / 1e6:,.0f} MB free; make room, or choose another folder."
    )


def check_regular(path: pathlib.Path) -> None:
  """Raises `InputError` for a pipe or a device, which may never end."""
  if path.exists() and not path.is_file() and not path.is_dir():
    raise InputError(f"{path} is a pipe or a device, not a file of data.")


@contextlib.contextmanager
def reading(what: str, advice: str = FETCH_AGAIN) -> Iterator[None]:
  """Turns the errors of a damaged file into an `InputError` that names it."""
  try:
    yield
  except InputError:
    raise
  except DAMAGE as error:
    reason = str(error).partition("\n")[0].rstrip(":")
    raise InputError(f"cannot read {what}: {reason}; {advice}.") from error


def open_zip(path: pathlib.Path) -> zipfile.Path:
  """Opens a zip archive as a folder.

  Raises `InputError` if it is damaged, if a member would leave the folder or is
  a link, or if the contents are too large.
  """
  with reading(f"the archive {path}"):
    archive = zipfile.ZipFile(path)
    for member in archive.infolist():
      is_link = stat.S_ISLNK(member.external_attr >> 16)
      check_member(path, member.filename, is_link)
    check_unpacked(path, sum(m.file_size for m in archive.infolist()))
    return zipfile.Path(archive)


def read_tar(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """Yields the name and content of each file of a tar, compressed or not.

  Raises `InputError` like `open_zip`.
  """
  with reading(f"the archive {path}"), tarfile.open(path) as archive:
    size = 0
    for member in archive:
      check_member(path, member.name, member.issym() or member.islnk())
      size += member.size
      check_unpacked(path, size)
      file = archive.extractfile(member) if member.isfile() else None
      if file is not None:
        yield member.name, file.read()


def read_idx(path: pathlib.Path) -> UInt8[np.ndarray, "..."]:
  """Reads a file of unsigned bytes in the IDX format of MNIST, gzipped or not.

  It holds two zeros, the type (8), the number of axes, the length of each axis
  as a big-endian 32-bit integer, and the values. Raises `InputError` if the
  file is damaged.
  """
  check_regular(path)
  with reading(str(path)), path.open("rb") as raw:
    zipped = raw.peek(2)[:2] == b"\x1f\x8b"
    with gzip.open(raw) if zipped else raw as file:
      kind, axes = file.read(3), int.from_bytes(file.read(1))
      header = file.read(4 * axes)
      if kind != b"\0\0\x08" or not axes or len(header) < 4 * axes:
        raise InputError(
          f"{path} is not an IDX file of unsigned bytes; {FETCH_AGAIN}."
        )
      shape = tuple(np.frombuffer(header, ">u4").tolist())
      size = math.prod(shape)
      check_unpacked(path, size)
      content = file.read(size + 1)  # detects more data
  if len(content) != size:
    found = len(content) if len(content) < size else "more"
    raise InputError(
      f"{path} holds {found} bytes of data, but its header promises {size} "
      f"{shape}; {FETCH_AGAIN}."
    )
  return np.frombuffer(content, np.uint8).reshape(shape)
