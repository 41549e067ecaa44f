import pathlib

import numpy as np
import pytest

from metric_learning.data import cache


class Count:
  """Builds arrays, and counts the calls."""

  def __init__(self):
    self.calls = 0

  def __call__(self):
    self.calls += 1
    return {"images": np.arange(6, dtype=np.uint8), "labels": np.int32([7])}


def assert_intact(arrays):
  assert arrays["images"].tolist() == [0, 1, 2, 3, 4, 5]
  assert arrays["labels"].tolist() == [7]
  assert arrays["images"].dtype == np.uint8


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("METRIC_LEARNING_CACHE", str(tmp_path / "a" / "b"))
  return tmp_path / "a" / "b"


def test_builds_once_and_leaves_one_file(folder):
  build = Count()
  for _ in range(3):
    assert_intact(cache.cached("numbers", build))
  assert build.calls == 1
  assert [path.name for path in folder.iterdir()] == ["numbers.npz"]


def test_other_names_are_other_arrays(folder):
  cache.cached("numbers", Count())
  build = Count()
  cache.cached("letters", build)
  assert build.calls == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "alien"])
def test_damaged_file_is_built_again(folder, damage):
  cache.cached("numbers", Count())
  path = folder / "numbers.npz"
  content = bytearray(path.read_bytes())
  if damage == "flip":
    content[len(content) // 2] ^= 1
  path.write_bytes(
    {"cut": content[:-5], "flip": content, "empty": b"", "alien": b"x" * 99}[
      damage
    ]
  )
  build = Count()
  assert_intact(cache.cached("numbers", build))
  assert_intact(cache.cached("numbers", build))
  assert build.calls == 1


def test_folder_that_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
  blocked = tmp_path / "file"
  blocked.write_text("not a folder")
  monkeypatch.setenv("METRIC_LEARNING_CACHE", str(blocked))
  build = Count()
  assert_intact(cache.cached("numbers", build))
  assert_intact(cache.cached("numbers", build))
  assert build.calls == 2
  assert blocked.read_text() == "not a folder"


def test_failed_write_leaves_no_half_file(folder, monkeypatch):
  def full(*args):
    raise OSError("no space left on device")

  monkeypatch.setattr(pathlib.Path, "replace", full)
  assert_intact(cache.cached("numbers", Count()))
  assert list(folder.iterdir()) == []


def test_default_folder_is_in_the_home(monkeypatch, tmp_path):
  monkeypatch.delenv("METRIC_LEARNING_CACHE", raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache.folder() == tmp_path / ".cache" / "metric_learning"
