"""Images that stay on disk until they are needed, and are read ahead."""

import concurrent.futures
import dataclasses
import functools
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt64

from metric_learning.data import crops, files, identity, imaging
from metric_learning.errors import InputError

# Threads that read, beside the one that trains. Decoding releases the lock of
# the interpreter, so threads suffice, and no data moves between processes.
THREADS = 2 * (os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class ImageFiles:
  """Images on disk: an index selects files, `np.asarray` reads them.

  `paths` holds files, or records of a prepared set (`imaging.Source`).

  `shape` is that of the array that `np.asarray` returns. An index of a single
  image reads it at once, as with an array. `stamps` holds the
  `identity.file_stamp` of each file.
  """

  paths: np.ndarray
  stamps: UInt64[np.ndarray, " n"]
  image_shape: tuple[int, int, int]
  background: int = 255
  short_side: int | None = None

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """(n, height, width, channels)."""
    return (len(self.paths), *self.image_shape)

  @property
  def ndim(self) -> int:
    """4."""
    return 4

  @property
  def dtype(self) -> np.dtype:
    """The type of a stored image."""
    return np.dtype(np.uint8)

  @property
  def identity(self) -> str:
    """A digest of names and stamps; the folders do not matter."""
    names = [getattr(path, "name", str(path)) for path in self.paths]
    return identity.digest([*names, self.stamps])

  def __len__(self) -> int:
    """The number of images."""
    return len(self.paths)

  def __getitem__(self, index: Any) -> Any:
    """The images at a slice or at some indices, still on disk."""
    chosen = self.paths[index]
    if not isinstance(chosen, np.ndarray):
      return np.asarray(self[[index]])[0]
    return dataclasses.replace(self, paths=chosen, stamps=self.stamps[index])

  def __array__(
    self, dtype: Any = None, copy: bool | None = None
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Reads all images."""
    return self.read()

  def read(
    self, draws: Sequence[crops.Draw] | None = None
  ) -> UInt8[np.ndarray, "n h w c"]:
    """Reads all images: each whole, or a random part of it."""
    if not len(self):
      return np.zeros(self.shape, np.uint8)
    height, width, _ = self.image_shape
    images = imaging.read_images(
      self.paths, (height, width), self.background, self.short_side, draws
    )
    # If all of these images are gray, they still get the channels of the set.
    return np.broadcast_to(images, self.shape)


def image_files(
  paths: Iterable[imaging.Source],
  size: tuple[int, ...] = (),
  background: int = 255,
  short_side: int | None = None,
) -> ImageFiles:
  """The images that `imaging.read_images` would read; it reads their headers.

  Reads many at a time: one by one, a network disk would take hours.

  Raises `InputError` that lists the files which are not images, or if sizes
  differ and `size` is ().
  """
  paths = list(paths)
  imaging.check_background(background)
  crops.check(size, short_side)
  shapes: dict[tuple[int, int, int], imaging.Source] = {}
  stamps, errors = [], []
  with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
    headers = pool.map(functools.partial(_header, size=size), paths)
    for path, header in zip(paths, headers, strict=True):
      if isinstance(header, InputError):
        errors.append(header)
      else:
        stamps.append(header[0])
        shapes.setdefault(header[1], path)
  imaging.refuse(errors, len(paths))
  if len(shapes) > 1 and not size:
    (one, first), (other, second) = list(shapes.items())[:2]
    raise imaging.images_differ(first, one, second, other)
  height, width = next(iter(shapes))[:2]
  channels = max(shape[2] for shape in shapes)
  found = np.empty(len(paths), object)
  for i, path in enumerate(paths):
    found[i] = path
  shape = height, width, channels
  return ImageFiles(
    found, np.array(stamps, np.uint64), shape, background, short_side
  )


def _header(
  path: imaging.Source, size: tuple[int, ...]
) -> tuple[int, tuple[int, int, int]] | InputError:
  """The stamp of a file and the shape of its image, or an error."""
  try:
    if isinstance(path, pathlib.Path):
      files.check_regular(path)
    reading = files.reading(f"the image {path}", imaging.advice(path))
    with reading, _opened(path) as file:
      return identity.file_stamp(file), imaging.read_shape(file, path, size)
  except InputError as error:
    return error


def _opened(path: imaging.Source) -> Any:
  """An open file; for a record of a prepared set, its bytes in memory."""
  if isinstance(path, pathlib.Path):
    return path.open("rb")
  return io.BytesIO(path.read_bytes())


def read_ahead(
  read: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[Any]:
  """Yields `read(item)` for each item in order, and reads the next ones ahead.

  Raises `InputError` if grain is not installed. An error of `read` is raised
  when its item is due.

  >>> list(read_ahead(lambda x: x * x, range(4)))
  [0, 1, 4, 9]
  """
  try:
    import grain
  except ImportError as error:
    raise InputError(
      "reading images while training needs the package grain: pip install "
      "grain, or set config.data.stream=False."
    ) from error
  options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=THREADS)
  reading = grain.MapDataset.source(items).map(read)
  return iter(reading.to_iter_dataset(options))
