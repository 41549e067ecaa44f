"""Image files to embed with a run: finds, reads and checks them."""

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
  """The images in a folder and its subfolders, sorted by path.

  Files and folders whose name starts with a dot are ignored.

  Raises:
    InputError: if there are no images.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise InputError(f"{folder} is not a folder: give a folder of images.")
  is_hidden = lambda path: any(
    part.startswith(".") for part in path.relative_to(folder).parts
  )
  paths = [
    path
    for path in sorted(folder.rglob("*"))
    if path.suffix.lower() in SUFFIXES
    and path.is_file()
    and not is_hidden(path)
  ]
  if not paths:
    raise InputError(
      f"{folder} holds no images, and neither do its subfolders: images have"
      f" one of the suffixes {' '.join(SUFFIXES)}."
    )
  return paths


def image_labels(folder: str | Path, paths: Sequence[Path]) -> list[str]:
  """The label of each image in a folder: the name of its class folder.

  >>> image_labels("faces", [Path("faces/ada/1.png"), Path("faces/bob/2.png")])
  ['ada', 'bob']

  Raises:
    InputError: if an image is not in a class folder.
  """
  inside = [path.relative_to(folder) for path in paths]
  bare = [path for path in inside if len(path.parts) < 2]
  if bare:
    raise InputError(
      f"{folder}: {len(bare)} of {len(paths)} images are not in a class folder"
      f" (the first is {bare[0]}), so they have no label: move each to"
      " <label>/<image>."
    )
  return [path.parent.as_posix() for path in inside]


def read_blocks(
  items: Sequence[Any], read: Callable[[Any], Any], size: int
) -> Iterator[list[Any]]:
  """Yields `read(item)` of all items, in lists of `size` and in order.

  The next block is read ahead in threads. If `read` raises an `InputError`, the
  error takes the place of its item.
  """

  def guarded(item: Any) -> Any:
    try:
      return read(item)
    except InputError as error:
      return error

  waiting: deque[list[Future]] = deque()
  with ThreadPoolExecutor(THREADS) as pool:
    for start in range(0, len(items), size):
      block = items[start : start + size]
      waiting.append([pool.submit(guarded, item) for item in block])
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
  """Reads one image by `imaging.read_images`, with the shape of a spec.

  A gray image gets three channels if the spec has three.

  Raises:
    InputError: if the image cannot be read, if it has another size and `resize`
      is false, or if it is in color and the spec is gray.
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
      f"{path} is {height}×{width}, but the run takes {spec}: change its size,"
      " or have it resized (resize=True, or --resize)."
    )
  if channels > spec.shape[2]:
    raise InputError(
      f"{path} is in color, but the run takes gray {spec}: convert it to gray."
    )
  return np.broadcast_to(image, spec.shape)
