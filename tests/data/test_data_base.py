import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_learning.data import base, cuts
from metric_learning.errors import InputError


def numbered(sizes):
  """A data set whose i-th image has the single pixel i, in shuffled classes."""
  labels = np.repeat(np.arange(len(sizes)), sizes)
  labels = np.random.default_rng(0).permutation(labels).astype(np.int32)
  images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
  names = tuple(f"class {i}" for i in range(len(sizes)))
  return base.Dataset("numbered", images, labels, names)


def parts_of(splits):
  return splits.train, splits.validation, splits.test


def truth(dataset):
  """From the image to the name of its class."""
  pixels = dataset.inputs.ravel().tolist()
  names = [dataset.class_names[label] for label in dataset.labels]
  return dict(zip(pixels, names, strict=True))


def test_select_takes_images_with_their_labels():
  dataset = numbered([3, 2])
  part = base.select(dataset, np.array([4, 1]))
  assert part.inputs.ravel().tolist() == [4, 1]
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
  splits = cuts.random_classes(dataset, seed)
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
  splits = cuts.random_images(dataset, seed)
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


@pytest.mark.parametrize("count", [8, 9, 20, 21])
def test_half_tests_the_second_half_and_validates_on_a_fifth(count):
  dataset = numbered([2] * count)
  splits = cuts.half_classes(dataset, 0)
  tested = tuple(f"class {i}" for i in range(count // 2, count))
  assert splits.test.class_names == tested
  assert splits.protocol == "open-set"
  assert len(splits.validation.class_names) == 2
  merged = {}
  for part in parts_of(splits):
    merged |= truth(part)
  assert merged == truth(dataset)
  names = {
    cuts.half_classes(dataset, s).validation.class_names for s in range(9)
  }
  assert len(names) > 1


@pytest.mark.parametrize("count", [10, 13, 25])
def test_folds_test_and_validate_on_every_class_once(count):
  dataset = numbered([2] * count)
  folds = [cuts.class_fold(dataset, 1, fold) for fold in range(5)]
  for fold in folds:
    assert fold.protocol == "open-set"
    merged = {}
    for part in parts_of(fold):
      assert len(part.class_names) >= 2
      merged |= truth(part)
    assert merged == truth(dataset)
  every = sorted(dataset.class_names)
  for part in ("validation", "test"):
    names = [getattr(fold, part).class_names for fold in folds]
    assert max(map(len, names)) - min(map(len, names)) <= 1
    assert sorted(name for some in names for name in some) == every
  other = cuts.class_fold(dataset, 2, 0)
  assert other.test.class_names != folds[0].test.class_names


def test_cut_goes_by_name():
  dataset = numbered([9] * 12)

  def names_in_test(split, fold=0):
    config = types.SimpleNamespace(
      split=split, split_seed=3, fold=fold, small_classes="refuse"
    )
    return truth(cuts.cut(dataset, config).test)

  assert names_in_test("classes") == truth(cuts.random_classes(dataset, 3).test)
  assert names_in_test("half") == truth(cuts.half_classes(dataset, 3).test)
  assert names_in_test("folds", 4) == truth(cuts.class_fold(dataset, 3, 4).test)
  assert names_in_test("images") == truth(cuts.random_images(dataset, 3).test)


def given(parts, protocol, labels=(0, 0, 1, 1, 2, 2, 3, 3)):
  dataset = base.Dataset(
    "given",
    np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1),
    np.array(labels, np.int32),
    tuple("abcd"[: max(labels) + 1]),
  )
  config = types.SimpleNamespace(protocol=protocol, split_seed=0)
  words = {"T": "train", "V": "validation", "E": "test"}
  names = np.array([words.get(part, part) for part in parts])
  return cuts.split_as_given(dataset, names, config)


def test_given_parts_are_kept():
  splits = given("TVTETVEE", "closed-set", labels=(0, 0, 1, 0, 1, 1, 1, 0))
  splits = [part.inputs.ravel().tolist() for part in parts_of(splits)]
  assert splits == [[0, 2, 4], [1, 5], [3, 6, 7]]


def test_given_classes_are_kept():
  splits = given("TTVVTTEE", "open-set")
  names = [part.class_names for part in parts_of(splits)]
  assert names == [("a", "c"), ("b",), ("d",)]


def test_validation_that_is_not_given_is_drawn():
  labels = np.repeat(np.arange(5), 25)
  dataset = base.Dataset(
    "given",
    np.arange(125, dtype=np.uint8).reshape(-1, 1, 1, 1),
    labels.astype(np.int32),
    tuple("abcde"),
  )
  config = types.SimpleNamespace(
    protocol="closed-set", split_seed=0, small_classes="refuse"
  )
  parts = np.where(np.arange(125) % 25 < 20, "train", "test")
  splits = cuts.split_as_given(dataset, parts, config)
  assert np.bincount(splits.validation.labels).tolist() == [2] * 5
  assert (splits.test.inputs.ravel() % 25 >= 20).all()
  config.protocol = "open-set"
  parts = np.where(labels < 4, "train", "test")
  splits = cuts.split_as_given(dataset, parts, config)
  names = [part.class_names for part in parts_of(splits)]
  assert list(map(len, names)) == [2, 2, 1]
  assert names[2] == ("e",)


@pytest.mark.parametrize(
  ("parts", "protocol", "message"),
  [
    ("TTVVTEEE", "open-set", "class 'c' is in train and in test"),
    ("TTTVVVEE", "open-set", "class 'b' is in train and in validation"),
    ("TETETEEE", "closed-set", "train has no image of the class 'd'"),
    ("TETVTETE", "closed-set", "validation has no image of the class 'a'"),
    ("TTTTTTTT", "closed-set", "given has no image in the part 'test'"),
    ("VVVVEEEE", "open-set", "given has no image in the part 'train'"),
    (["train"] * 7 + ["tets"], "open-set", "'tets'; did you mean 'test'"),
  ],
)
def test_given_parts_that_break_the_protocol(parts, protocol, message):
  with pytest.raises(InputError, match=message):
    given(parts, protocol)


@pytest.mark.parametrize("size", [4, 5, 6, 14, 15, 24, 25, 60])
def test_a_tenth_that_validates_is_at_least_two_images(size):
  training, test = numbered([size] * 3), numbered([2] * 3)
  config = types.SimpleNamespace(split_seed=0, small_classes="refuse")
  splits = cuts.closed_parts(training, test, config)
  count = max(2, round(size / 10))
  assert np.bincount(splits.validation.labels).tolist() == [count] * 3
  assert truth(splits.train) | truth(splits.validation) == truth(training)
  assert not truth(splits.train).keys() & truth(splits.validation).keys()
  cuts.check_scorable(splits)


def test_a_class_too_small_to_validate_is_refused_or_trains():
  training, test = numbered([8, 3, 8]), numbered([2] * 3)
  config = types.SimpleNamespace(split_seed=0, small_classes="refuse")
  message = (
    r"'train': too few images in class 'class 1' \(3\); it takes 4 to train"
  )
  with pytest.raises(InputError, match=message):
    cuts.closed_parts(training, test, config)
  config.small_classes = "repeat"
  splits = cuts.closed_parts(training, test, config)
  assert np.bincount(splits.validation.labels, minlength=3).tolist() == [
    2,
    0,
    2,
  ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_classes_to_hold_some_out_are_refused(count):
  message = f"x has {count} training classes.* 4 are needed: two to validate"
  with pytest.raises(InputError, match=message):
    cuts.hold_out_fifth(np.arange(count), 0, "x")
  parts = [len(part) for part in cuts.hold_out_fifth(np.arange(4), 0)]
  assert parts == [2, 2]


def of_sizes(part, sizes):
  """A part with classes of these sizes, named by its letter and a number."""
  dataset = numbered(sizes)
  names = tuple(f"{part[0]}{i}" for i in range(len(sizes)))
  return dataclasses.replace(dataset, class_names=names)


@pytest.mark.parametrize(
  ("sizes", "reason"),
  [
    ([0, 0], "it has no image"),
    ([0, 3], "all images are of one class, '.1'"),
    ([1] * 5, "its classes, '.0', '.1', '.2' and 2 more, have one image each"),
    ([2, 1], None),
  ],
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_without_right_and_wrong_answers_is_refused(part, sizes, reason):
  parts = {name: of_sizes(name, [2, 1]) for name in base.PARTS}
  # "train" and "test" begin with one letter.
  parts["train"] = of_sizes("x", [2, 1])
  parts[part] = of_sizes(part, sizes)
  splits = base.Splits(**parts, protocol="open-set")
  if reason is None:
    cuts.check_scorable(splits)
    return
  with pytest.raises(InputError, match=f"{part}' cannot be scored: {reason}"):
    cuts.check_scorable(splits)


def test_queries_are_answered_by_the_gallery():
  train, test = of_sizes("x", [2, 2]), of_sizes("test", [1, 1, 0, 0])
  make = lambda sizes: base.Splits(
    train,
    of_sizes("validation", [2, 2]),
    test,
    "open-set",
    gallery=of_sizes("test", sizes),
  )
  cuts.check_scorable(make([0, 1, 1, 0]))
  with pytest.raises(InputError, match="'t0', 't1', have none in the gallery"):
    cuts.check_scorable(make([0, 0, 1, 1]))
  with pytest.raises(InputError, match="scored: its gallery has no image"):
    cuts.check_scorable(make([0, 0, 0, 0]))


def test_super_classes_follow_their_classes():
  dataset = dataclasses.replace(
    numbered([2, 2, 2]), superclasses=("x", "y", "x")
  )
  assert base.subset(dataset, [2, 1]).superclasses == ("x", "y")
  assert base.subset(numbered([2, 2]), [1]).superclasses is None


@pytest.mark.parametrize("split", [cuts.random_classes, cuts.random_images])
def test_split_is_fixed_by_its_seed(split):
  dataset = numbered([9] * 12)
  one, again, other = split(dataset, 3), split(dataset, 3), split(dataset, 4)
  assert truth(one.test) == truth(again.test)
  assert truth(one.test) != truth(other.test)


def test_open_set_with_a_shared_class_is_refused():
  classes = (np.array([0, 1]), np.array([2]), np.array([1, 3]))
  with pytest.raises(ValueError, match="shares classes"):
    cuts.split_by_class(numbered([2, 2, 2, 2]), classes)


def test_closed_set_with_a_shared_image_is_refused():
  indices = (np.array([0, 1]), np.array([2]), np.array([1, 3]))
  with pytest.raises(ValueError, match="shares images"):
    cuts.split_by_image(numbered([2, 2]), indices)


def test_closed_set_with_other_classes_in_a_part_is_refused():
  dataset = numbered([2, 2])
  part = base.subset(dataset, [0])
  with pytest.raises(ValueError, match="differ in classes"):
    base.Splits(dataset, dataset, part, "closed-set")


def test_too_few_classes_or_images_are_named():
  with pytest.raises(InputError, match=r"7 classes; .* needs 8"):
    cuts.random_classes(numbered([2] * 7), 0)
  with pytest.raises(InputError, match=r"7 classes; .* needs 8"):
    cuts.half_classes(numbered([2] * 7), 0)
  with pytest.raises(InputError, match=r"9 classes; .* needs 10"):
    cuts.class_fold(numbered([2] * 9), 0, 0)
  with pytest.raises(InputError, match=r"'class 1' \(8\); it takes 9"):
    cuts.random_images(numbered([9, 8, 9]), 0)
  with pytest.raises(InputError, match=r"'class 2' \(1\) and 2 more"):
    cuts.random_images(numbered([1] * 5), 0)


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
    cuts.check_split(config, {"halves": 3, "closed": 1})


def test_drawn_pairs_are_half_genuine_and_seeded():
  labels = np.repeat(np.arange(8), range(1, 9))
  labels = np.random.default_rng(0).permutation(labels)
  images = np.zeros((len(labels), 1, 1, 1), np.uint8)
  some = base.Dataset(
    "some", images, labels.astype(np.int32), tuple("abcdefgh")
  )
  first, second, same = base.draw_pairs(some, 3001, 3).pairs[:3]
  np.testing.assert_array_equal(labels[first] == labels[second], same)
  assert same.sum() == 1500
  assert (first != second).all()
  # Classes are drawn uniformly, whatever their sizes; one has no genuine pair.
  shares = np.bincount(labels[first[same]], minlength=8) / 1500
  np.testing.assert_allclose(shares, [0] + 7 * [1 / 7], atol=0.04)
  for side in (first, second):
    shares = np.bincount(labels[side[~same]], minlength=8) / 1501
    np.testing.assert_allclose(shares, 1 / 8, atol=0.04)
  # And so are their images: each is in a pair.
  assert {*first[same]} | {*second[same]} == {*np.flatnonzero(labels)}
  again, other = (base.draw_pairs(some, 3001, seed).pairs for seed in (3, 4))
  assert (again.first == first).all() and (other.first != first).any()
  for lone in (labels == 7, labels * 0 == labels):
    with pytest.raises(InputError, match="pairs needs two classes"):
      base.draw_pairs(base.select(some, np.flatnonzero(lone)), 10, 0)
