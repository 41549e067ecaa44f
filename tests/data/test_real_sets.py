"""`cub100`, `cars_train` and `signatures`: layouts, splits, bad input."""

import itertools
import os
import pathlib

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import cars_train, cub100, signatures
from metric_learning.errors import InputError
from tests.data import stand_ins

MAKERS = {
  "cub100": stand_ins.cub100,
  "cars_train": stand_ins.cars_train,
  "signatures": stand_ins.signatures,
}
READERS = {
  "cub100": cub100.read,
  "cars_train": cars_train.read,
  "signatures": signatures.read,
}
# What each is asked for.
ASKED = {
  "cub100": ("official", ()),
  "cars_train": ("official", (4, 4)),
  "signatures": ("writers", ()),
}


# The sizes of the stand-ins, where a loader knows those of its set.
SIZES = {cars_train: {"IMAGES": 30}}
SIZES[signatures] = {"WRITERS": 12, "TRAIN": 6, "VALIDATION": 2}
REAL_SIZES = {
  module: {name: getattr(module, name) for name in sizes}
  for module, sizes in SIZES.items()
}


def set_sizes(monkeypatch, sizes):
  for module, values in sizes.items():
    for name, value in values.items():
      monkeypatch.setattr(module, name, value)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  set_sizes(monkeypatch, SIZES)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
  """A folder with the three archives."""
  folder = tmp_path_factory.mktemp("archives")
  for name, make in MAKERS.items():
    files = {f"{name}/{path}": x for path, x in make().items()}
    stand_ins.write(folder / f"{name}.zip", files)
  return folder


@pytest.fixture
def config(data_config, archives):
  def make(name, split=None, **changes):
    own, size = ASKED[name]
    changes = {"data_dir": str(archives), "image_size": size} | changes
    return data_config(name, split or own, "open-set", **changes)

  return make


def unpack(name, folder, without=()):
  files = MAKERS[name]()
  for path in files.keys() - {*without}:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(files[path])
  return folder


@pytest.mark.parametrize("name", MAKERS)
def test_all_layouts_give_the_same_images(name, config, archives, tmp_path):
  plain = unpack(name, tmp_path / name)
  bare = tmp_path / "bare.zip"  # no folder around it
  stand_ins.write(bare, MAKERS[name]())
  expected = READERS[name](config(name))
  assert expected.class_names == tuple(sorted(expected.class_names))
  assert not isinstance(expected.inputs, data.ImageFiles)
  for place in (archives / f"{name}.zip", plain, tmp_path, bare):
    found = READERS[name](config(name, data_dir=str(place)))
    assert found.identity == expected.identity
  streamed = [
    READERS[name](config(name, data_dir=str(place), stream=True))
    for place in (plain, bare)
  ]
  for found in streamed:
    assert isinstance(found.inputs, data.ImageFiles)
    np.testing.assert_array_equal(np.asarray(found.inputs), expected.inputs)
    np.testing.assert_array_equal(found.labels, expected.labels)
  assert streamed[0].identity == streamed[1].identity


@pytest.mark.parametrize("name", ["cub100", "cars_train"])
def test_the_second_half_of_the_classes_is_tested(name, config):
  splits = data.load(config(name))
  names = [x.class_names for x in (splits.train, splits.validation)]
  classes = sorted([*names[0], *names[1], *splits.test.class_names])
  assert splits.test.class_names == tuple(classes[5:])
  assert [len(x) for x in names] == [3, 2]
  drawn = {
    data.load(config(name, split_seed=seed)).validation.class_names
    for seed in range(4)
  }
  assert len(drawn) > 1
  for part in (splits.train, splits.validation, splits.test):
    # A gray of its own for each class, in the order of their names.
    grays = 8 * np.array([classes.index(x) for x in part.class_names])
    mean = part.inputs.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mean, grays[part.labels], atol=3)
  for split in ("classes", "half", "folds"):
    assert data.load(config(name, split)).protocol == "open-set"


def test_cars_differ_in_size(config):
  with pytest.raises(InputError, match=r"images differ.*set image_size="):
    data.load(config("cars_train", image_size=()))


def numbers_of(part):
  """The writer and the number of each stand-in for a signature."""
  return np.asarray(part.inputs)[:, 0, :, 0].T


def test_writers_are_cut_in_the_order_of_text(config):
  splits = data.load(config("signatures"))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.class_names) for part in parts] == [6, 2, 4]
  names = list(itertools.chain(*(part.class_names for part in parts)))
  assert names[:4] == ["1", "10", "11", "12"]
  assert names == sorted(names)
  for part in parts:
    writers, numbers = numbers_of(part)
    assert [str(x) for x in writers] == [
      part.class_names[label] for label in part.labels
    ]
    assert numbers.tolist() == list(range(1, 41)) * len(part.class_names)
    assert part.groups is None


def test_across_media_enrols_on_paper_and_verifies_on_a_phone(config):
  splits = data.load(config("signatures", "across_media"))
  test = data.load(config("signatures")).test.class_names
  assert splits.test.class_names == splits.gallery.class_names == test
  for part, numbers in (
    (splits.gallery, range(1, 11)),
    (splits.test, range(21, 41)),
  ):
    assert numbers_of(part)[1].tolist() == [*numbers] * 4
  # In validation, only another medium answers.
  _, number = numbers_of(splits.validation)
  medium = np.minimum((number - 1) // 10, 2)
  np.testing.assert_array_equal(splits.validation.groups, medium)


def test_media_pairs_are_of_paper_and_phone(config):
  splits = data.load(config("signatures", "media_pairs"))
  assert splits.train.pairs is None
  for part, writers in ((splits.validation, 2), (splits.test, 4)):
    pairs = part.pairs
    (writer, number), (other, another) = (
      numbers_of(part)[:, side] for side in (pairs.first, pairs.second)
    )
    assert set(number) == set(range(1, 11))
    assert set(another) == set(range(21, 41))
    assert len(pairs.same) == writers * 10 * writers * 20
    np.testing.assert_array_equal(pairs.same, writer == other)


@pytest.mark.parametrize(
  ("name", "lost", "said"),
  [
    ("cub100", "images/Bird_C/0001.jpg", r"lacks 1 of the 30 .*Bird_C/0001"),
    ("cub100", "images.txt", r"lacks images\.txt: .* cub100\.zip"),
    ("cars_train", "003/00013.jpg", r"lacks 1 of the 30 .*first 00013\.jpg"),
    ("signatures", "7/3.png", r"lacks 1 of the 480 .*first 7/3\.png"),
  ],
)
def test_what_is_missing_is_named(name, lost, said, config, tmp_path):
  folder = unpack(name, tmp_path / "some", without=[lost])
  with pytest.raises(InputError, match=said):
    data.load(config(name, data_dir=str(folder)))


@pytest.mark.parametrize("name", MAKERS)
def test_other_files_are_refused(name, config, archives, tmp_path):
  with pytest.raises(InputError, match=rf"needs data_dir.*{name}\.zip"):
    data.load(config(name, data_dir=""))
  with pytest.raises(InputError, match=r"some.* lacks"):
    (tmp_path / "some").mkdir()
    data.load(config(name, data_dir=str(tmp_path / "some")))
  with pytest.raises(InputError, match=r"split of .*'view1'"):
    data.load(config(name, "view1"))


def test_a_damaged_list_is_named(config, tmp_path):
  folder = unpack("cub100", tmp_path / "some")
  (folder / "images.txt").write_text("0, Bird_A/0000.jpg\n1 Bird_A\n")
  with pytest.raises(InputError, match=r"images\.txt, line 2: '1 Bird_A'"):
    data.load(config("cub100", data_dir=str(folder)))


# --- The archives themselves -------------------------------------------------


@pytest.fixture
def real(monkeypatch):
  set_sizes(monkeypatch, REAL_SIZES)
  return real_folder


def real_folder(name):
  folder = os.environ.get("METRIC_LEARNING_DATA", "")
  if not folder or not pathlib.Path(folder, f"{name}.zip").exists():
    pytest.skip(f"METRIC_LEARNING_DATA names no folder with {name}.zip")
  return folder


def counts(splits):
  parts = (splits.train, splits.validation, splits.test)
  return [(len(part.class_names), len(part.labels)) for part in parts]


def test_real_birds(config, real):
  folder = real("cub100")
  splits = data.load(config("cub100", data_dir=folder, image_size=(8, 8)))
  assert [classes for classes, _ in counts(splits)] == [40, 10, 50]
  assert sum(size for _, size in counts(splits)) == 5_902
  assert counts(splits)[2] == (50, 2_933)


def test_real_cars(config, real):
  folder = real("cars_train")
  splits = data.load(config("cars_train", data_dir=folder))
  assert [classes for classes, _ in counts(splits)] == [78, 20, 98]
  assert counts(splits)[2] == (98, 4_092)
  assert splits.test.class_names[0] == "099"


def test_real_signatures(config, real):
  folder = real("signatures")
  splits = data.load(config("signatures", data_dir=folder, image_size=(8, 8)))
  assert counts(splits) == [(53, 2_120), (15, 600), (25, 1_000)]
  assert splits.train.inputs.shape[1:] == (8, 8, 1)
