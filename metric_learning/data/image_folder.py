"""`image_folder`: your own images, one folder a class."""

import itertools
import pathlib
from typing import Any

import numpy as np

from metric_learning.data import base, files, imaging, stream
from metric_learning.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm")


def load(config: Any, seed: int = 0) -> base.Splits:
  """Loads `data_dir/<class>/<image>`.

  By split "classes", "half", "folds" or "images".
  """
  del seed  # nothing is drawn
  base.check_split(config, base.CUTS)
  return base.cut(read(config), config)


def read(config: Any) -> base.Dataset:
  """Reads the PNG, JPEG and PGM images; classes and images sorted by name.

  Other files, and what starts with a dot, are passed over. With `stream` the
  images stay on disk.
  """
  root = files.data_path(config, "a folder of class folders of images")
  if not root.is_dir():
    raise InputError(f"data_dir {str(root)!r} is a file, not a folder.")
  folders = sorted(path for path in root.iterdir() if _is_class(path))
  if not folders:
    raise InputError(
      f"{root} has no class folders: images must be at <class>/<image> in it."
    )
  members = [_image_paths(folder) for folder in folders]
  sizes = [len(paths) for paths in members]
  names = tuple(folder.name for folder in folders)
  labels = np.repeat(np.arange(len(names), dtype=np.int32), sizes)
  base.check_class_sizes(
    str(root), labels, names, small_classes=config.small_classes
  )
  read = stream.image_files if config.stream else imaging.read_images
  images = read(
    itertools.chain.from_iterable(members),
    tuple(config.image_size),
    config.background,
  )
  return base.Dataset("image_folder", images, labels, names)


def _is_class(path: pathlib.Path) -> bool:
  return path.is_dir() and not path.name.startswith(".")


def _image_paths(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    path
    for path in folder.iterdir()
    if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
  )
