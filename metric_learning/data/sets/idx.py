"""`idx`: your own images and labels in two files of the format of MNIST."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

from metric_learning.data import base, cuts, files
from metric_learning.errors import InputError


def load(config: Any) -> base.Splits:
  """Loads images and labels by split "classes", "half", "folds" or "images"."""
  cuts.check_split(config, cuts.CUTS)
  return cuts.cut(read(config), config)


def read(config: Any) -> base.Dataset:
  """Reads `*images-idx3-ubyte` and `*labels-idx1-ubyte`, gzipped or not.

  `data_dir` holds one file of each kind. Four axes, images-idx4-ubyte, are
  images with channels. Labels become the names of classes.
  """
  root = files.data_path(
    config, "a folder of images-idx3-ubyte and labels-idx1-ubyte, or their .gz"
  )
  images, values = read_files(
    _only(root, "*images-idx[34]-ubyte"), _only(root, "*labels-idx1-ubyte")
  )
  labels, names = base.number_classes(values)
  base.check_class_sizes(
    str(root), labels, names, small_classes=config.small_classes
  )
  return base.Dataset("idx", images, labels, names)


def read_files(
  image_path: pathlib.Path, label_path: pathlib.Path
) -> tuple[UInt8[np.ndarray, "n h w c"], UInt8[np.ndarray, " n"]]:
  """Reads images and labels, whose numbers must agree."""
  images, labels = files.read_idx(image_path), files.read_idx(label_path)
  if (
    images.ndim not in (3, 4) or labels.ndim != 1 or len(images) != len(labels)
  ):
    raise InputError(
      f"{image_path} holds an array {images.shape}, and {label_path} one of "
      f"{labels.shape}; they must be (n, height, width) and (n,) with the same "
      "n. Fetch both again."
    )
  return images.reshape(*images.shape[:3], -1), labels


def _only(root: pathlib.Path, pattern: str) -> pathlib.Path:
  found = sorted({*root.glob(pattern), *root.glob(f"{pattern}.gz")})
  if len(found) != 1:
    names = ", ".join(path.name for path in found) or "none"
    raise InputError(
      f"{root} must hold one file {pattern}, or its .gz; it holds {names}."
    )
  return found[0]
