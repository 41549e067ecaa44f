"""Folds of the classes, or images, outside the test part."""

import dataclasses
import pathlib
import types

import numpy as np
import pytest

from metric_learning.data import base, validation_folds
from metric_learning.data.stream import ImageFiles
from metric_learning.errors import InputError


def numbered(name, classes, images, first=0):
  """Images whose single pixel is their number."""
  numbers = first + np.arange(classes * images, dtype=np.uint8)
  return base.Dataset(
    name,
    numbers.reshape(-1, 1, 1, 1),
    np.repeat(np.arange(classes, dtype=np.int32), images),
    tuple(f"{name}{c}" for c in range(classes)),
    tuple(f"group{c % 2}" for c in range(classes)),
  )


def open_set():
  parts = numbered("a", 7, 2), numbered("b", 4, 2, 14), numbered("c", 3, 2, 22)
  return base.Splits(*parts, "open-set")


def closed_set():
  parts = [
    numbered("x", 3, n, first) for n, first in ((5, 0), (2, 15), (2, 21))
  ]
  return base.Splits(*parts, "closed-set")


def config(folds=1, fold=0, train_on="train", **more):
  return types.SimpleNamespace(
    validation_folds=folds,
    validation_fold=fold,
    train_on=train_on,
    split_seed=4,
    small_classes="refuse",
    **more,
  )


def truth(part):
  """From the number of an image to its class and super-class."""
  groups = part.superclasses
  return {
    int(image): (part.class_names[label], groups[label])
    for image, label in zip(part.inputs.ravel(), part.labels, strict=True)
  }


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("make", [open_set, closed_set])
def test_folds_share_what_is_not_for_testing(make, folds):
  if make is closed_set and folds == 5:
    with pytest.raises(InputError, match=r"'x0' \(7\).*5 folds"):
      validation_folds.hold_out(make(), config(folds))
    return
  splits = make()
  whole = truth(splits.train) | truth(splits.validation)
  found = [
    validation_folds.hold_out(make(), config(folds, k)) for k in range(folds)
  ]
  for cut in found:
    assert truth(cut.test) == truth(splits.test)
    assert truth(cut.train) | truth(cut.validation) == whole
    assert not truth(cut.train).keys() & truth(cut.validation).keys()
    assert cut.protocol == splits.protocol
  # Each validates on others, and all train on as much: one program serves all.
  seen = [number for cut in found for number in truth(cut.validation)]
  assert len(seen) == len({*seen})
  assert len({len(cut.train.labels) for cut in found}) == 1
  each = 11 // folds if make is open_set else 3
  assert {len(cut.validation.class_names) for cut in found} == {each}
  if make is open_set:
    names = [name for cut in found for name in cut.validation.class_names]
    assert len(names) == len({*names})


def test_both_parts_train():
  for make in (open_set, closed_set):
    splits = make()
    both = validation_folds.hold_out(
      make(), config(train_on="train+validation")
    )
    assert truth(both.train) == truth(splits.train) | truth(splits.validation)
    assert truth(both.validation) == truth(splits.validation)
    assert truth(both.test) == truth(splits.test)
    assert both.validation_seen
    assert validation_folds.hold_out(splits, config()) is splits


def test_a_test_class_in_training_is_refused_all_the_same():
  part = numbered("a", 4, 2)
  with pytest.raises(ValueError, match="shares classes"):
    base.Splits(part, part, part, "open-set", validation_seen=True)


def test_images_on_disk_stay_there():
  def on_disk(part):
    paths = np.array([pathlib.Path(str(x)) for x in part.inputs.ravel()])
    stamps = part.inputs.ravel().astype(np.uint64)
    return dataclasses.replace(
      part, inputs=ImageFiles(paths, stamps, (1, 1, 1))
    )

  splits = open_set()
  cut = validation_folds.hold_out(
    dataclasses.replace(
      splits,
      train=on_disk(splits.train),
      validation=on_disk(splits.validation),
    ),
    config(2, 1),
  )
  plain = validation_folds.hold_out(splits, config(2, 1))
  for part in ("train", "validation"):
    paths = [int(str(p)) for p in getattr(cut, part).inputs.paths]
    assert paths == getattr(plain, part).inputs.ravel().tolist()


@pytest.mark.parametrize("make", [open_set, closed_set])
def test_another_draw_is_of_other_folds(make):
  held = lambda **draw: [
    sorted(
      truth(validation_folds.hold_out(make(), config(2, k, **draw)).validation)
    )
    for k in range(2)
  ]
  plain = held()
  # Earlier runs do not say which draw is theirs.
  assert held(validation_draw=0) == plain == held()
  others = [held(validation_draw=draw) for draw in (1, 2, 300)]
  assert all(other != plain for other in others)
  assert others[0] != others[1] and others[1] != others[2]
  assert others[2] == held(validation_draw=300)
  for first, second in others:
    assert not {*first} & {*second}


def test_what_cannot_be_cut():
  def refused(match, splits=None, **changes):
    with pytest.raises(InputError, match=match):
      validation_folds.hold_out(splits or open_set(), config(**changes))

  refused("11 classes .* 6 folds of two need 12", folds=6)
  refused("validation_fold=2 of validation_folds=2", folds=2, fold=2)
  refused("validation_folds=0", folds=0)
  refused(
    "validation_draw=3 draws folds, but there are none", validation_draw=3
  )
  refused("unknown train_on 'test'", train_on="test")
  refused("leaves no fold", folds=2, train_on="train+validation")
  splits = open_set()
  pairs = base.Pairs(np.zeros(1, int), np.ones(1, int), np.ones(1), None)
  paired = dataclasses.replace(splits.train, pairs=pairs)
  refused("explicit pairs", dataclasses.replace(splits, train=paired), folds=2)
