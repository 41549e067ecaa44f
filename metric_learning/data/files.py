"""Images on disk: folders, archives, IDX files, and what can be wrong there."""

import gzip
import io
import math
import pathlib
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from metric_learning.errors import InputError

# What readers of images and archives raise when a file is damaged.
DAMAGE = (
  OSError,
  EOFError,
  ValueError,
  RuntimeError,
  SyntaxError,
  zipfile.BadZipFile,
  zlib.error,
)
FETCH_AGAIN = "compare its checksum with the source's, or fetch it again"


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


def open_zip(path: pathlib.Path) -> zipfile.Path:
  """Opens an archive, which then reads as a folder."""
  try:
    return zipfile.Path(path)
  except DAMAGE as error:
    raise InputError(
      f"cannot open the archive {path}: {error}; {FETCH_AGAIN}."
    ) from error


def read_images(
  paths: Iterable[Source], size: tuple[int, ...] = ()
) -> UInt8[np.ndarray, "n h w c"]:
  """Reads images of one size, or resizes them to `size` (height, width).

  One channel if all are gray, else three. Transparency is dropped. Raises
  `InputError` if a file is damaged, if it has more than 8 bits a channel, or if
  sizes differ and `size` is ().
  """
  paths = list(paths)
  images = [_read_image(path, size) for path in paths]
  for path, image in zip(paths, images, strict=True):
    if image.shape[:2] != images[0].shape[:2]:
      (h0, w0), (h, w) = images[0].shape[:2], image.shape[:2]
      raise InputError(
        f"images differ in size: {paths[0]} is {h0}×{w0}, {path} is {h}×{w}; "
        "set image_size=(height, width) to resize all."
      )
  channels = max(image.shape[2] for image in images)
  shape = (*images[0].shape[:2], channels)
  return np.stack([np.broadcast_to(image, shape) for image in images])


def _read_image(
  path: Source, size: tuple[int, ...]
) -> UInt8[np.ndarray, "h w c"]:
  from PIL import Image

  try:
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()
  except DAMAGE as error:
    raise InputError(
      f"cannot read the image {path}: {error}; {FETCH_AGAIN}."
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
  planes = images.transpose(0, 3, 1, 2)
  resized = [
    np.rint(rows @ plane.astype(np.float32) @ columns.T).transpose(1, 2, 0)
    for plane in planes
  ]
  return np.stack(resized).astype(np.uint8)


def _overlaps(old: int, new: int) -> Float32[np.ndarray, "{new} {old}"]:
  """The share of each old pixel in each new one; every row sums to 1."""
  ends = np.linspace(0, old, new + 1)
  low, high = ends[:-1, None], ends[1:, None]
  left = np.arange(old)
  shared = np.minimum(high, left + 1) - np.maximum(low, left)
  return (np.maximum(shared, 0) * (new / old)).astype(np.float32)


def read_idx(path: pathlib.Path) -> UInt8[np.ndarray, "..."]:
  """Reads a file of unsigned bytes in the IDX format of MNIST, gzipped or not.

  Two zeros, the type (8), the number of axes, each axis' length as a big-endian
  32-bit integer, then the values. Raises `InputError` if the file is damaged.
  """
  try:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
      content = gzip.decompress(content)
  except DAMAGE as error:
    raise InputError(f"cannot read {path}: {error}; {FETCH_AGAIN}.") from error
  axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
  start = 4 + 4 * axes
  if not axes or len(content) < start:
    raise InputError(
      f"{path} is not an IDX file of unsigned bytes; {FETCH_AGAIN}."
    )
  shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
  if len(content) - start != math.prod(shape):
    raise InputError(
      f"{path} holds {len(content) - start} bytes of data where its header "
      f"promises {math.prod(shape)} {shape}; {FETCH_AGAIN}."
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
