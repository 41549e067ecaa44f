import sys
import threading

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data import imaging, stream
from metric_learning.data.sets import image_folder
from metric_learning.errors import InputError

RNG = np.random.default_rng(0)


@pytest.fixture
def paths(tmp_path):
  """Five images; the second is in color."""
  found = []
  for i in range(5):
    shape = (6, 4, 3) if i == 1 else (6, 4)
    found.append(tmp_path / f"{i}.png")
    Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(found[-1])
  return found


@pytest.mark.parametrize("size", [(6, 4), (3, 2)])
def test_files_are_the_array_that_they_become(paths, size):
  lazy, whole = (
    stream.image_files(paths, size),
    imaging.read_images(paths, size),
  )
  assert (lazy.shape, lazy.ndim, len(lazy)) == (whole.shape, 4, 5)
  np.testing.assert_array_equal(np.asarray(lazy), whole)
  # Gray ones alone have three channels too.
  for index in (slice(2, 4), np.array([4, 2, 2]), np.array([], int)):
    assert isinstance(lazy[index], stream.ImageFiles)
    np.testing.assert_array_equal(np.asarray(lazy[index]), whole[index])
  np.testing.assert_array_equal(lazy[3], whole[3])


def test_nothing_is_decoded_before_it_is_needed(paths, monkeypatch):
  monkeypatch.setattr(imaging, "read_images", None)
  assert stream.image_files(paths, (3, 2))[2:].shape == (3, 3, 2, 3)


def test_headers_are_checked_before_training(paths, tmp_path):
  Image.new("L", (9, 9)).save(tmp_path / "9.png")
  with pytest.raises(InputError, match=r"0\.png is 6×4.*9\.png is 9×9.*set im"):
    stream.image_files([paths[0], tmp_path / "9.png"])
  with pytest.raises(InputError, match=r"0\.png is 6×4 gray.*6×4 color"):
    stream.image_files(paths)
  (tmp_path / "x.png").write_bytes(b"no image")
  with pytest.raises(InputError, match=r"x\.png.*replace the file"):
    stream.image_files([*paths, tmp_path / "x.png"], (3, 2))


def test_folders_are_split_without_being_read(tmp_path, data_config):
  for c in range(8):
    (tmp_path / f"{c}").mkdir()
    for i in range(3):
      pixels = RNG.integers(0, 256, (5, 5), np.uint8)
      Image.fromarray(pixels).save(tmp_path / f"{c}" / f"{i}.png")
  fields = {"data_dir": str(tmp_path), "image_size": (4, 4)}
  arguments = ("image_folder", "classes", "open-set")
  lazy = data.load(data_config(*arguments, **fields, stream=True))
  whole = data.load(data_config(*arguments, **fields))
  for part in ("train", "validation", "test"):
    one, other = getattr(lazy, part), getattr(whole, part)
    assert isinstance(one.inputs, stream.ImageFiles)
    np.testing.assert_array_equal(np.asarray(one.inputs), other.inputs)
    np.testing.assert_array_equal(one.labels, other.labels)
  assert image_folder.read(data_config(*arguments, **fields)).inputs.ndim == 4


def test_items_are_read_in_order_ahead_and_elsewhere():
  seen, here = [], threading.get_ident()

  def read(item):
    seen.append((item, threading.get_ident()))
    return item * item

  ahead = stream.read_ahead(read, range(5, 200))
  assert [next(ahead) for _ in range(3)] == [25, 36, 49]
  assert list(ahead) == [item * item for item in range(8, 200)]
  assert all(thread != here for _, thread in seen)
  assert sorted(item for item, _ in seen) == list(range(5, 200))


def test_an_error_comes_at_its_turn():
  def read(item):
    if item == 3:
      raise InputError("the fourth image is damaged.")
    return item

  ahead = stream.read_ahead(read, range(9))
  assert [next(ahead) for _ in range(3)] == [0, 1, 2]
  with pytest.raises(InputError, match=r"^the fourth image is damaged\.\s"):
    next(ahead)


def test_without_grain_the_way_out_is_said(monkeypatch):
  monkeypatch.setitem(sys.modules, "grain", None)
  with pytest.raises(InputError, match="pip install grain, or set"):
    list(stream.read_ahead(abs, range(3)))
