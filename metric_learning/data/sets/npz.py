"""`npz`: your own arrays, `images` and `labels`, in one NumPy file."""

import pathlib
import zipfile
from typing import Any

import numpy as np
from jaxtyping import Shaped

from metric_learning.data import base, cuts, files
from metric_learning.errors import InputError
from metric_learning.relevance import check_several

Arrays = dict[str, Shaped[np.ndarray, "..."]]


def load(config: Any) -> base.Splits:
  """Loads the arrays by "classes", "half", "folds", "images" or "official".

  "official" takes the parts in the array `split`.
  """
  return split_arrays(*read(config), config)


def split_arrays(
  dataset: base.Dataset, parts: Shaped[np.ndarray, " n *f"] | None, config: Any
) -> base.Splits:
  """Splits a data set by `config.split`, or into the parts in its file.

  `parts` [n, f] names the part of each item in each of f folds.

  Raises `InputError` for "official" without parts.
  """
  folds = parts.shape[1] if parts is not None and parts.ndim > 1 else 1
  cuts.check_split(config, cuts.CUTS | {"official": folds})
  if config.split != "official":
    return cuts.cut(dataset, config)
  if parts is None:
    raise InputError(
      f"{config.data_dir} has no array `split` for split='official': one of "
      "'train', 'validation' and 'test' for each item."
    )
  if parts.ndim > 1:
    parts = parts[:, config.fold]
  return cuts.split_as_given(dataset, parts, config)


def read(
  config: Any,
) -> tuple[base.Dataset, Shaped[np.ndarray, " n *f"] | None]:
  """Reads the data set, and the part of each image if the file has parts.

  - `images`: uint8, [n, h, w], or [n, h, w, c] with one or three channels
  - `labels`: [n], integers or strings; or [n, k] of 0 and 1, with a column for
    each class, if items have several labels
  - `class_names` (optional): the names of labels 0, 1, …
  - `split` (optional): [n], "train", "validation" or "test", or "query" and
    "gallery" instead of "test"; or [n, f], the part in each of f folds, from
    which `config.fold` chooses
  - `groups` (optional): [n], integers or strings: the sequence or camera of
    each image; images of the same class and group do not answer each other

  Pickled objects are refused.
  """
  path = files.data_path(config, "an npz file with `images` and `labels`")
  arrays = read_arrays(path, "images", "labels")
  images = arrays["images"]
  _check_images(path, images)
  images = images.reshape(*images.shape[:3], -1)
  return labeled("npz", path, images, arrays, config.small_classes)


def labeled(
  name: str,
  path: pathlib.Path,
  inputs: Any,
  arrays: Arrays,
  small_classes: str,
) -> tuple[base.Dataset, Shaped[np.ndarray, " n *f"] | None]:
  """Items with the labels, groups and names in their file, and their parts.

  Raises `InputError` for arrays of another length or type, and for classes that
  are too small.
  """
  for array in ("labels", "split", "groups"):
    shape = arrays[array].shape if array in arrays else inputs.shape[:1]
    if array != "groups" and len(shape) == 2 and shape[1] > 1:
      shape = shape[:1]  # Several labels per item, or a part per fold.
    if shape != inputs.shape[:1]:
      raise InputError(
        f"{path} has {len(inputs)} items, but `{array}` has the shape {shape};"
        " it needs one value for each item; `labels` and `split` may have a row"
        " of several."
      )
  labels, names = _classes(path, arrays)
  base.check_class_sizes(str(path), labels, names, small_classes=small_classes)
  groups = None
  if "groups" in arrays:
    _check_kind(path, "groups", arrays["groups"])
    groups, _ = base.number_classes(arrays["groups"])
  dataset = base.Dataset(name, inputs, labels, names, groups=groups)
  return dataset, arrays.get("split")


def read_arrays(path: pathlib.Path, *needed: str) -> Arrays:
  """All arrays of an npz file, which must hold those that are needed.

  Raises `InputError` for a file that is not an npz, lacks an array, or would
  run code or fill the memory.
  """
  arrays = _read_file(path)
  for name in needed:
    if name not in arrays:
      raise InputError(
        f"{path} lacks the array `{name}`; it has {', '.join(arrays)}."
      )
  return arrays


def _read_file(path: pathlib.Path) -> Arrays:
  if path.is_dir():
    raise InputError(f"data_dir {str(path)!r} is a folder, not an npz file.")
  files.check_regular(path)
  with files.reading(str(path)):
    with zipfile.ZipFile(path) as archive:
      size = sum(member.file_size for member in archive.infolist())
    files.check_unpacked(path, size)
    with np.load(path, allow_pickle=False) as stored:
      return {name: _read_array(path, stored, name) for name in stored.files}


def _read_array(
  path: pathlib.Path, stored: Any, name: str
) -> Shaped[np.ndarray, "..."]:
  try:
    return stored[name]
  except ValueError as error:
    if "allow_pickle" not in str(error):
      raise
    raise InputError(
      f"{path}: the array `{name}` holds Python objects, which can run code "
      "when they are read; save numbers, or strings of a fixed length."
    ) from error


def _check_images(
  path: pathlib.Path, images: Shaped[np.ndarray, "..."]
) -> None:
  channels = images.shape[3:]
  if (
    images.dtype != np.uint8
    or images.ndim not in (3, 4)
    or channels not in ((), (1,), (3,))
    or not images.size
  ):
    raise InputError(
      f"{path}: `images` is {images.dtype} {images.shape}; it takes uint8, "
      "0 to 255, of the shape (n, height, width) or (n, height, width, "
      "channels) with one channel or three."
    )


def _check_kind(
  path: pathlib.Path, name: str, array: Shaped[np.ndarray, " n"]
) -> None:
  if array.dtype.kind not in "iuU":
    raise InputError(
      f"{path}: `{name}` is {array.dtype}; it takes integers or strings."
    )


def _classes(
  path: pathlib.Path, arrays: Arrays
) -> tuple[Shaped[np.ndarray, " n *k"], tuple[str, ...]]:
  labels = arrays["labels"]
  if labels.ndim > 1:
    return _several(path, arrays)
  _check_kind(path, "labels", labels)
  if "class_names" not in arrays:
    return base.number_classes(labels)
  names = tuple(map(str, arrays["class_names"].ravel().tolist()))
  if labels.dtype.kind == "U" or not (
    labels.min() >= 0 and labels.max() < len(names)
  ):
    raise InputError(
      f"{path}: `labels` must be integers from 0 to {len(names) - 1}, to match "
      f"the {len(names)} `class_names`."
    )
  return labels.astype(np.int32), names


def _several(
  path: pathlib.Path, arrays: Arrays
) -> tuple[Shaped[np.ndarray, "n k"], tuple[str, ...]]:
  """Labels of items that have several, and the names of their columns."""
  labels = arrays["labels"]
  check_several(f"{path}, `labels`", labels)
  columns = labels.shape[1]
  names = arrays.get("class_names", np.arange(columns)).ravel().tolist()
  if len(names) != columns:
    raise InputError(
      f"{path}: `labels` has {columns} columns, but there are {len(names)}"
      " `class_names`; give one for each column."
    )
  if "groups" in arrays:
    raise InputError(
      f"{path}: `groups` need one label for each item, but items of `labels`"
      " have several: leave `groups` out."
    )
  return labels.astype(np.int32), tuple(map(str, names))
