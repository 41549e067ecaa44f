"""The identity of a data set depends on its contents alone."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data import base, identity
from metric_learning.data.sets import image_folder

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 2, 1), np.uint8)
PLAIN = base.Dataset("x", IMAGES, np.int32([0, 0, 1, 1, 2, 2]), ("a", "b", "c"))


def changed(name, index, value):
  array = getattr(PLAIN, name).copy()
  array[index] = value
  return dataclasses.replace(PLAIN, **{name: array})


def pairs(same, similarity=None):
  first, second = np.int32([0, 2]), np.int32([1, 4])
  return base.Pairs(first, second, np.array(same), similarity)


OTHERS = {
  "a pixel": changed("inputs", (4, 2, 1, 0), IMAGES[4, 2, 1, 0] ^ 1),
  "a label": changed("labels", 1, 1),
  "a name": dataclasses.replace(PLAIN, class_names=("a", "b", "d")),
  "names cut elsewhere": dataclasses.replace(
    PLAIN, class_names=("ab", "", "c")
  ),
  "two images swapped": base.select(PLAIN, np.array([1, 0, 2, 3, 4, 5])),
  "an image less": base.select(PLAIN, np.arange(5)),
  "another shape": dataclasses.replace(
    PLAIN, inputs=IMAGES.reshape(6, 2, 3, 1)
  ),
  "superclasses": dataclasses.replace(PLAIN, superclasses=("s", "s", "t")),
  "groups": dataclasses.replace(PLAIN, groups=np.int32([0, 1] * 3)),
  "pairs": dataclasses.replace(PLAIN, pairs=pairs([True, False])),
  "other pairs": dataclasses.replace(PLAIN, pairs=pairs([True, True])),
}


def test_whatever_changes_is_told():
  found = {name: each.identity for name, each in OTHERS.items()}
  assert len({PLAIN.identity, *found.values()}) == 1 + len(OTHERS)
  assert PLAIN.identity.startswith("3 classes, 6 images of 3×2×1: names ")
  assert dataclasses.replace(PLAIN, name="y").identity == PLAIN.identity


def test_views_of_an_array_are_the_data_that_they_show():
  reversed_twice = IMAGES[::-1].copy()[::-1]
  assert not reversed_twice.flags.c_contiguous
  same = dataclasses.replace(PLAIN, inputs=reversed_twice)
  assert same.identity == PLAIN.identity


def write(folder, classes=8):
  for c in range(classes):
    (folder / f"c{c}").mkdir(parents=True)
    for i in range(3):
      pixels = np.full((4, 4), 16 * c + i, np.uint8)
      Image.fromarray(pixels).save(folder / f"c{c}" / f"{i}.png")
  return folder


@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_of_a_folder_is_the_same_data(tmp_path, data_config, stream):
  def load(folder):
    fields = {"data_dir": str(folder), "stream": stream}
    config = data_config("image_folder", "classes", "open-set", **fields)
    return data.load(config).identity

  one, other = write(tmp_path / "one"), tmp_path / "elsewhere" / "other"
  shutil.copytree(one, other)
  for path in other.rglob("*.png"):
    os.utime(path, (0, 0))
  assert load(other) == load(one)
  assert load(one).keys() == {"train", "validation", "test"}
  pixels = np.full((4, 4), 255, np.uint8)
  Image.fromarray(pixels).save(other / "c5" / "1.png")
  parts = [part for part in load(one) if load(one)[part] != load(other)[part]]
  assert len(parts) == 1
  (other / "c9").mkdir()
  for i in (200, 201):
    Image.fromarray(np.full((4, 4), i, np.uint8)).save(other / f"c9/{i}.png")
  assert load(other) != load(one)


def test_a_file_on_disk_is_told_by_its_name_and_bytes(tmp_path, data_config):
  fields = {"data_dir": str(write(tmp_path)), "stream": True}
  config = data_config("image_folder", "classes", "open-set", **fields)
  read = lambda: image_folder.read(config).identity
  before = read()
  (tmp_path / "c3" / "2.png").rename(tmp_path / "c3" / "7.png")
  renamed = read()
  (tmp_path / "c3" / "7.png").rename(tmp_path / "c3" / "2.png")
  assert renamed != before == read()


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_stamp_sees_both_ends_and_the_middle(tmp_path, size, place):
  content = bytearray(np.random.default_rng(0).bytes(size))
  path = tmp_path / "x"

  def stamp():
    path.write_bytes(content)
    with path.open("rb") as file:
      found = identity.file_stamp(file)
      assert file.tell() == 0
    return found

  before = stamp()
  content[int(place * size) if place > 0 else place] ^= 1
  assert stamp() != before
  content.append(0)
  content[int(place * size) if place > 0 else (-2 if place else 0)] ^= 1
  assert stamp() != before  # one byte longer
