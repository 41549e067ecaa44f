"""Images on disk: folders, archives, IDX files, and what can be wrong there."""

import contextlib
import functools
import gzip
import hashlib
import io
import math
import os
import pathlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from metric_learning.errors import InputError

# What readers of images and archives raise when a file is damaged.
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
# The switch is a variable of the environment: what a machine bears is no part
# of a config, which says what a run computes.
MAX_UNPACKED = 4 * 2**30
NO_SIZE_LIMIT = "METRIC_LEARNING_NO_SIZE_LIMIT"

# Pillow would start other programs for some formats.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@runtime_checkable
class Source(Protocol):
  """What an image is read from: a path, or a place in an archive."""

  def read_bytes(self) -> bytes:
    """The encoded image."""


def data_path(config: Any, holding: str) -> pathlib.Path:
  """The path that `config.data_dir` names, file or folder.

  Raises `InputError` that asks for `holding` if it is not set or not there.
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
  """Raises `InputError` unless a file has this MD5 or SHA-256, told by length.

  The digest is in hexadecimal: 32 digits for MD5, 64 for SHA-256.
  """
  algorithm = {32: "md5", 64: "sha256"}[len(digest)]
  with path.open("rb") as file:
    found = hashlib.file_digest(file, algorithm).hexdigest()
  if found != digest:
    raise InputError(
      f"{path} has the {algorithm} {found}, not {digest}, which its source "
      "publishes: it is damaged, cut short or another version; fetch it again."
    )


def check_unpacked(path: pathlib.Path, size: int) -> None:
  """Raises `InputError` if a file unpacks to more than `MAX_UNPACKED` bytes."""
  if size > MAX_UNPACKED and not os.environ.get(NO_SIZE_LIMIT):
    raise InputError(
      f"{path} unpacks to over {MAX_UNPACKED} bytes, which may be an attack on "
      f"your memory; if you trust it, set {NO_SIZE_LIMIT}=1."
    )


def check_member(path: pathlib.Path, name: str, is_link: bool) -> None:
  """Raises `InputError` if a member of an archive leads out of its folder."""
  # Windows' paths know both slashes, and letters of drives.
  member = pathlib.PureWindowsPath(name)
  if member.anchor or ".." in member.parts or is_link:
    kind = "the link" if is_link else "the path"
    raise InputError(
      f"the archive {path} holds {kind} {name!r}, which may lead out of its "
      f"folder; {FETCH_AGAIN}."
    )


def check_space(folder: pathlib.Path, size: int) -> None:
  """Raises `InputError` if the disk of a folder has not `size` bytes free.

  The folder need not exist yet.
  """
  folder = folder.absolute()
  place = next(p for p in (folder, *folder.parents) if p.exists())
  free = shutil.disk_usage(place).free
  if free < size:
    raise InputError(
      f"{folder} needs {size / 1e6:,.0f} MB, and its disk has "
      f"{free / 1e6:,.0f} MB free; make room, or choose another folder."
    )


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
  """Makes of what a damaged file raises an `InputError` that names it."""
  try:
    yield
  except InputError:
    raise
  except DAMAGE as error:
    reason = str(error).partition("\n")[0].rstrip(":")
    raise InputError(f"cannot read {what}: {reason}; {FETCH_AGAIN}.") from error


def open_zip(path: pathlib.Path) -> zipfile.Path:
  """Opens an archive, which then reads as a folder.

  Raises `InputError` if it is damaged, if a member leads out of the folder or
  is a link, or if all together are too large.
  """
  with reading(f"the archive {path}"):
    archive = zipfile.ZipFile(path)
    for member in archive.infolist():
      is_link = stat.S_ISLNK(member.external_attr >> 16)
      check_member(path, member.filename, is_link)
    check_unpacked(path, sum(m.file_size for m in archive.infolist()))
    return zipfile.Path(archive)


def read_tar(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """Yields name and content of each file of a tar archive, compressed or not.

  Raises `InputError` as `open_zip` does.
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


def read_images(
  paths: Iterable[Source], size: tuple[int, ...] = ()
) -> UInt8[np.ndarray, "n h w c"]:
  """Reads images of one size, or resizes them to `size` (height, width).

  One channel if all are gray, else three. Transparency is dropped. Raises
  `InputError` if a file is damaged or too large, if it has more than 8 bits a
  channel, or if they differ in size or channels and `size` is ().
  """
  paths = list(paths)
  images = [_read_image(path, size) for path in paths]
  for path, image in zip(paths, images, strict=True):
    if image.shape != images[0].shape and not size:
      raise images_differ(paths[0], images[0].shape, path, image.shape)
  channels = max(image.shape[2] for image in images)
  shape = (*images[0].shape[:2], channels)
  return np.stack([np.broadcast_to(image, shape) for image in images])


def images_differ(
  first: Source,
  first_shape: tuple[int, ...],
  other: Source,
  other_shape: tuple[int, ...],
) -> InputError:
  """What is said of two images of one set that differ in size or channels."""
  return InputError(
    f"images differ: {first} is {_format(first_shape)}, {other} is "
    f"{_format(other_shape)}; set image_size=(height, width) to resize all, "
    "and to give gray ones among colored ones three channels."
  )


def _format(shape: tuple[int, ...]) -> str:
  height, width, channels = shape
  return f"{height}×{width} {'gray' if channels == 1 else 'color'}"


def _read_image(
  path: Source, size: tuple[int, ...]
) -> UInt8[np.ndarray, "h w c"]:
  from PIL import Image

  if os.environ.get(NO_SIZE_LIMIT):
    Image.MAX_IMAGE_PIXELS = None
  limit = Image.MAX_IMAGE_PIXELS
  with reading(f"the image {path}"):
    try:
      image = Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS)
      # Pillow only warns over its limit, and refuses over twice; to make an
      # error of a warning is nothing for threads, which share the filters.
      if limit and math.prod(image.size) > limit:
        raise Image.DecompressionBombError
      image.load()
    except (
      Image.DecompressionBombWarning,
      Image.DecompressionBombError,
    ) as error:
      raise InputError(
        f"the image {path} has over {limit} pixels, which may "
        f"be an attack on your memory; if you trust it, set {NO_SIZE_LIMIT}=1."
      ) from error
  if image.mode.startswith(("I", "F")):
    raise InputError(
      f"the image {path} has more than 8 bits a channel; convert it to 8 bits."
    )
  mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
  pixels = np.atleast_3d(np.asarray(image.convert(mode)))
  return resize(pixels[None], size)[0] if size else pixels


def resize(
  images: UInt8[np.ndarray, "n h w c"], size: tuple[int, ...]
) -> UInt8[np.ndarray, "n height width c"]:
  """Resizes to (height, width) by area averaging.

  An output pixel is the mean of the area that it covers, in which an input
  pixel that it covers in part counts in part.

  >>> row = np.uint8([10, 40, 70]).reshape(1, 1, 3, 1)
  >>> resize(row, (1, 2)).ravel()  # (10 + 40/2) / 1.5, (40/2 + 70) / 1.5
  array([20, 60], dtype=uint8)
  """
  rows, columns = (
    _overlaps(old, new)
    for old, new in zip(images.shape[1:3], size, strict=True)
  )
  return np.stack([_average(image, rows, columns) for image in images])


def _average(
  image: UInt8[np.ndarray, "h w c"], rows: Any, columns: Any
) -> UInt8[np.ndarray, "height width c"]:
  height, (_, width, channels) = rows.shape[0], image.shape
  tall = rows @ image.reshape(len(image), -1).astype(np.float32)
  tall = tall.reshape(height, width, channels).swapaxes(0, 1)
  small = columns @ tall.reshape(width, -1)
  small = small.reshape(-1, height, channels).swapaxes(0, 1)
  return np.rint(small).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _overlaps(old: int, new: int) -> Any:
  """The share of each old pixel in each new one; every row sums to 1.

  Sparse, since it is zero but near its diagonal: a dense product took most of
  the time of reading an image, and on all cores (measured).
  """
  from scipy.sparse import csr_array

  ends = np.linspace(0, old, new + 1)
  low, high = ends[:-1, None], ends[1:, None]
  left = np.arange(old)
  shared = np.minimum(high, left + 1) - np.maximum(low, left)
  return csr_array((np.maximum(shared, 0) * (new / old)).astype(np.float32))


def read_idx(path: pathlib.Path) -> UInt8[np.ndarray, "..."]:
  """Reads a file of unsigned bytes in the IDX format of MNIST, gzipped or not.

  Two zeros, the type (8), the number of axes, each axis' length as a big-endian
  32-bit integer, then the values. Raises `InputError` if the file is damaged.
  """
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
      content = file.read(size + 1)  # to see whether there is more
  if len(content) != size:
    found = len(content) if len(content) < size else "more"
    raise InputError(
      f"{path} holds {found} bytes of data where its header promises {size} "
      f"{shape}; {FETCH_AGAIN}."
    )
  return np.frombuffer(content, np.uint8).reshape(shape)
