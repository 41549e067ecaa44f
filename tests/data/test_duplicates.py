import warnings

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import base, duplicates

SHAPE = (2, 3, 1)


def part(pixels, name="letters"):
  """One image for each number, with that number in all of its pixels."""
  images = np.stack([np.full(SHAPE, pixel, np.uint8) for pixel in pixels])
  labels = np.arange(len(pixels), dtype=np.int32) % 2
  return base.Dataset(name, images, labels, ("a", "b"))


def splits_of(train, validation, test):
  parts = map(part, (train, validation, test))
  return base.Splits(*parts, "closed-set")


def test_duplicates_are_counted_and_one_is_shown():
  splits = splits_of((1, 2, 3), (4, 5), (6, 3, 7, 4, 3))
  message = (
    r"letters: 3 of 5 test images .*: test image 1 \('b'\) is training image 2 "
    r"\('a'\)\."
  )
  with pytest.warns(UserWarning, match=message) as caught:
    duplicates.warn_of_duplicates(splits)
  assert len(caught) == 1


def test_validation_counts_too_and_an_image_twice_in_one_part_does_not():
  with pytest.warns(UserWarning, match="1 of 1 .* is validation image 1"):
    duplicates.warn_of_duplicates(splits_of((1, 2), (4, 5), (5,)))
  duplicates.warn_of_duplicates(splits_of((1, 1), (4, 4), (5, 5)))


def test_every_set_is_checked_and_warned_of_once(data_config, tmp_path):
  images = np.arange(80, dtype=np.uint8).reshape(80, 1, 1)
  images[::10] = 200  # one in each class, all alike
  np.savez(tmp_path / "a.npz", images=images, labels=np.repeat(range(8), 10))
  config = data_config(
    "npz", "classes", "open-set", data_dir=str(tmp_path / "a.npz")
  )
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    for _ in range(3):
      data.load(config)
  assert len(caught) == 1
  assert "npz: 2 of 20 test images" in str(caught[0].message)
