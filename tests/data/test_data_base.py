import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_learning.data import base
from metric_learning.errors import InputError


def numbered(sizes):
  """A data set whose i-th image has the single pixel i; classes shuffled."""
  labels = np.repeat(np.arange(len(sizes)), sizes)
  labels = np.random.default_rng(0).permutation(labels).astype(np.int32)
  images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
  names = tuple(f"class {i}" for i in range(len(sizes)))
  return base.Dataset("numbered", images, labels, names)


def parts_of(splits):
  return splits.train, splits.validation, splits.test


def truth(dataset):
  """Image → class name."""
  pixels = dataset.images.ravel().tolist()
  names = [dataset.class_names[label] for label in dataset.labels]
  return dict(zip(pixels, names, strict=True))


def test_select_takes_images_with_their_labels():
  dataset = numbered([3, 2])
  part = base.select(dataset, np.array([4, 1]))
  assert part.images.ravel().tolist() == [4, 1]
  assert part.labels.tolist() == dataset.labels[[4, 1]].tolist()
  assert part.class_names == dataset.class_names


def test_subset_keeps_the_names_of_images_under_new_labels():
  dataset = numbered([3, 2, 4, 1])
  part = base.subset(dataset, [2, 0])
  assert part.class_names == ("class 2", "class 0")
  kept = {"class 2", "class 0"}
  assert truth(part) == {i: n for i, n in truth(dataset).items() if n in kept}


@settings(deadline=None, max_examples=40)
@given(count=st.integers(8, 40), seed=st.integers(0, 9))
def test_random_classes_are_disjoint_complete_and_50_20_30(count, seed):
  dataset = numbered([2] * count)
  splits = base.random_classes(dataset, seed)
  merged = {}
  for part, share in zip(parts_of(splits), (0.5, 0.2, 0.3), strict=True):
    assert len(part.class_names) >= 2
    assert abs(len(part.class_names) - share * count) <= 1
    assert not merged.keys() & truth(part).keys()
    merged |= truth(part)
  assert splits.protocol == "open-set"
  assert merged == truth(dataset)
  names = [name for part in parts_of(splits) for name in part.class_names]
  assert len(set(names)) == count


@settings(deadline=None, max_examples=40)
@given(
  sizes=st.lists(st.integers(9, 30), min_size=1, max_size=5),
  seed=st.integers(0, 9),
)
def test_random_images_share_out_each_class_60_20_20(sizes, seed):
  dataset = numbered(sizes)
  splits = base.random_images(dataset, seed)
  merged = {}
  for part, share in zip(parts_of(splits), (0.6, 0.2, 0.2), strict=True):
    assert part.class_names == dataset.class_names
    counts = np.bincount(part.labels, minlength=len(sizes))
    assert counts.min() >= 2
    assert np.all(np.abs(counts - share * np.array(sizes)) <= 1)
    assert not merged.keys() & truth(part).keys()
    merged |= truth(part)
  assert splits.protocol == "closed-set"
  assert merged == truth(dataset)


@pytest.mark.parametrize("split", [base.random_classes, base.random_images])
def test_split_is_fixed_by_its_seed(split):
  dataset = numbered([9] * 12)
  one, again, other = split(dataset, 3), split(dataset, 3), split(dataset, 4)
  assert truth(one.test) == truth(again.test)
  assert truth(one.test) != truth(other.test)


def test_open_set_with_a_shared_class_is_refused():
  classes = (np.array([0, 1]), np.array([2]), np.array([1, 3]))
  with pytest.raises(ValueError, match="shares classes"):
    base.split_by_class(numbered([2, 2, 2, 2]), classes)


def test_closed_set_with_a_shared_image_is_refused():
  indices = (np.array([0, 1]), np.array([2]), np.array([1, 3]))
  with pytest.raises(ValueError, match="shares images"):
    base.split_by_image(numbered([2, 2]), indices)


def test_closed_set_with_other_classes_in_a_part_is_refused():
  dataset = numbered([2, 2])
  part = base.subset(dataset, [0])
  with pytest.raises(ValueError, match="differ in classes"):
    base.Splits(dataset, dataset, part, "closed-set")


def test_too_few_classes_or_images_are_named():
  with pytest.raises(InputError, match=r"7 classes; .* it takes 8"):
    base.random_classes(numbered([2] * 7), 0)
  with pytest.raises(InputError, match=r"'class 1' \(8\); it takes 9"):
    base.random_images(numbered([9, 8, 9]), 0)
  with pytest.raises(InputError, match=r"'class 2' \(1\) and 2 more"):
    base.random_images(numbered([1] * 5), 0)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"split": "hafls"}, "split of x 'hafls'; did you mean 'halves'"),
    ({"fold": 3}, "fold 3 of x, split 'halves': the folds are 0 to 2"),
    ({"fold": -1}, "fold -1 .* 0 to 2"),
    ({"split": "closed", "fold": 1}, "fold 1 .* the folds are 0 only"),
    ({"split_seed": -1}, "split_seed=-1"),
  ],
)
def test_unknown_split_fold_or_seed(changes, message):
  fields = {"name": "x", "split": "halves", "fold": 0, "split_seed": 0}
  config = types.SimpleNamespace(**(fields | changes))
  with pytest.raises(InputError, match=message):
    base.check_split(config, {"halves": 3, "closed": 1})
