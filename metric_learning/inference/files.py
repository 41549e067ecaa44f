"""Image files of people who use a run: found, read ahead, and refused."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metric_learning.data import imaging
from metric_learning.data.sets.image_folder import SUFFIXES
from metric_learning.data.stream import THREADS
from metric_learning.errors import InputError
from metric_learning.specs import InputSpec


def images_in(folder: str | Path) -> list[Path]:
  """The images in a folder and the folders in it, sorted by path.

  What starts with a dot is passed over.

  Raises:
    InputError: if there are none.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise InputError(f"{folder} is not a folder: give one that holds images.")
  hidden = lambda path: any(
    part.startswith(".") for part in path.relative_to(folder).parts
  )
  found = [
    path
    for path in sorted(folder.rglob("*"))
    if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden(path)
  ]
  if not found:
    raise InputError(
      f"{folder} holds no images, nor do the folders in it: files with one of"
      f" the suffixes {' '.join(SUFFIXES)}."
    )
  return found


def image_labels(folder: str | Path, paths: Sequence[Path]) -> list[str]:
  """The class folder of each image in a folder: what it is called in there.

  >>> image_labels("faces", [Path("faces/ada/1.png"), Path("faces/bob/2.png")])
  ['ada', 'bob']

  Raises:
    InputError: for an image that is in no class folder.
  """
  inside = [path.relative_to(folder) for path in paths]
  bare = [path for path in inside if len(path.parts) < 2]
  if bare:
    raise InputError(
      f"{folder}: {len(bare)} of {len(paths)} images are in no class folder"
      f" (the first is {bare[0]}), so that they have no label: put each at"
      " <label>/<image>."
    )
  return [path.parent.as_posix() for path in inside]


def read_blocks(
  items: Sequence[Any], read: Callable[[Any], Any], size: int
) -> Iterator[list[Any]]:
  """`read` of each item, `size` at a time, while the next are being read.

  In order. An `InputError` that `read` raises is in the place of its item.
  """

  def guarded(item):
    try:
      return read(item)
    except InputError as error:
      return error

  waiting: deque[list[Future]] = deque()
  with ThreadPoolExecutor(THREADS) as pool:
    for start in range(0, len(items), size):
      some = items[start : start + size]
      waiting.append([pool.submit(guarded, item) for item in some])
      if len(waiting) > 1:
        yield [future.result() for future in waiting.popleft()]
    for last in waiting:
      yield [future.result() for future in last]


def read_image(
  path: Path,
  spec: InputSpec,
  resize: bool,
  background: int,
  short_side: int | None = None,
) -> UInt8[np.ndarray, "h w c"]:
  """One image of a spec, as `imaging.read_images` reads it.

  A gray image gets three channels where the spec has them.

  Raises:
    InputError: if it cannot be read, has another size and is not to be resized,
      or is colored and the spec is gray.
  """
  size = tuple(spec.shape[:2])
  image = imaging.read_images(
    [path],
    size if resize else (),
    background,
    short_side if resize else None,
  )[0]
  height, width, channels = image.shape
  if (height, width) != size:
    raise InputError(
      f"{path} is {height}×{width}, and the run takes {spec}: bring it to that"
      " size, or have it resized (resize=True, or --resize)."
    )
  if channels > spec.shape[2]:
    raise InputError(
      f"{path} is in color, and the run takes gray {spec}: convert it to gray."
    )
  return np.broadcast_to(image, spec.shape)
