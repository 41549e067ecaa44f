"""What a data set is, and how it is cut into training, validation and test."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt8

from metric_learning.data.stream import ImageFiles
from metric_learning.errors import InputError, check_choice

# Open-set: test classes are unseen in training and validation. Closed-set:
# all classes are in all three, the images are disjoint.
PROTOCOLS = ("open-set", "closed-set")


class Pairs(NamedTuple):
  """Pairs of images by their indices, with one of two kinds of target."""

  images: UInt8[np.ndarray, "n h w c"]
  first: Int32[np.ndarray, "p"]
  second: Int32[np.ndarray, "p"]
  same: Bool[np.ndarray, "p"] | None
  similarity: Float32[np.ndarray, "p"] | None

  @property
  def is_same(self) -> Bool[np.ndarray, "p"]:
    """Whether a pair is the same: as given, or by a similarity of ½ or more."""
    if self.similarity is None:
      return np.asarray(self.same)
    return self.similarity >= 0.5


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Images and their labels; `class_names[label]` names what one shows.

  superclasses: the name of the super-class of each class, where there are some.
  pairs: explicit pairs of the images, where these are known and classes are
    not; labels then number the images.
  """

  name: str
  images: UInt8[np.ndarray, "n h w c"] | ImageFiles
  labels: Int32[np.ndarray, "n"]
  class_names: tuple[str, ...]
  superclasses: tuple[str, ...] | None = None
  pairs: Pairs | None = None


@dataclasses.dataclass(frozen=True)
class Splits:
  """The three parts of a data set, and the protocol that they obey.

  Raises `ValueError` if an open-set split shares a class between parts, or if
  the parts of a closed-set split differ in their classes.
  """

  train: Dataset
  validation: Dataset
  test: Dataset
  protocol: str

  def __post_init__(self) -> None:
    """Checks what the protocol promises about classes."""
    parts = [self.train, self.validation, self.test]
    names = [name for part in parts for name in part.class_names]
    if self.protocol == "open-set" and len(set(names)) < len(names):
      raise ValueError("an open-set split shares classes between its parts")
    if self.protocol == "closed-set" and names != 3 * [*parts[0].class_names]:
      raise ValueError("the parts of a closed-set split differ in classes")


def select(dataset: Dataset, indices: Int[np.ndarray, "m"]) -> Dataset:
  """Returns the images at `indices`, in that order, with labels unchanged."""
  return dataclasses.replace(
    dataset,
    images=dataset.images[indices],
    labels=dataset.labels[indices],
    pairs=None,  # these are of other indices
  )


def subset(dataset: Dataset, classes: Sequence[int] | np.ndarray) -> Dataset:
  """Returns the images of `classes`, relabelled 0, 1, … in the order given.

  >>> images = np.zeros((4, 1, 1, 1), np.uint8)
  >>> letters = Dataset(
  ...   "letters", images, np.int32([0, 1, 2, 1]), ("a", "b", "c")
  ... )
  >>> part = subset(letters, [2, 1])
  >>> part.labels.tolist(), part.class_names
  ([1, 0, 1], ('c', 'b'))
  """
  relabel = np.full(len(dataset.class_names), -1, np.int32)
  relabel[list(classes)] = np.arange(len(classes))
  part = select(dataset, np.flatnonzero(relabel[dataset.labels] >= 0))
  return dataclasses.replace(
    part,
    labels=relabel[part.labels],
    class_names=tuple(dataset.class_names[c] for c in classes),
    superclasses=dataset.superclasses
    and tuple(dataset.superclasses[c] for c in classes),
  )


def split_by_class(dataset: Dataset, parts: Sequence[np.ndarray]) -> Splits:
  """Open-set splits from the classes of training, validation and test."""
  train, validation, test = (subset(dataset, np.sort(part)) for part in parts)
  return Splits(train, validation, test, "open-set")


def split_by_image(dataset: Dataset, parts: Sequence[np.ndarray]) -> Splits:
  """Closed-set splits from the image indices of the three parts.

  Raises `ValueError` if an image is in two parts.
  """
  indices = np.concatenate(parts)
  if len(np.unique(indices)) < len(indices):
    raise ValueError("a closed-set split shares images between its parts")
  train, validation, test = (select(dataset, np.sort(part)) for part in parts)
  return Splits(train, validation, test, "closed-set")


def random_classes(dataset: Dataset, seed: int) -> Splits:
  """Open-set splits: 50, 20 and 30 % of the classes, drawn by `seed`.

  Raises `InputError` with fewer than 8 classes: a part would have fewer than
  two, and nothing to tell apart.
  """
  count = len(dataset.class_names)
  if count < 8:
    raise InputError(
      f"{dataset.name} has {count} classes; to split it by classes it takes 8, "
      "two in each part. Add classes, or split it by images."
    )
  order = np.random.default_rng(seed).permutation(count)
  ends = round(0.5 * count), round(0.5 * count) + round(0.2 * count)
  return split_by_class(dataset, np.split(order, ends))


def random_images(dataset: Dataset, seed: int) -> Splits:
  """Closed-set splits: 60, 20 and 20 % of each class, drawn by `seed`.

  Raises `InputError` if a class has fewer than 9 images: a part would have
  fewer than two of them, and no pair.
  """
  check_class_sizes(
    dataset.name,
    dataset.labels,
    dataset.class_names,
    least=9,
    purpose="split by images, two in each part",
  )
  return split_by_image(
    dataset, share_of_each_class(dataset.labels, (0.6, 0.2), seed)
  )


def share_of_each_class(
  labels: Int[np.ndarray, "n"], shares: Sequence[float], seed: int
) -> tuple[np.ndarray, ...]:
  """Cuts the indices of each class at random: `shares` of it, and the rest.

  >>> first, rest = share_of_each_class(np.array([0, 1, 0, 1]), [0.5], seed=0)
  >>> [sorted((part % 2).tolist()) for part in (first, rest)]  # their classes
  [[0, 1], [0, 1]]
  """
  rng = np.random.default_rng(seed)
  parts = []
  for label in np.unique(labels):
    members = rng.permutation(np.flatnonzero(labels == label))
    ends = np.cumsum([round(share * len(members)) for share in shares])
    parts.append(np.split(members, ends))
  return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def check_class_sizes(
  where: str,
  labels: Int[np.ndarray, "n"],
  class_names: Sequence[str],
  *,
  least: int,
  purpose: str,
) -> None:
  """Raises `InputError` that names classes of fewer than `least` images."""
  sizes = np.bincount(labels, minlength=len(class_names))
  small = [
    f"{name!r} ({size})"
    for name, size in zip(class_names, sizes, strict=True)
    if size < least
  ]
  if small:
    more = f" and {len(small) - 3} more" if len(small) > 3 else ""
    raise InputError(
      f"{where}: too few images in class {', '.join(small[:3])}{more}; "
      f"it takes {least} to {purpose}. Add images, or remove the class."
    )


def check_split(config: Any, folds: Mapping[str, int]) -> None:
  """Raises `InputError` unless the split, fold and seed of `config` exist.

  `folds` holds the known splits and how many folds each has.
  """
  check_choice(f"split of {config.name}", config.split, folds)
  last = folds[config.split] - 1
  if config.fold not in range(last + 1):
    known = f"0 to {last}" if last else "0 only"
    raise InputError(
      f"fold {config.fold!r} of {config.name}, split {config.split!r}: "
      f"the folds are {known}."
    )
  if config.split_seed < 0:
    raise InputError(f"split_seed={config.split_seed}: it must be 0 or more.")
