"""`image_folder`: your own images, one folder per class."""

import collections
import pathlib
import warnings
from typing import Any

import numpy as np
from jaxtyping import Shaped

from metric_learning.data import base, cuts, files, imaging, stream
from metric_learning.errors import InputError

SUFFIXES = (
  *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp"),
  *(".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm"),
)
# Names of the folders of parts, which hold class folders.
PART_FOLDERS = {part: part for part in base.GIVEN_PARTS} | {"val": "validation"}
# Files and folders that operating systems leave among images.
_LITTER = ("thumbs.db", "desktop.ini")


def load(config: Any) -> base.Splits:
  """Loads `data_dir/<class>/<image>`, or `data_dir/<part>/<class>/<image>`.

  The first layout has the splits "classes", "half", "folds" and "images". The
  second has the split "official": the parts are the folders train, validation
  (or val; without it, validation is drawn from train) and test; query and
  gallery can replace test.
  """
  cuts.check_split(config, cuts.CUTS | {"official": 1})
  if config.split == "official":
    return cuts.split_as_given(*read_parts(config), config)
  return cuts.cut(read(config), config)


def read(config: Any) -> base.Dataset:
  """Reads the images; classes and images are sorted by name.

  Reads files with one of `SUFFIXES`, like `imaging.read_images`. Warns of other
  files and of subfolders, which are left out. Names that start with a dot are
  left out without a warning. With `stream`, the images stay on disk.
  """
  root = _root(config)
  folders = _folders(root)
  parts = [path.name for path in folders if path.name in PART_FOLDERS]
  if parts and all(_holds_folders(root / part) for part in parts):
    raise InputError(
      f"{root} holds {', '.join(parts)}, with class folders in them: set "
      "data.split='official' to use these parts, or set data_dir to one of "
      "them."
    )
  return _read(config, _PassedOver(root), [("", root)])[0]


def read_parts(config: Any) -> tuple[base.Dataset, Shaped[np.ndarray, " n"]]:
  """Reads the images of the part folders, and the part of each image.

  Classes of the same name are the same class in all parts.
  """
  root = _root(config)
  folders = _folders(root)
  found = [
    (PART_FOLDERS[path.name], path)
    for path in folders
    if path.name in PART_FOLDERS
  ]
  if not found:
    names = base.first_of([path.name for path in folders]) or "none"
    raise InputError(
      f"{root} has no part folders for split='official', which needs train, "
      f"validation and test, or train, query and gallery; it has {names}. For "
      "<class>/<image> without parts, set data.split='classes'."
    )
  if len({part for part, _ in found}) < len(found):
    raise InputError(f"{root} has both val and validation; keep one of them.")
  passed_over = _PassedOver(root)
  taken = [path for _, path in found]
  passed_over.add("folders of no part", [p for p in folders if p not in taken])
  return _read(config, passed_over, found)


def _root(config: Any) -> pathlib.Path:
  root = files.data_path(config, "a folder of class folders of images")
  if not root.is_dir():
    raise InputError(f"data_dir {str(root)!r} is a file, not a folder.")
  return root


def _read(
  config: Any,
  passed_over: "_PassedOver",
  parts: list[tuple[str, pathlib.Path]],
) -> tuple[base.Dataset, Shaped[np.ndarray, " n"]]:
  """The images in the class folders of each part, and the part of each."""
  paths, classes, part_of = [], [], []
  for part, top in parts:
    folders = _folders(top)
    if not folders:
      raise InputError(
        f"{top} has no class folders: images must be at <class>/<image> in it."
      )
    passed_over.look_beside(top)
    for folder in folders:
      members = passed_over.images_in(folder)
      paths += members
      classes += len(members) * [folder.name]
      part_of += len(members) * [part]
  passed_over.warn()
  names = sorted({path.name for _, top in parts for path in _folders(top)})
  number = {name: label for label, name in enumerate(names)}
  labels = np.array([number[name] for name in classes], np.int32)
  base.check_class_sizes(
    str(passed_over.root), labels, names, small_classes=config.small_classes
  )
  read = stream.image_files if config.stream else imaging.read_images
  short_side = imaging.short_side_of(config)
  images = read(paths, tuple(config.image_size), config.background, short_side)
  dataset = base.Dataset(
    "image_folder", images, labels, tuple(names), short_side=short_side
  )
  return dataset, np.array(part_of)


class _PassedOver:
  """Files and folders that are not read: counted, with an example per kind."""

  def __init__(self, root: pathlib.Path) -> None:
    self.root = root
    self._found: dict[str, list[pathlib.Path]] = collections.defaultdict(list)

  def add(self, kind: str, paths: list[pathlib.Path]) -> None:
    """Counts paths of one kind."""
    if paths:
      self._found[kind] += paths

  def images_in(self, folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a class, sorted by name; counts the other paths."""
    images = []
    for path in sorted(folder.iterdir()):
      suffix = path.suffix.lower()
      if _is_hidden(path):
        continue
      if path.is_dir():
        self._found["subfolders of classes"].append(path)
      elif suffix not in SUFFIXES:
        self._found[f"files {suffix or 'without a suffix'}"].append(path)
      elif path.exists() and not path.is_file():
        self._found["pipes or devices"].append(path)
      else:
        images.append(path)
    return images

  def look_beside(self, folder: pathlib.Path) -> None:
    """Counts images beside the class folders."""
    self.add("images in no class folder", _images_beside(folder))

  def warn(self) -> None:
    """Gives one warning about all."""
    if self._found:
      shown = ", ".join(
        f"{len(paths)} {kind} ({paths[0].relative_to(self.root)})"
        for kind, paths in self._found.items()
      )
      warnings.warn(
        f"{self.root}: left out are {shown}. Images must be at <class>/<image>"
        f" and have one of the suffixes {' '.join(SUFFIXES)}.",
        stacklevel=5,
      )


def _is_hidden(path: pathlib.Path) -> bool:
  return path.name.startswith(".") or path.name.lower() in _LITTER


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
  return sorted(
    path for path in root.iterdir() if path.is_dir() and not _is_hidden(path)
  )


def _images_beside(root: pathlib.Path) -> list[pathlib.Path]:
  """Files that are named like images and lie beside the class folders."""
  return sorted(
    path
    for path in root.iterdir()
    if path.suffix.lower() in SUFFIXES
    and not path.is_dir()
    and not _is_hidden(path)
  )


def _holds_folders(folder: pathlib.Path) -> bool:
  """Whether a folder holds folders, and no image beside them."""
  return bool(_folders(folder)) and not _images_beside(folder)
