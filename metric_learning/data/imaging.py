"""Decodes images as viewers show them, and resizes them."""

import functools
import io
import math
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from metric_learning.data import crops, files
from metric_learning.errors import InputError

# For other formats, Pillow may start other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
REPLACE = "replace the file, or remove it"
# The variable that limits the memory for images, in GB. By default it is 8 GB,
# or half of the memory of the machine if that is less.
MEMORY_LIMIT = "METRIC_LEARNING_MEMORY_GB"
# How many broken images a message names.
_SHOWN = 10

_GRAY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112
# What undoes each EXIF orientation; 1 needs nothing.
_TURNS = {
  2: "FLIP_LEFT_RIGHT",
  3: "ROTATE_180",
  4: "FLIP_TOP_BOTTOM",
  5: "TRANSPOSE",
  6: "ROTATE_270",
  7: "TRANSVERSE",
  8: "ROTATE_90",
}


@runtime_checkable
class Source(Protocol):
  """What an image is read from: a path, or a place in an archive."""

  def read_bytes(self) -> bytes:
    """The encoded image."""


def read_images(
  paths: Iterable[Source],
  size: tuple[int, ...] = (),
  background: int = 255,
  short_side: int | None = None,
  draws: Sequence[crops.Draw] | None = None,
) -> UInt8[np.ndarray, "n h w c"]:
  """Reads images of one size, or resizes them to `size` (height, width).

  With `short_side`, the aspect ratio is kept: the short side gets this length,
  and `size` is cut from the middle. With `draws`, one for each image, a random
  part replaces the middle.

  Images look as in a viewer: rotated by their EXIF orientation, and the first
  frame of an animation. Transparent pixels show `background`, a gray level from
  0 to 255. The result has one channel if all images are gray, else three.

  Raises `InputError` that lists files which are damaged, are too large, or have
  more than 8 bits per channel; if images differ in size or channels and `size`
  is (); and, after the first image, if all will not fit in memory.
  """
  paths = list(paths)
  check_background(background)
  crops.check(size, short_side)
  images, errors = [], []
  for i, path in enumerate(paths):
    try:
      draw = draws[i] if draws else None
      images.append(_read_image(path, size, background, short_side, draw))
    except InputError as error:
      errors.append(error)
    if len(images) == 1:
      check_memory(len(paths), images[0].shape)
  refuse(errors, len(paths))
  for path, image in zip(paths, images, strict=True):
    if image.shape != images[0].shape and not size:
      raise images_differ(paths[0], images[0].shape, path, image.shape)
  channels = max(image.shape[2] for image in images)
  whole = np.empty((len(images), *images[0].shape[:2], channels), np.uint8)
  for i in range(len(images)):
    whole[i] = images[i]
    images[i] = whole[i]  # frees the first copy
  return whole


def short_side_of(config: Any) -> int | None:
  """The field `short_side` of a section `data`; None if it is missing."""
  return getattr(config, "short_side", None)


def check_memory(count: int, shape: tuple[int, ...]) -> None:
  """Raises `InputError` if images would exceed the memory limit."""
  size = count * math.prod(shape)
  chosen = os.environ.get(MEMORY_LIMIT)
  limit = 1e9 * float(chosen) if chosen else min(8e9, _memory() / 2)
  if size > limit:
    raise InputError(
      f"{count} images of {_format(shape)} take {size / 1e9:.1f} GB of memory, "
      f"more than the limit of {limit / 1e9:.3g} GB: lower image_size, leave "
      "files on disk with data.stream=True, or raise the limit with "
      f"{MEMORY_LIMIT}={size / 1e9 + 1:.0f} in the environment."
    )


def _memory() -> float:
  """The bytes of memory of this machine; infinite if they are unknown."""
  try:
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
  except (AttributeError, ValueError, OSError):  # Windows
    return math.inf


def check_background(background: int) -> None:
  """Raises `InputError` unless the background is a gray level."""
  if background not in range(256):
    raise InputError(
      f"background={background} must be a gray level, from 0 (black) to 255 "
      "(white)."
    )


def refuse(errors: Sequence[InputError], count: int) -> None:
  """Raises one error for all images of `count` that cannot be used, if any."""
  if len(errors) == 1:
    raise errors[0]
  if errors:
    lines = [f"  {error}" for error in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
      lines.append(f"  and {len(errors) - _SHOWN} more")
    raise InputError(
      "\n".join([f"{len(errors)} of {count} images cannot be used:", *lines])
    )


def images_differ(
  first: Source,
  first_shape: tuple[int, ...],
  other: Source,
  other_shape: tuple[int, ...],
) -> InputError:
  """The error for two images of a set that differ in size or channels."""
  return InputError(
    f"images differ: {first} is {_format(first_shape)}, {other} is "
    f"{_format(other_shape)}; set image_size=(height, width) to resize all, "
    "and to give gray images among color images three channels."
  )


def _format(shape: tuple[int, ...]) -> str:
  height, width, channels = shape
  return f"{height}×{width} {'gray' if channels == 1 else 'color'}"


def advice(path: Source) -> str:
  """What to do about a damaged file: only an archive can be fetched again."""
  return REPLACE if isinstance(path, pathlib.Path) else files.FETCH_AGAIN


def _read_image(
  path: Source,
  size: tuple[int, ...],
  background: int,
  short_side: int | None,
  draw: crops.Draw | None,
) -> UInt8[np.ndarray, "h w c"]:
  if isinstance(path, pathlib.Path):
    files.check_regular(path)
  with files.reading(f"the image {path}", advice(path)):
    image = _open(io.BytesIO(path.read_bytes()), path)
    image.load()
  image = _on_paper(_upright(image), background)
  if short_side is not None or draw is not None:
    return np.atleast_3d(
      np.asarray(crops.cropped(image, size, short_side, draw))
    )
  pixels = np.atleast_3d(np.asarray(image))
  return resize(pixels[None], size)[0] if size else pixels


def read_shape(
  file: Any, path: Source, size: tuple[int, ...] = ()
) -> tuple[int, int, int]:
  """Height, width and channels that `read_images` would give for an open file.

  Reads the header alone if it holds the orientation. Raises what
  `files.reading` explains, as far as the header shows the damage.
  """
  image = _open(file, path)
  channels = 1 if image.mode in _GRAY else 3
  if size:
    height, width = size
    return height, width, channels
  if image.format in ("PNG", "TIFF") and image.width != image.height:
    image.load()  # Pillow knows the orientation only now.
  height, width = image.size if _orientation(image) >= 5 else image.size[::-1]
  return height, width, channels


def _open(file: Any, path: Source) -> Any:
  """An image with an accepted format, size and depth; not decoded yet."""
  from PIL import Image, UnidentifiedImageError

  if os.environ.get(files.NO_SIZE_LIMIT):
    Image.MAX_IMAGE_PIXELS = None
  limit = Image.MAX_IMAGE_PIXELS
  try:
    image = Image.open(file, formats=FORMATS)
    # Pillow only warns over its limit, and raises over twice the limit. Turning
    # the warning into an error is not safe: threads share the warning filters.
    if limit and math.prod(image.size) > limit:
      raise Image.DecompressionBombError
  except (
    Image.DecompressionBombWarning,
    Image.DecompressionBombError,
  ) as error:
    raise InputError(
      f"the image {path} has over {limit} pixels, which may be an attack on "
      f"your memory; if you trust it, set {files.NO_SIZE_LIMIT}=1."
    ) from error
  except UnidentifiedImageError as error:
    raise InputError(
      f"cannot read the image {path}: it is empty, no image, or its format is "
      f"none of {', '.join(FORMATS)}; {advice(path)}."
    ) from error
  if _is_deep(image):
    raise InputError(
      f"the image {path} has more than 8 bits per channel; convert it to 8."
    )
  return image


def _is_deep(image: Any) -> bool:
  """Whether an image has over 8 bits per channel, which Pillow may drop."""
  if image.mode.startswith(("I", "F")):
    return True
  for tile in image.tile:
    # How pixels are stored: "RGB;16B"; for PPM, with the largest value.
    stored = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    if ";16" in str(stored[0]):
      return True
    if tile[0].startswith("ppm") and stored[1] > 255:
      return True
  return False


def _orientation(image: Any) -> int:
  """The EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
  try:
    found = image.getexif().get(_ORIENTATION, 1)
  except Exception:  # Like viewers: ignore a damaged block.
    return 1
  return found if found in _TURNS else 1


def _upright(image: Any) -> Any:
  from PIL import Image

  orientation = _orientation(image)
  if orientation == 1:
    return image
  return image.transpose(Image.Transpose[_TURNS[orientation]])


def _on_paper(image: Any, background: int) -> Any:
  """Gray or RGB; transparent pixels show the background."""
  from PIL import Image

  gray = image.mode in _GRAY
  mode = "L" if gray else "RGB"
  if not image.has_transparency_data:
    return image.convert(mode)
  image = image.convert("LA" if gray else "RGBA")
  color = background if gray else (background,) * 3
  paper = Image.new(mode, image.size, color)
  paper.paste(image.convert(mode), mask=image.getchannel("A"))
  return paper


def resize(
  images: UInt8[np.ndarray, "n h w c"], size: tuple[int, ...]
) -> UInt8[np.ndarray, "n height width c"]:
  """Resizes to (height, width) by area averaging.

  An output pixel is the mean of the area that it covers. Input pixels that are
  covered in part count in part.

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

  Sparse, since it is zero except near its diagonal: a dense product took most
  of the time of reading an image, on all cores (measured).
  """
  from scipy.sparse import csr_array

  ends = np.linspace(0, old, new + 1)
  low, high = ends[:-1, None], ends[1:, None]
  left = np.arange(old)
  shared = np.minimum(high, left + 1) - np.maximum(low, left)
  return csr_array((np.maximum(shared, 0) * (new / old)).astype(np.float32))
