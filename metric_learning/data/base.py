"""Data sets, and their parts for training, validation and test."""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Shaped, UInt8

from metric_learning.data.identity import digest
from metric_learning.data.stream import ImageFiles
from metric_learning.errors import InputError
from metric_learning.relevance import check_several
from metric_learning.specs import InputSpec, spec_of

# Open-set: test classes are unseen in training and validation. Closed-set: each
# class is in all three parts, but no image is in two.
PROTOCOLS = ("open-set", "closed-set")
PARTS = ("train", "validation", "test")
# The key of the provenance of features in the identity of the parts.
PROVENANCE = "provenance"
# With a gallery, the test images are queries.
GIVEN_PARTS = (*PARTS, "query", "gallery")
# What happens to classes with too few images.
SMALL_CLASSES = ("refuse", "repeat", "drop")


class Pairs(NamedTuple):
  """Pairs of items, by index, with labels or similarities as targets.

  folds: the fold of each pair, if the protocol scores them fold by fold.
  """

  first: Int32[np.ndarray, " p"]
  second: Int32[np.ndarray, " p"]
  same: Bool[np.ndarray, " p"] | None
  similarity: Float32[np.ndarray, " p"] | None
  folds: Int32[np.ndarray, " p"] | None = None

  @property
  def is_same(self) -> Bool[np.ndarray, " p"]:
    """Whether a pair is genuine: by its label, or a similarity of ½ or more."""
    if self.similarity is None:
      return np.asarray(self.same)
    return self.similarity >= 0.5


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Items and their labels; `class_names[label]` is the name of a class.

  inputs: images, in memory or on disk, or vectors of features.
  labels: one for each item, `[n]`; or several, `[n, k]`, with 1 in the column
    of each class of the item and 0 elsewhere.
  superclasses: the name of the super-class of each class, if there are any.
  pairs: explicit pairs of items, which verification scores instead of all
    pairs. If classes are not known, labels number the items.
  groups: the sequence, camera or session of each item, if known. Items of the
    same class and group do not answer each other, since they are too similar.
  provenance: the origin of features, in a sentence, if known.
  short_side: the short side of image files before they were cut; None if they
    were not.

  Raises `InputError` if two classes have the same name, or if an item has no
  label.
  """

  name: str
  inputs: UInt8[np.ndarray, "n h w c"] | Float32[np.ndarray, "n d"] | ImageFiles
  labels: Int32[np.ndarray, " n *k"]
  class_names: tuple[str, ...]
  superclasses: tuple[str, ...] | None = None
  pairs: Pairs | None = None
  groups: Int32[np.ndarray, " n"] | None = None
  provenance: str | None = None
  short_side: int | None = None

  def __post_init__(self) -> None:
    """Checks that class names differ, and that labels fit them."""
    if self.has_several_labels:
      self._check_several()
    if len(set(self.class_names)) < len(self.class_names):
      counts = collections.Counter(self.class_names)
      twice = [repr(name) for name, count in counts.items() if count > 1]
      raise InputError(
        f"{self.name}: several classes have the name {first_of(twice)}; give "
        "each class its own name, or their images one label."
      )

  def _check_several(self) -> None:
    check_several(f"{self.name}, labels", self.labels)
    if len(self.class_names) != self.labels.shape[1]:
      raise InputError(
        f"{self.name}: labels have {self.labels.shape[1]} columns, and there"
        f" are {len(self.class_names)} class names; give one for each column."
      )
    if self.groups is not None:
      raise InputError(
        f"{self.name}: groups hide items of the same class and group, but items"
        " with several labels have no single class: leave the groups out."
      )

  @property
  def has_several_labels(self) -> bool:
    """Whether items may have more than one label."""
    return self.labels.ndim > 1

  @property
  def class_sizes(self) -> Int[np.ndarray, " k"]:
    """The number of items of each class."""
    return sizes_of(self.labels, len(self.class_names))

  @property
  def strata(self) -> Int32[np.ndarray, " n"]:
    """The strata of a split by items: the classes.

    With several labels, all items are one stratum.
    """
    one = np.zeros(len(self.labels), np.int32)
    return one if self.has_several_labels else self.labels

  @property
  def levels(self) -> Int32[np.ndarray, "n 2"]:
    """The super-class and the class of each item, as numbers.

    Raises `InputError` if there are no super-classes.

    >>> images = np.zeros((3, 1, 1, 1), np.uint8)
    >>> Dataset(
    ...   "three", images, np.int32([0, 1, 2]), ("a", "b", "c"), ("y", "x", "y")
    ... ).levels.tolist()
    [[1, 0], [0, 1], [1, 2]]
    """
    if self.superclasses is None:
      raise InputError(f"{self.name} has no super-classes.")
    numbers, _ = number_classes(np.array(self.superclasses))
    return np.stack([numbers[self.labels], self.labels], axis=1)

  def classes_of(self, index: int) -> str:
    """The names of the classes of an item, for a message."""
    label = self.labels[index]
    labels = np.flatnonzero(label) if self.has_several_labels else [label]
    return " and ".join(repr(self.class_names[i]) for i in labels)

  @property
  def input_spec(self) -> InputSpec:
    """The shape and kind of an item."""
    return spec_of(self.inputs)

  @functools.cached_property
  def identity(self) -> str:
    """Counts, sizes and digests of the contents, in one line.

    For images on disk, the digest is that of their names and `file_stamp`s.

    >>> images = np.zeros((4, 8, 8, 1), np.uint8)
    >>> labels = np.int32([0, 0, 1, 1])
    >>> Dataset("two", images, labels, ("a", "b")).identity
    '2 classes, 4 images of 8×8×1: names ef08e098c786, ...'
    """
    digests = {
      "names": digest(self.class_names),
      "labels": digest([self.labels]),
    }
    if isinstance(self.inputs, ImageFiles):
      digests["files"] = self.inputs.identity
    else:
      kind = "pixels" if self.input_spec.kind == "image" else "features"
      digests[kind] = digest([np.asarray(self.inputs)])
    if self.superclasses is not None:
      digests["superclasses"] = digest(self.superclasses)
    if self.pairs is not None:
      arrays = [array for array in self.pairs if array is not None]
      digests["pairs"] = digest(arrays)
    if self.groups is not None:
      digests["groups"] = digest([self.groups])
    shown = ", ".join(f"{name} {value}" for name, value in digests.items())
    return (
      f"{len(self.class_names)} classes, {len(self.labels)} {self.input_spec}:"
      f" {shown}"
    )


@dataclasses.dataclass(frozen=True)
class Splits:
  """The three parts of a data set, and the protocol that they obey.

  With a `gallery`, test images are queries that search it instead of each
  other. With `validation_seen`, the validation part is also trained on, so its
  scores say nothing about unseen classes. `scale` holds the mean of each
  feature and the factor on it, if features were standardized.

  Raises `ValueError` if an open-set split shares a class between parts, if the
  parts of a closed-set split differ in their classes, or if gallery and test
  part number their classes differently.
  """

  train: Dataset
  validation: Dataset
  test: Dataset
  protocol: str
  gallery: Dataset | None = None
  validation_seen: bool = False
  scale: tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]] | None = None

  def __post_init__(self) -> None:
    """Checks that the classes obey the protocol."""
    unseen = [] if self.validation_seen else [self.validation]
    parts = [self.train, *unseen, self.test]
    names = [name for part in parts for name in part.class_names]
    if self.protocol == "open-set" and len(set(names)) < len(names):
      raise ValueError("an open-set split shares classes between its parts")
    if self.protocol == "closed-set" and names != len(parts) * [
      *parts[0].class_names
    ]:
      raise ValueError("the parts of a closed-set split differ in classes")
    if self.gallery and self.gallery.class_names != self.test.class_names:
      raise ValueError("the gallery differs from the test part in classes")

  @property
  def identity(self) -> dict[str, str]:
    """The `identity` of each part; a run depends on it as on its config.

    It includes the provenance of features. It does not include the location of
    the data: a copy of a folder is the same data.
    """
    parts = (*PARTS, *(["gallery"] if self.gallery else []))
    found = {part: getattr(self, part).identity for part in parts}
    if self.train.provenance is not None:
      found[PROVENANCE] = self.train.provenance
    return found


def select(dataset: Dataset, indices: Int[np.ndarray, " m"]) -> Dataset:
  """The images at `indices`, in that order, with the same labels."""
  return dataclasses.replace(
    dataset,
    inputs=dataset.inputs[indices],
    labels=dataset.labels[indices],
    pairs=None,  # Their indices would be wrong.
    groups=None if dataset.groups is None else dataset.groups[indices],
  )


def subset(dataset: Dataset, classes: Sequence[int] | np.ndarray) -> Dataset:
  """The images of `classes`, with labels 0, 1, … in the order given.

  Raises `InputError` if items have several labels.

  >>> images = np.zeros((4, 1, 1, 1), np.uint8)
  >>> letters = Dataset(
  ...   "letters", images, np.int32([0, 1, 2, 1]), ("a", "b", "c")
  ... )
  >>> part = subset(letters, [2, 1])
  >>> part.labels.tolist(), part.class_names
  ([1, 0, 1], ('c', 'b'))
  """
  check_one_label(dataset)
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


def check_one_label(dataset: Dataset) -> None:
  """Raises `InputError` for items with several labels, if classes are split."""
  if dataset.has_several_labels:
    raise InputError(
      f"{dataset.name}: an item has several labels, so parts that share no"
      " class would still share items. Split it by items: data.split='images',"
      " or 'official' with its own parts, and data.protocol='closed-set'."
    )


def draw_pairs(dataset: Dataset, count: int, seed: Any) -> Dataset:
  """The data set with verification pairs; the first half are genuine.

  A genuine pair is two images of one class; an impostor pair is one image of
  each of two classes. `seed` draws classes and their images uniformly.

  Raises `InputError` without two classes, or without a class of two images.

  >>> images = np.zeros((4, 1, 1, 1), np.uint8)
  >>> two = Dataset("two", images, np.int32([0, 0, 1, 1]), ("a", "b"))
  >>> pairs = draw_pairs(two, 4, seed=0).pairs
  >>> (two.labels[pairs.first] == two.labels[pairs.second]).tolist()
  [True, True, False, False]
  >>> pairs.same.tolist()
  [True, True, False, False]
  """
  order = np.argsort(dataset.labels, kind="stable").astype(np.int32)
  sizes = np.unique(dataset.labels, return_counts=True)[1]
  several = np.flatnonzero(sizes > 1)
  if len(sizes) < 2 or not len(several):
    raise InputError(
      f"{dataset.name}: drawing pairs needs two classes, and one with two "
      f"images; there are {len(sizes)} classes, and the largest has "
      f"{sizes.max(initial=0)} images."
    )
  rng = np.random.default_rng(seed)
  same = np.arange(count) < count // 2
  first = np.where(
    same, rng.choice(several, count), rng.integers(len(sizes), size=count)
  )
  # Step from the first class, or image, to another one: a random number of
  # places further, cyclically.
  other = (first + rng.integers(1, len(sizes), count)) % len(sizes)
  second = np.where(same, first, other)
  place = rng.integers(sizes[first])
  further = rng.integers(1, np.maximum(sizes[first], 2))
  place_in_second = np.where(
    same, (place + further) % sizes[first], rng.integers(sizes[second])
  )
  starts = np.cumsum(sizes) - sizes
  pairs = Pairs(
    order[starts[first] + place],
    order[starts[second] + place_in_second],
    same,
    None,
  )
  return dataclasses.replace(dataset, pairs=pairs)


def number_classes(
  values: Shaped[np.ndarray, " n"],
) -> tuple[Int32[np.ndarray, " n"], tuple[str, ...]]:
  """Labels 0, 1, … in the order of the values, which become class names.

  >>> number_classes(np.array([7, 3, 7]))
  (array([1, 0, 1], dtype=int32), ('3', '7'))
  """
  found, labels = np.unique(values, return_inverse=True)
  return labels.astype(np.int32), tuple(map(str, found.tolist()))


def sizes_of(
  labels: Int[np.ndarray, " n *k"], count: int
) -> Int[np.ndarray, " {count}"]:
  """The number of items of each of `count` classes.

  >>> sizes_of(np.array([0, 2, 2]), 3)
  array([1, 0, 2])
  >>> sizes_of(np.array([[1, 1], [1, 0]]), 2)
  array([2, 1])
  """
  if labels.ndim > 1:
    return labels.sum(axis=0)
  return np.bincount(labels, minlength=count)


def check_class_sizes(
  where: str,
  labels: Int[np.ndarray, " n *k"],
  class_names: Sequence[str],
  *,
  least: int = 2,
  purpose: str = "form a pair",
  small_classes: str = "refuse",
) -> None:
  """Raises `InputError` naming classes with fewer than `least` images.

  If `small_classes` is not "refuse", only classes without images raise it.
  """
  allowed = small_classes != "refuse"
  if allowed:
    least, purpose = 1, "be a class"
  sizes = sizes_of(labels, len(class_names))
  small = [
    f"{name!r} ({size})"
    for name, size in zip(class_names, sizes, strict=True)
    if size < least
  ]
  if small:
    way = "." if allowed else ", or set data.small_classes='drop' or 'repeat'."
    raise InputError(
      f"{where}: too few images in class {first_of(small)}; it takes {least} "
      f"to {purpose}. Add images, or remove the class{way}"
    )


def first_of(names: Sequence[str], count: int = 3) -> str:
  """The first few names for a message, and the number of other names.

  >>> first_of(["a", "b", "c", "d", "e"])
  'a, b, c and 2 more'
  """
  more = f" and {len(names) - count} more" if len(names) > count else ""
  return ", ".join(names[:count]) + more
