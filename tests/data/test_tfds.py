import io
import sys

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data.sets import tfds
from metric_learning.errors import InputError

NAMES = tuple("abcdefghij")
SIZES = {"train": 9, "test": 3}  # images a class


def prepare(folder, sizes=SIZES, features=("image", "label"), number=None):
  """A builder for tests: PNG images with pixels (class, number).

  Class `k` has no image; images with an odd number are one pixel higher.
  """
  core = pytest.importorskip("tensorflow_datasets").core
  kinds = pytest.importorskip("tensorflow_datasets").features

  with core.registered.skip_registration():

    class Letters(core.GeneratorBasedBuilder):
      """Letters."""

      VERSION = core.Version("1.0.0")

      def _info(self):
        image, label = features
        described = {
          image: kinds.Image(shape=(None, None, 1)),
          label: kinds.ClassLabel(names=[*NAMES, "k"]),
        }
        described = kinds.FeaturesDict(described)
        return core.DatasetInfo(builder=self, features=described)

      def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in sizes}

      def _generate_examples(self, split):
        first = 0 if split == "train" else 100
        for label, name in enumerate(NAMES):
          for i in range(first, first + sizes[split]):
            pixels = np.full((3 + i % 2, 4), i, np.uint8)
            pixels[:, 0] = label
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            image, key = features
            file.seek(0)
            yield f"{name}{i}", {image: file, key: number or name}

  Letters(
    data_dir=str(folder), file_format="array_record"
  ).download_and_prepare()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  prepare(folder)
  return folder


@pytest.fixture
def config(data_config, folder):
  def make(split="official", protocol="closed-set", **changes):
    fields = {"data_dir": str(folder), "image_size": (3, 4)} | changes
    name = fields.pop("name", "tfds:letters")
    return data_config(name, split, protocol, **fields)

  return make


def shown(part):
  """(class, number) of each image, read from its pixels."""
  kinds = part.inputs[:, 0, 0, 0].tolist()
  assert [NAMES[k] for k in kinds] == [part.class_names[i] for i in part.labels]
  return {*zip(kinds, part.inputs[:, 0, -1, 0].tolist(), strict=True)}


def test_official_split_and_no_tensorflow(config):
  splits = data.load(config())
  assert shown(splits.test) == {
    (c, i) for c in range(10) for i in range(100, 103)
  }
  train, validation = shown(splits.train), shown(splits.validation)
  assert train | validation == {(c, i) for c in range(10) for i in range(9)}
  assert len(validation) == 20  # two of each class
  assert splits.train.class_names == NAMES  # and no empty class
  assert "tensorflow" not in sys.modules


def test_images_may_be_decoded_when_they_are_needed(config):
  whole, lazy = data.load(config()), data.load(config(stream=True))
  assert isinstance(lazy.train.inputs, data.ImageFiles)
  np.testing.assert_array_equal(
    np.asarray(lazy.test.inputs), np.asarray(whole.test.inputs)
  )


def test_other_splits_take_all_images(config):
  splits = data.load(config("classes", "open-set"))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.class_names) for part in parts] == [5, 2, 3]
  assert [len(part.inputs) for part in parts] == [60, 24, 36]
  assert len(set().union(*map(shown, parts))) == 120


def test_sizes_that_differ_are_named(config):
  message = r"tfds:letters, train image 0 is \d×4 gray, .* set image_size"
  with pytest.raises(InputError, match=message):
    data.load(config(image_size=()))


def test_set_that_is_not_prepared_says_how(config):
  message = (
    r"tfds:mnist is not prepared in .*; prepare it with `tfds build mnist "
    "--file_format=array_record"
  )
  with pytest.raises(InputError, match=message):
    data.load(config(name="tfds:mnist"))


def test_package_that_is_not_installed_is_named(config, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  for name in [*sys.modules]:
    if name.startswith("tensorflow_datasets."):
      monkeypatch.delitem(sys.modules, name)
  message = r"needs tensorflow-datasets: pip install 'metric-learning\[tfds\]'"
  with pytest.raises(InputError, match=message):
    data.load(config())


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"features": ("image", "digit")}, "features digit, image; it needs an"),
    ({"features": ("picture", "label")}, "features label, picture; it needs"),
    ({"sizes": {"extra": 2}}, "has the splits extra, none of train"),
    ({"sizes": {"train": 9}}, "no image in the part 'test'"),
    ({"number": -1}, "images without a label in 'train'"),
  ],
)
def test_set_that_cannot_be_used(config, tmp_path, changes, message):
  prepare(tmp_path, **changes)
  with pytest.raises(InputError, match=message):
    data.load(config(data_dir=str(tmp_path)))


def test_image_that_does_not_decode_is_named(config, monkeypatch):
  monkeypatch.setattr(tfds.Record, "read_bytes", lambda record: b"<html>")
  message = "cannot read the image tfds:letters, train image 0"
  with pytest.raises(InputError, match=message):
    data.load(config())
