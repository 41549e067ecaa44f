import gzip
import struct

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import idx
from metric_learning.errors import InputError


def idx_bytes(array):
  header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
  return header + array.tobytes()


def arrays(classes, images):
  """Images whose pixels are (label, number), with the labels 7, 17, …"""
  labels = np.repeat(10 * np.arange(classes, dtype=np.uint8) + 7, images)
  numbers = np.tile(np.arange(images, dtype=np.uint8), classes)
  order = np.random.default_rng(0).permutation(len(labels))
  return np.stack([labels, numbers], axis=1)[order, None, :], labels[order]


@pytest.fixture
def config(data_config, tmp_path):
  def make(split="classes", protocol="open-set", **changes):
    changes = {"data_dir": str(tmp_path)} | changes
    return data_config("idx", split, protocol, **changes)

  return make


def write(folder, images, labels, prefix="my-", axes=3):
  """Writes the labels gzipped, and the images not."""
  path = folder / f"{prefix}images-idx{axes}-ubyte"
  path.write_bytes(idx_bytes(images))
  path = folder / f"{prefix}labels-idx1-ubyte.gz"
  path.write_bytes(gzip.compress(idx_bytes(labels)))


def test_labels_are_numbered_and_name_the_classes(tmp_path, config):
  write(tmp_path, *arrays(9, 10))
  for split, protocol, count in (
    ("classes", "open-set", 3),
    ("half", "open-set", 5),
    ("images", "closed-set", 9),
  ):
    part = data.load(config(split, protocol)).test
    assert len(part.class_names) == count
    assert part.inputs.shape[1:] == (1, 2, 1)
    shown = part.inputs[:, 0, 0, 0]
    names = [part.class_names[label] for label in part.labels]
    assert names == [str(label) for label in shown]


def test_images_with_channels(tmp_path, config):
  images, labels = arrays(8, 3)
  colored = np.stack([images, images + 1, images + 2], axis=-1)
  write(tmp_path, colored, labels, axes=4)
  np.testing.assert_array_equal(idx.read(config()).inputs, colored)


def test_counts_that_differ_are_named(tmp_path, config):
  images, labels = arrays(8, 3)
  write(tmp_path, images, labels[1:])
  message = r"my-images.* \(24, 1, 2\), and .*my-labels.* \(23,\)"
  with pytest.raises(InputError, match=message):
    data.load(config())


def test_files_that_are_missing_or_too_many_are_named(tmp_path, config):
  with pytest.raises(InputError, match=r"one file \*images.* holds none"):
    data.load(config())
  write(tmp_path, *arrays(8, 3))
  write(tmp_path, *arrays(8, 3), prefix="your-")
  with pytest.raises(InputError, match=r"my-images.*, your-images"):
    data.load(config())


def test_class_without_a_pair_is_named(tmp_path, config):
  images, labels = arrays(8, 2)
  write(tmp_path, images[1:], labels[1:])
  with pytest.raises(InputError, match=rf"'{labels[0]}' \(1\)"):
    data.load(config())
