"""The validation part: that of the split, a fold of several, or none.

Test classes do not change, so that every choice is made without them.
"""

import dataclasses
from typing import Any

import numpy as np

from metric_learning.data.base import (
  Dataset,
  Splits,
  check_class_sizes,
  select,
  subset,
)
from metric_learning.data.stream import ImageFiles
from metric_learning.errors import InputError, check_choice


def hold_out(splits: Splits, config: Any) -> Splits:
  """The splits with the validation part that a config asks for.

  With `config.validation_folds` of 2 or more, training and validation are
  pooled, and fold `config.validation_fold` is for validation.
  `config.split_seed` draws the folds: of classes if the split is open-set, else
  of the images of each class. Another `config.validation_draw` draws other
  folds. All folds have the same size; the remainder is in every training part.

  With `config.train_on` "train+validation", both parts are for training. The
  validation part remains, but its classes are seen in training.

  Raises:
    InputError: for a fold that does not exist, or parts that cannot be split.
  """
  folds, fold = config.validation_folds, config.validation_fold
  check_choice("train_on", config.train_on, ("train", "train+validation"))
  if folds < 1 or fold not in range(folds):
    raise InputError(
      f"validation_fold={fold} of validation_folds={folds}: there must be at"
      f" least 1 fold, and they count from 0 to validation_folds - 1."
    )
  if folds == 1 and _draw(config):
    raise InputError(
      f"validation_draw={_draw(config)} draws folds, but there are none: set"
      " validation_folds, or leave it at 0."
    )
  if config.train_on == "train+validation":
    both = put_together(splits)
    splits = dataclasses.replace(splits, train=both, validation_seen=True)
  if folds == 1:
    return splits
  if splits.validation_seen:
    raise InputError(
      "train_on='train+validation' leaves no fold to validate on: set"
      " validation_folds=1."
    )
  both = put_together(splits)
  if splits.protocol == "open-set":
    return _class_fold(splits, both, config)
  return _image_fold(splits, both, config)


def put_together(splits: Splits) -> Dataset:
  """The training and the validation part as one.

  Raises:
    InputError: if they have explicit pairs.
  """
  first, second = splits.train, splits.validation
  if first.pairs is not None or second.pairs is not None:
    raise InputError(
      f"{first.name} has explicit pairs in its training or validation part,"
      " which cannot be cut into folds: set validation_folds=1 and"
      " train_on='train', and config.tune.folds=1 to tune."
    )
  images: np.ndarray | ImageFiles
  if isinstance(first.inputs, ImageFiles) and isinstance(
    second.inputs, ImageFiles
  ):
    paths, stamps = (
      np.concatenate([getattr(d.inputs, name) for d in (first, second)])
      for name in ("paths", "stamps")
    )
    images = dataclasses.replace(first.inputs, paths=paths, stamps=stamps)
  else:
    images = np.concatenate([np.asarray(d.inputs) for d in (first, second)])
  groups = None
  if first.groups is not None and second.groups is not None:
    groups = np.concatenate([first.groups, second.groups])
  if splits.protocol == "closed-set":
    labels = np.concatenate([first.labels, second.labels])
    return dataclasses.replace(
      first, inputs=images, labels=labels, groups=groups
    )
  shifted = second.labels + np.int32(len(first.class_names))
  return dataclasses.replace(
    first,
    inputs=images,
    groups=groups,
    labels=np.concatenate([first.labels, shifted]),
    class_names=first.class_names + second.class_names,
    superclasses=first.superclasses
    and first.superclasses + (second.superclasses or ()),
  )


def _draw(config: Any) -> int:
  """The draw of the folds; runs of earlier versions have no such field."""
  return getattr(config, "validation_draw", 0)


def _rng(config: Any) -> np.random.Generator:
  """The generator of the folds; draw 0 depends on `split_seed` alone."""
  draw = _draw(config)
  seed = [config.split_seed, draw] if draw else config.split_seed
  return np.random.default_rng(seed)


def _class_fold(splits: Splits, both: Dataset, config: Any) -> Splits:
  folds, fold = config.validation_folds, config.validation_fold
  count = len(both.class_names)
  size = count // folds
  if size < 2:
    raise InputError(
      f"{both.name} has {count} classes outside the test part, and"
      f" {folds} folds of two need {2 * folds}: choose fewer by"
      " config.data.validation_folds, or to tune by config.tune.folds."
    )
  order = _rng(config).permutation(count)
  held = order[fold * size : (fold + 1) * size]
  rest = np.setdiff1d(order, held)
  return dataclasses.replace(
    splits, train=subset(both, rest), validation=subset(both, np.sort(held))
  )


def _image_fold(splits: Splits, both: Dataset, config: Any) -> Splits:
  folds, fold = config.validation_folds, config.validation_fold
  check_class_sizes(
    both.name,
    both.labels,
    both.class_names,
    least=2 * folds,
    purpose=f"cut into {folds} folds, two in each",
    small_classes=config.small_classes,
  )
  rng = _rng(config)
  strata = both.strata
  held = []
  for label in range(len(both.class_names)):
    members = rng.permutation(np.flatnonzero(strata == label))
    size = len(members) // folds
    held.append(members[fold * size : (fold + 1) * size])
  chosen = np.sort(np.concatenate(held))
  rest = np.setdiff1d(np.arange(len(both.labels)), chosen)
  return dataclasses.replace(
    splits, train=select(both, rest), validation=select(both, chosen)
  )
