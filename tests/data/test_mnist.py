import gzip
import os
import pathlib
import struct

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import mnist
from metric_learning.errors import InputError

FILES = [
  f"{part}-{kind}"
  for part in ("train", "t10k")
  for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


NAMES = mnist.CLASS_NAMES["fashion_mnist"]


def idx_bytes(array):
  header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return header + array.tobytes()


def stand_in(per_class, first=0):
  """Images whose pixels are (class, number), in shuffled order."""
  labels = np.repeat(np.arange(10, dtype=np.uint8), per_class)
  numbers = first + np.tile(np.arange(per_class, dtype=np.uint8), 10)
  order = np.random.default_rng(0).permutation(len(labels))
  images = np.stack([labels, numbers], axis=1)[:, None, :]
  return images[order], labels[order]


def write(folder, pack=bytes, suffix=""):
  arrays = [*stand_in(20), *stand_in(5, first=100)]
  for name, array in zip(FILES, arrays, strict=True):
    (folder / f"{name}{suffix}").write_bytes(pack(idx_bytes(array)))
  return folder


@pytest.fixture
def config(data_config, tmp_path):
  def make(
    split="closed", protocol="closed-set", name="fashion_mnist", **changes
  ):
    changes = {"data_dir": str(tmp_path)} | changes
    return data_config(name, split, protocol, **changes)

  return make


def shown(dataset):
  """(class name, number) of each image, read from its pixels."""
  kinds, numbers = dataset.inputs[:, 0, :, 0].T
  names = [mnist.CLASS_NAMES[dataset.name][kind] for kind in kinds]
  assert names == [dataset.class_names[label] for label in dataset.labels]
  return list(zip(names, numbers.tolist(), strict=True))


@pytest.mark.parametrize(
  ("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")]
)
def test_closed_split_keeps_the_official_parts(tmp_path, config, pack, suffix):
  write(tmp_path, pack, suffix)
  splits = data.load(config())
  everything = {(n, i) for n in NAMES for i in range(20)}
  train, validation = shown(splits.train), shown(splits.validation)
  assert np.bincount(splits.validation.labels).tolist() == [2] * 10
  assert len(train) == 180
  assert {*train, *validation} == everything
  assert sorted(shown(splits.test)) == sorted(
    (n, i) for n in NAMES for i in range(100, 105)
  )
  other = data.load(config(split_seed=1))
  assert {*shown(other.validation)} != {*validation}


@pytest.mark.parametrize("name", mnist.CLASS_NAMES)
def test_each_set_has_its_own_names(tmp_path, config, name):
  write(tmp_path)
  splits = data.load(config(name=name))
  assert splits.test.name == name
  assert splits.test.class_names == mnist.CLASS_NAMES[name]
  assert len({*splits.test.class_names}) == 10
  assert len(shown(splits.test)) == 50


def test_missing_folder_says_where_the_files_are(config):
  with pytest.raises(InputError, match=r"needs data_dir.*codh\.rois\.ac\.jp"):
    data.load(config(name="kmnist", data_dir=""))


def test_halves_train_and_test_other_classes(tmp_path, config):
  write(tmp_path)
  names = {*NAMES}
  tested = []
  for fold in range(10):
    splits = data.load(config("halves", "open-set", fold=fold))
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part.class_names) for part in parts] == [3, 2, 5]
    assert [len(part.inputs) for part in parts] == [60, 40, 25]
    assert {name for part in parts for name, _ in shown(part)} == names
    tested.append(frozenset(splits.test.class_names))
  for forth, back in zip(tested[::2], tested[1::2], strict=True):
    assert forth == names - back
  assert len(set(tested)) == 10


def test_validation_classes_of_halves_depend_on_the_seed(tmp_path, config):
  write(tmp_path)
  chosen = {
    data.load(config("halves", "open-set", split_seed=s)).validation.class_names
    for s in range(8)
  }
  assert len(chosen) > 1


def test_missing_file_is_named(tmp_path, config):
  write(tmp_path)
  (tmp_path / FILES[3]).unlink()
  with pytest.raises(InputError, match=f"neither {FILES[3]} nor"):
    data.load(config())


def test_folder_that_is_not_there(tmp_path, config):
  with pytest.raises(InputError, match=r"nowhere' does not exist.*apt-get"):
    data.load(config(data_dir=str(tmp_path / "nowhere")))


def test_default_folder_is_debians(tmp_path, config, monkeypatch):
  monkeypatch.setattr(mnist, "DEBIAN", str(tmp_path / "none"))
  with pytest.raises(InputError, match=r"needs data_dir.*apt-get"):
    data.load(config(data_dir=""))
  monkeypatch.setattr(mnist, "DEBIAN", str(write(tmp_path)))
  assert len(data.load(config(data_dir="")).test.inputs) == 50


def test_counts_that_differ_are_named(tmp_path, config):
  write(tmp_path)
  (tmp_path / FILES[1]).write_bytes(idx_bytes(stand_in(19)[1]))
  message = rf"{FILES[0]} .*\(200, 1, 2\), and .*{FILES[1]} .*\(190,\)"
  with pytest.raises(InputError, match=message):
    data.load(config())


def test_label_over_nine_is_named(tmp_path, config):
  write(tmp_path)
  labels = stand_in(20)[1].copy()
  labels[3] = 10
  (tmp_path / FILES[1]).write_bytes(idx_bytes(labels))
  with pytest.raises(InputError, match=f"{FILES[1]} holds the label 10"):
    data.load(config())


@pytest.fixture
def real_folder():
  own = pathlib.Path(
    os.environ.get("METRIC_LEARNING_DATA", ""), "fashion-mnist"
  )
  for folder in (own, pathlib.Path(mnist.DEBIAN)):
    if folder.is_dir():
      return str(folder)
  pytest.skip(f"no {mnist.DEBIAN}, nor fashion-mnist in METRIC_LEARNING_DATA")


def test_real_files(config, real_folder):
  splits = data.load(config(data_dir=real_folder))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.inputs) for part in parts] == [54000, 6000, 10000]
  assert splits.test.inputs.shape[1:] == (28, 28, 1)
  assert np.bincount(splits.validation.labels).tolist() == [600] * 10
  # Trousers are narrow: their outer columns are empty.
  ink = [
    splits.test.inputs[splits.test.labels == c, :, :5].mean() for c in range(10)
  ]
  assert np.argmin(ink) == NAMES.index("Trouser")
