"""Reads sets that come as one zip archive of images, and checks them."""

import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from metric_learning.data import base, files, imaging, stream
from metric_learning.errors import InputError

Place = pathlib.Path | zipfile.Path


def root_of(config: Any, archive: str, first: str) -> Place:
  """The folder of a set that holds `first`, on disk or in the archive.

  `config.data_dir` names the archive, the folder that it unpacks to, or a
  folder that holds one of the two. If `first` is missing, it is the outermost
  folder; the caller reports that.
  """
  path = files.data_path(config, f"{archive} or its unpacked folder")
  for place in (path, path / archive.removesuffix(".zip")):
    if (place / first).exists():
      return place
  if (path / archive).exists():
    path /= archive
  root = path if path.is_dir() else files.open_zip(path)
  places: list[Place] = [root, *root.iterdir()]
  return next((place for place in places if (place / first).exists()), root)


def names_in(root: Place) -> list[str]:
  """All files below a folder, relative to it and sorted."""
  if isinstance(root, pathlib.Path):
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in found)
  members = root.root.namelist()
  inside = (name for name in members if name.startswith(root.at))
  names = (name.removeprefix(root.at) for name in inside)
  return sorted(name for name in names if name and not name.endswith("/"))


def read(
  config: Any, root: Place, names: Sequence[str], class_names: Sequence[str]
) -> base.Dataset:
  """The images `<class>/<image>` of these names, in this order.

  With `config.stream`, they stay on disk, even in an archive.

  Raises:
    InputError: for images that are missing.
  """
  check_present(config, root, names, [n for n in names if (root / n).exists()])
  number = {name: label for label, name in enumerate(class_names)}
  labels = [number[name.split("/")[-2]] for name in names]
  paths: list[Any] = [root / name for name in names]
  short_side = imaging.short_side_of(config)
  decode = stream.image_files if config.stream else imaging.read_images
  return base.Dataset(
    config.name,
    decode(paths, tuple(config.image_size), config.background, short_side),
    np.array(labels, np.int32),
    tuple(class_names),
    short_side=short_side,
  )


def check_present(
  config: Any, root: Place, wanted: Sequence[str], present: Sequence[str]
) -> None:
  """Raises `InputError` with the first missing files of a set, if any."""
  there = {*present}
  missing = [name for name in wanted if name not in there]
  if missing:
    raise InputError(
      f"{root} lacks {len(missing)} of the {len(wanted)} images of"
      f" {config.name}, first {', '.join(missing[:3])}; unpack or fetch the"
      " archive again."
    )
