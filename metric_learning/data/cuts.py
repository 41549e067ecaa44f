"""Splits a data set into training, validation and test."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from metric_learning.data.base import (
  GIVEN_PARTS,
  PARTS,
  Dataset,
  Splits,
  check_class_sizes,
  check_one_label,
  first_of,
  select,
  sizes_of,
  subset,
)
from metric_learning.errors import InputError, check_choice
from metric_learning.relevance import answers

# The splits of a data set without official parts, with their numbers of folds.
FOLDS = 5
CUTS = {"classes": 1, "half": 1, "folds": FOLDS, "images": 1}


def split_by_class(dataset: Dataset, parts: Sequence[np.ndarray]) -> Splits:
  """Open-set splits, from the classes of training, validation and test."""
  train, validation, test = (subset(dataset, np.sort(part)) for part in parts)
  return Splits(train, validation, test, "open-set")


def split_official(
  training: Dataset, test: Dataset, seed: int, gallery: Dataset | None = None
) -> Splits:
  """Open-set splits of an official division into training and test classes.

  A fifth of the training classes, drawn by `seed`, is the validation part.
  """
  classes = np.arange(len(training.class_names))
  train, validation = hold_out_fifth(classes, seed, training.name)
  return Splits(
    subset(training, np.sort(train)),
    subset(training, np.sort(validation)),
    test,
    "open-set",
    gallery,
  )


def split_by_image(dataset: Dataset, parts: Sequence[np.ndarray]) -> Splits:
  """Closed-set splits, from the image indices of the three parts.

  Raises `ValueError` if an image is in two parts.
  """
  indices = np.concatenate(parts)
  if len(np.unique(indices)) < len(indices):
    raise ValueError("a closed-set split shares images between its parts")
  train, validation, test = (select(dataset, np.sort(part)) for part in parts)
  return Splits(train, validation, test, "closed-set")


def split_parts(
  training: Dataset, test: Dataset, parts: Sequence[np.ndarray]
) -> Splits:
  """Open-set splits of a data set that has its own training and test images.

  Training and validation take the training images of their classes in `parts`;
  testing takes the test images.
  """
  train, validation, tested = map(np.sort, parts)
  return Splits(
    subset(training, train),
    subset(training, validation),
    subset(test, tested),
    "open-set",
  )


def closed_parts(training: Dataset, test: Dataset, config: Any) -> Splits:
  """Closed-set splits of a data set that has its own training and test images.

  The validation part is a tenth of the training images of each class, at least
  two, drawn by `config.split_seed`. With several labels, it is a tenth of all
  images.

  Raises `InputError` if a class has fewer than 4 training images, unless
  `config.small_classes` allows it; the class is then not in the validation
  part.
  """
  check_class_sizes(
    f"{training.name}, part 'train'",
    training.labels,
    training.class_names,
    least=4,
    purpose="train on two, and draw two for validation",
    small_classes=config.small_classes,
  )
  validation, train = share_of_each_class(
    training.strata, [0.1], config.split_seed, least=2
  )
  return Splits(
    select(training, np.sort(train)),
    select(training, np.sort(validation)),
    test,
    "closed-set",
  )


def cut(dataset: Dataset, config: Any) -> Splits:
  """Splits a data set without official parts by `config.split`.

  "classes", "half" and "folds" are open-set; "images" is closed-set.

  Raises `InputError` for an open-set split of items with several labels.
  """
  if config.split != "images":
    check_one_label(dataset)
  seed = config.split_seed
  if config.split == "folds":
    return class_fold(dataset, seed, config.fold)
  if config.split == "images":
    return random_images(dataset, seed, config.small_classes)
  cuts = {"classes": random_classes, "half": half_classes}
  return cuts[config.split](dataset, seed)


def random_classes(dataset: Dataset, seed: int) -> Splits:
  """Open-set splits: 50, 20 and 30 % of the classes, drawn by `seed`.

  Raises `InputError` with fewer than 8 classes: a part would have fewer than
  two classes.
  """
  count = len(dataset.class_names)
  _check_count(dataset, 8)
  order = np.random.default_rng(seed).permutation(count)
  ends = round(0.5 * count), round(0.5 * count) + round(0.2 * count)
  return split_by_class(dataset, np.split(order, ends))


def half_classes(dataset: Dataset, seed: int) -> Splits:
  """Open-set splits that test the second half of the classes, in order.

  A fifth of the first half, drawn by `seed`, is the validation part. Raises
  `InputError` with fewer than 8 classes.
  """
  count = len(dataset.class_names)
  _check_count(dataset, 8)
  seen, tested = np.split(np.arange(count), [count // 2])
  return split_by_class(dataset, (*hold_out_fifth(seen, seed), tested))


def class_fold(dataset: Dataset, seed: int, fold: int) -> Splits:
  """Open-set splits that test one of five folds and validate on the next.

  Each fold is a fifth of the classes, drawn by `seed`. Raises `InputError` with
  fewer than 10 classes: a fold would have fewer than two.
  """
  count = len(dataset.class_names)
  _check_count(dataset, 2 * FOLDS)
  order = np.random.default_rng(seed).permutation(count)
  folds = np.array_split(order, FOLDS)
  test, validation = folds[fold], folds[(fold + 1) % FOLDS]
  train = np.setdiff1d(order, np.concatenate([test, validation]))
  return split_by_class(dataset, (train, validation, test))


def hold_out_fifth(
  classes: Int[np.ndarray, " n"], seed: Any, name: str = "the data set"
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " validation"]]:
  """Draws a fifth of the classes, at least two; returns the others first.

  Raises `InputError` with fewer than 4 classes.

  >>> [len(part) for part in hold_out_fifth(np.arange(20), seed=0)]
  [16, 4]
  """
  if len(classes) < 4:
    raise InputError(
      f"{name} has {len(classes)} training classes; to draw a fifth of them "
      "for validation, at least 4 are needed: two to validate and two to "
      "train. Add training classes, or give a validation part."
    )
  drawn = np.random.default_rng(seed).permutation(classes)
  held_out, rest = np.split(drawn, [max(2, round(0.2 * len(classes)))])
  return rest, held_out


def split_as_given(
  dataset: Dataset, parts: Shaped[np.ndarray, " n"], config: Any
) -> Splits:
  """The official parts of a data set, under `config.protocol`.

  `parts` names the part of each image: "train", "validation" or "test"; "query"
  and "gallery" can replace "test". Without "validation", that part is drawn by
  `split_seed`: a tenth of the training images of each class (closed-set), or a
  fifth of the training classes (open-set).

  Raises `InputError` for an unknown part, for a class in two parts of an
  open-set split, for a class that a part of a closed-set split lacks, and for
  an open-set split of items with several labels.
  """
  for part in np.unique(parts).tolist():
    check_choice(f"part of {dataset.name}", part, GIVEN_PARTS)
  members = {part: np.flatnonzero(parts == part) for part in GIVEN_PARTS}
  queries, in_gallery = members.pop("query"), members.pop("gallery")
  if len(queries) or len(in_gallery):
    _check_gallery(dataset, queries, in_gallery, members["test"])
    members["test"] = np.sort(np.concatenate([queries, in_gallery]))
  if config.protocol == "open-set":
    check_one_label(dataset)
  _check_given(dataset, members, config.protocol)
  splits = _split_members(dataset, members, config)
  if not len(in_gallery):
    return splits
  test, gallery = (select(dataset, some) for some in (queries, in_gallery))
  if config.protocol == "open-set":
    classes = np.unique(dataset.labels[members["test"]])
    test, gallery = (subset(part, classes) for part in (test, gallery))
  return dataclasses.replace(splits, test=test, gallery=gallery)


def _split_members(
  dataset: Dataset, members: Mapping[str, np.ndarray], config: Any
) -> Splits:
  """Splits from the images of each part; draws validation if it is missing."""
  if config.protocol == "closed-set":
    training, validation, test = (
      select(dataset, members[part]) for part in PARTS
    )
    if len(validation.labels):
      return Splits(training, validation, test, "closed-set")
    return closed_parts(training, test, config)
  train, held_out, tested = (
    np.unique(dataset.labels[members[part]]) for part in PARTS
  )
  if not len(held_out):
    train, held_out = hold_out_fifth(train, config.split_seed, dataset.name)
  return split_by_class(dataset, (train, held_out, tested))


def _check_gallery(
  dataset: Dataset, queries: np.ndarray, gallery: np.ndarray, test: np.ndarray
) -> None:
  if len(test):
    raise InputError(
      f"{dataset.name} has the parts 'test' and 'query' or 'gallery', but "
      "queries are the test images: name those 'query', or leave these out."
    )
  for part, some in (("query", queries), ("gallery", gallery)):
    if not len(some):
      raise InputError(
        f"{dataset.name} has no image in the part {part!r}: queries search a "
        "gallery, so give both, or 'test' instead."
      )


def _check_given(
  dataset: Dataset, members: Mapping[str, np.ndarray], protocol: str
) -> None:
  for part in ("train", "test"):
    if not len(members[part]):
      raise InputError(f"{dataset.name} has no image in the part {part!r}.")
  count = len(dataset.class_names)
  sizes = {
    part: sizes_of(dataset.labels[some], count)
    for part, some in members.items()
  }
  holders = {
    name: [part for part in members if sizes[part][label]]
    for label, name in enumerate(dataset.class_names)
  }
  used = [part for part in members if len(members[part])]
  for name, held in holders.items():
    if protocol == "open-set" and len(held) > 1:
      raise InputError(
        f"{dataset.name}: the class {name!r} is in {held[0]} and in {held[1]}, "
        "but an open-set split shares no class; mend the parts, or set "
        "protocol='closed-set'."
      )
    if protocol == "closed-set" and held != used:
      lacking = next(part for part in used if part not in held)
      raise InputError(
        f"{dataset.name}: {lacking} has no image of the class {name!r}, but a "
        "closed-set split has all classes in all parts; mend the parts, or set "
        "protocol='open-set'."
      )


def _check_count(dataset: Dataset, least: int) -> None:
  count = len(dataset.class_names)
  if count < least:
    raise InputError(
      f"{dataset.name} has {count} classes; splitting it by classes needs "
      f"{least}, two in each part. Add classes, or split it by images."
    )


def random_images(
  dataset: Dataset, seed: int, small_classes: str = "refuse"
) -> Splits:
  """Closed-set splits: 60, 20 and 20 % of each class, drawn by `seed`.

  With several labels, these are shares of all items.

  Raises `InputError` if a class has fewer than 9 images, since some part would
  have fewer than two of them, unless `small_classes` allows it.
  """
  check_class_sizes(
    dataset.name,
    dataset.labels,
    dataset.class_names,
    least=9,
    purpose="split by images, two in each part",
    small_classes=small_classes,
  )
  return split_by_image(
    dataset, share_of_each_class(dataset.strata, (0.6, 0.2), seed)
  )


def share_of_each_class(
  labels: Int[np.ndarray, " n"],
  shares: Sequence[float],
  seed: int,
  least: int = 0,
) -> tuple[np.ndarray, ...]:
  """Divides the indices of each class at random: into `shares`, and the rest.

  A share has at least `least` images if the class has enough for all parts.

  >>> first, rest = share_of_each_class(np.array([0, 1, 0, 1]), [0.5], seed=0)
  >>> [sorted((part % 2).tolist()) for part in (first, rest)]  # their classes
  [[0, 1], [0, 1]]
  """
  rng = np.random.default_rng(seed)
  parts = []
  for label in np.unique(labels):
    members = rng.permutation(np.flatnonzero(labels == label))
    enough = least * (len(shares) + 1) <= len(members)
    counts = [round(share * len(members)) for share in shares]
    ends = np.cumsum(np.maximum(counts, least if enough else 0))
    parts.append(np.split(members, ends))
  return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def check_scorable(splits: Splits) -> None:
  """Raises `InputError` if the validation or the test part cannot be scored.

  A part without explicit pairs needs two classes and at least one image with
  another image of its class (in another group, if there are groups). With a
  gallery, these must be in the gallery.
  """
  for part in ("validation", "test"):
    dataset = getattr(splits, part)
    references = dataset
    if part == "test" and splits.gallery:
      references = splits.gallery
    reason = None if dataset.pairs else _not_scorable(dataset, references)
    if reason:
      raise InputError(
        f"{dataset.name}: the part {part!r} cannot be scored: {reason}. Give "
        "it two classes, and one with two images, or split the data "
        "differently: data.split, data.validation_folds."
      )


def _not_scorable(dataset: Dataset, references: Dataset) -> str | None:
  """Why no image of a part has both a right and a wrong answer, or None."""
  if not len(dataset.labels):
    return "it has no image"
  classes = np.flatnonzero(references.class_sizes)
  if not len(classes):
    return "its gallery has no image"
  if len(classes) == 1:
    name = dataset.class_names[int(classes[0])]
    return f"all images are of one class, {name!r}"
  among: dict[str, Any] = {}
  if dataset.groups is not None and references.groups is not None:
    among["groups"] = dataset.groups
  if references is not dataset:
    among["reference_labels"] = references.labels
    if "groups" in among:
      among["reference_groups"] = references.groups
  relevant, _ = answers(dataset.labels, **among)
  if not relevant.any():
    present = np.flatnonzero(dataset.class_sizes)
    names = [repr(dataset.class_names[i]) for i in present]
    have = "one image each" if references is dataset else "none in the gallery"
    have = "images of one group each" if dataset.groups is not None else have
    return f"its classes, {first_of(names)}, have {have}"
  return None


def check_split(config: Any, folds: Mapping[str, int]) -> None:
  """Raises `InputError` unless the split, fold and seed of `config` exist.

  `folds` maps the known splits to their numbers of folds.
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
    raise InputError(f"split_seed={config.split_seed} must be 0 or more.")
