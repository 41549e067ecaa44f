"""Data sets by name, cut into parts that share no class, or no image."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from metric_learning.data import crops, duplicates, imaging, validation_folds
from metric_learning.data.base import (
  PROTOCOLS,
  SMALL_CLASSES,
  Dataset,
  Splits,
  select,
  subset,
)
from metric_learning.data.cuts import check_scorable
from metric_learning.data.sets import (
  att_faces,
  cars_train,
  cifar,
  cub100,
  digits,
  features,
  glyph_pairs,
  glyphs,
  idx,
  image_folder,
  lfw,
  mnist,
  npz,
  omniglot,
  pairs_csv,
  retrieval,
  signatures,
  table,
  tfds,
)
from metric_learning.data.standardize import standardized
from metric_learning.data.stream import ImageFiles
from metric_learning.errors import InputError, check_choice
from metric_learning.plugins import enter

__all__ = [
  "DATASETS",
  "Dataset",
  "ImageFiles",
  "Splits",
  "load",
  "select",
  "subset",
]

DATASETS: dict[str, Callable[[Any], Splits]] = {
  "att_faces": att_faces.load,
  "cars196": retrieval.load,
  "cars_train": cars_train.load,
  "cifar10": cifar.load,
  "cifar100": cifar.load,
  "cub100": cub100.load,
  "cub200": retrieval.load,
  "digits": digits.load,
  "fashion_mnist": mnist.load,
  "features": features.load,
  "glyph_pairs": glyph_pairs.load,
  "glyphs": glyphs.load,
  "idx": idx.load,
  "image_folder": image_folder.load,
  "inshop": retrieval.load,
  "kmnist": mnist.load,
  "lfw": lfw.load,
  "mnist": mnist.load,
  "npz": npz.load,
  "omniglot": omniglot.load,
  "pairs_csv": pairs_csv.load,
  "signatures": signatures.load,
  "sop": retrieval.load,
  "table": table.load,
  "tfds": tfds.load,
}


def load(config: Any) -> Splits:
  """Loads the data set that `config` describes, cut into its three parts.

  `config` has these attributes; those marked optional may be missing:

  - name: a key of `DATASETS`; for tensorflow-datasets with the name of the set,
    such as "tfds:svhn_cropped"
  - data_dir: the file or folder of the set; "" for none
  - split: a split that the data set knows
  - split_seed, fold: with the split, these decide which item is in which part
  - image_size: (height, width), or () for the native size
  - short_side (optional): the short side of image files before they are cut
  - protocol: "open-set" or "closed-set", which the split must obey
  - small_classes: "refuse", or "repeat" or "drop" to admit small classes
  - background (optional): the gray level that transparent pixels show
  - validation_folds, validation_fold, validation_draw (optional), train_on: see
    `hold_out`
  - stream (optional): whether images stay on disk until they are needed
  - standardize (optional): whether features are scaled to mean 0, deviation 1

  Warns if an image is in training and in test.

  >>> from types import SimpleNamespace
  >>> splits = load(SimpleNamespace(
  ...   name="digits", data_dir="", split="images", split_seed=0, fold=0,
  ...   image_size=(4, 4), protocol="closed-set", validation_folds=1,
  ...   validation_fold=0, train_on="train", small_classes="refuse",
  ... ))
  >>> [part.inputs.shape for part in (splits.train, splits.test)]
  [(1078, 4, 4, 1), (360, 4, 4, 1)]

  Raises:
    InputError: naming what in the config or in the data cannot be used.
  """
  name = set_of(config.name)
  check_choice("protocol", config.protocol, PROTOCOLS)
  check_choice("small_classes", config.small_classes, SMALL_CLASSES)
  size = _checked_size(config.image_size)
  short_side = imaging.short_side_of(config)
  crops.check(size, short_side)
  splits = DATASETS[name](config)
  if splits.protocol != config.protocol:
    raise InputError(
      f"split {config.split!r} of {config.name} is {splits.protocol}, but the "
      f"config has protocol={config.protocol!r}: change one of the two."
    )
  duplicates.warn_of_duplicates(splits)
  resize = functools.partial(_resized, size=size, short_side=short_side)
  resized = dataclasses.replace(
    splits,
    train=resize(splits.train),
    validation=resize(splits.validation),
    test=resize(splits.test),
    gallery=splits.gallery and resize(splits.gallery),
  )
  found = validation_folds.hold_out(resized, config)
  check_scorable(found)
  if getattr(config, "standardize", False):
    return standardized(found)
  return found


def set_of(name: str) -> str:
  """The entry of `DATASETS` for the `name` of a config.

  Raises `InputError` if there is none.

  >>> set_of("digits"), set_of("tfds:svhn_cropped")
  ('digits', 'tfds')
  """
  entry = "tfds" if name.startswith("tfds:") else name
  enter("data set", DATASETS, entry)
  check_choice("data set", entry, DATASETS)
  return entry


def _checked_size(size: Any) -> tuple[int, ...]:
  if not isinstance(size, tuple | list) or not (
    len(size) == 0
    or (len(size) == 2 and all(type(side) is int and side > 0 for side in size))
  ):
    raise InputError(
      f"image_size={size!r}: give (height, width), two positive integers, or "
      "() for the native size."
    )
  return tuple(size)


def _resized(
  dataset: Dataset, size: tuple[int, ...], short_side: int | None
) -> Dataset:
  if not size:
    return dataset
  if dataset.input_spec.kind != "image":
    raise InputError(
      f"image_size={size} is for images, but {dataset.name} holds"
      f" {dataset.input_spec}: set config.data.image_size=()."
    )
  if dataset.short_side != short_side:
    raise InputError(
      f"config.data.short_side={short_side} is for sets of image files, but"
      f" {dataset.name} is an array: set it to None."
    )
  if dataset.inputs.shape[1:3] == size:
    return dataset
  images = imaging.resize(np.asarray(dataset.inputs), size)
  return dataclasses.replace(dataset, inputs=images)
