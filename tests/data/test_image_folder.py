import os
import shutil

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data import imaging
from metric_learning.data.sets import image_folder
from metric_learning.errors import InputError


def write(folder, classes, images, mode="L", size=(4, 3), first=0):
  """Images with 16 × class + number in all pixels; numbers from `first`."""
  suffixes = ["png", "PNG", "pgm", "Pgm"] if mode == "L" else ["png", "PNG"]
  for label in range(classes):
    (folder / f"kind {label:02}").mkdir(parents=True)
    for number in range(images):
      pixels = np.full(size, 16 * label + first + number, np.uint8)
      name = f"{number:02}.{suffixes[number % len(suffixes)]}"
      image = Image.fromarray(pixels).convert(mode)
      image.save(folder / f"kind {label:02}" / name)
  return folder


@pytest.fixture
def config(data_config, tmp_path):
  def make(split="classes", protocol="open-set", **changes):
    changes = {"data_dir": str(tmp_path)} | changes
    return data_config("image_folder", split, protocol, **changes)

  return make


def test_classes_and_images_come_sorted_by_name(tmp_path, config):
  write(tmp_path, 3, 5)
  dataset = image_folder.read(config())
  assert dataset.class_names == ("kind 00", "kind 01", "kind 02")
  assert dataset.labels.tolist() == np.repeat([0, 1, 2], 5).tolist()
  numbers = np.tile(np.arange(5), 3)
  assert dataset.inputs.shape == (15, 4, 3, 1)
  assert (dataset.inputs[:, 0, 0, 0] == 16 * dataset.labels + numbers).all()


def test_other_files_are_passed_over_and_counted(tmp_path, config):
  write(tmp_path, 2, 2)
  for name in ("a.jpg", "b.JPEG"):
    Image.new("L", (3, 4), 50).save(tmp_path / "kind 00" / name)
  (tmp_path / "kind 00" / "notes.txt").write_text("not an image")
  (tmp_path / "kind 00" / "._00.png").write_text("not an image")
  (tmp_path / "kind 01" / "Thumbs.db").write_text("left by a system")
  (tmp_path / ".thumbnails").mkdir()
  (tmp_path / "README").write_text("not a class")
  for name in ("c.heic", "d.HEIC", "README"):
    (tmp_path / "kind 01" / name).write_text("not read")
  (tmp_path / "kind 01" / "raw").mkdir()
  os.mkfifo(tmp_path / "kind 01" / "9.png")  # to read it would wait for ever
  (tmp_path / "kind 01" / "8.png").symlink_to("/dev/zero")
  Image.new("L", (3, 4), 51).save(tmp_path / "cover.png")
  message = (
    r"left out are 1 images in no class folder \(cover\.png\), 1 files \.txt"
    r" \(kind 00/notes\.txt\), 2 pipes or devices \(kind 01/8\.png\), 1 files"
    r" without a suffix \(kind 01/README\), 2 files \.heic \(kind 01/c\.heic\)"
    r", 1 subfolders of classes \(kind 01/raw\)\. .* suffixes \.png"
  )
  for stream in (False, True):
    with pytest.warns(UserWarning, match=message):
      dataset = image_folder.read(config(stream=stream))
    assert dataset.class_names == ("kind 00", "kind 01")
    assert np.bincount(dataset.labels).tolist() == [4, 2]


@pytest.mark.parametrize("suffix", image_folder.SUFFIXES)
def test_every_suffix_is_of_a_format_that_is_read(suffix):
  Image.init()
  assert Image.EXTENSION[suffix] in imaging.FORMATS


def test_color_has_three_channels(tmp_path, config):
  write(tmp_path, 8, 2, mode="RGB")
  assert data.load(config()).train.inputs.shape[1:] == (4, 3, 3)


def test_splits_obey_their_protocols(tmp_path, config):
  write(tmp_path, 10, 10)
  splits = data.load(config())
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.class_names) for part in parts] == [5, 2, 3]
  splits = data.load(config("images", "closed-set"))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.inputs) for part in parts] == [60, 20, 20]
  assert splits.test.class_names == tuple(f"kind {i:02}" for i in range(10))


def test_sizes_that_differ_need_image_size(tmp_path, config):
  write(tmp_path / "a", 4, 2)
  write(tmp_path / "b", 4, 2, size=(6, 6), first=8)
  for path in (tmp_path / "a").iterdir():
    path.rename(tmp_path / f"a {path.name}")
  for path in (tmp_path / "b").iterdir():
    path.rename(tmp_path / f"b {path.name}")
  (tmp_path / "a").rmdir()
  (tmp_path / "b").rmdir()
  with pytest.raises(InputError, match="set image_size"):
    data.load(config())
  splits = data.load(config(image_size=(5, 2)))
  assert splits.train.inputs.shape == (8, 5, 2, 1)


def test_no_data_dir(config, tmp_path):
  with pytest.raises(InputError, match=r"needs data_dir.*class folders"):
    data.load(config(data_dir=""))
  with pytest.raises(InputError, match="nowhere' does not exist"):
    data.load(config(data_dir=str(tmp_path / "nowhere")))
  (tmp_path / "photos.zip").write_bytes(b"")
  with pytest.raises(InputError, match=r"photos.zip' is a file, not a folder"):
    data.load(config(data_dir=str(tmp_path / "photos.zip")))


def test_folder_without_class_folders(config, tmp_path):
  with pytest.raises(InputError, match=r"no class folders.*<class>/<image>"):
    data.load(config())
  Image.new("L", (3, 4)).save(tmp_path / "a.png")
  with pytest.raises(InputError, match="no class folders"):
    data.load(config())


def test_class_without_a_pair_is_named(config, tmp_path):
  write(tmp_path, 8, 2)
  (tmp_path / "kind 03" / "00.png").unlink()
  (tmp_path / "empty").mkdir()
  message = r"class 'empty' \(0\), 'kind 03' \(1\); it takes 2 to form a pair"
  with pytest.raises(InputError, match=message):
    data.load(config())


def test_truncated_image_is_named(config, tmp_path):
  write(tmp_path, 8, 2)
  path = tmp_path / "kind 05" / "01.PNG"
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(InputError, match=r"kind 05/01\.PNG.*replace the file"):
    data.load(config())


# --- Parts of its own -------------------------------------------------------


def write_parts(folder, number=0, **parts):
  """Two images of each class in each part; all images differ."""
  for part, classes in parts.items():
    for name in classes:
      (folder / part / name).mkdir(parents=True)
      for i in range(2):
        Image.new("L", (2, 2), number).save(folder / part / name / f"{i}.png")
        number += 1


def shown(part):
  """The images in a part, by class."""
  pixels = np.asarray(part.inputs)[:, 0, 0, 0].tolist()
  found = {}
  for label, pixel in zip(part.labels, pixels, strict=True):
    found.setdefault(part.class_names[label], []).append(pixel)
  return found


@pytest.mark.parametrize("validation", ["validation", "val"])
@pytest.mark.parametrize("stream", [False, True])
def test_parts_are_taken_as_they_lie(tmp_path, config, validation, stream):
  parts = {"train": "ba", validation: "fg", "test": "de"}
  write_parts(tmp_path, **parts)
  splits = data.load(config("official", stream=stream))
  assert shown(splits.train) == {"b": [0, 1], "a": [2, 3]}
  assert splits.train.class_names == ("a", "b")
  assert shown(splits.validation) == {"f": [4, 5], "g": [6, 7]}
  assert shown(splits.test) == {"d": [8, 9], "e": [10, 11]}
  assert splits.gallery is None


def test_validation_that_does_not_lie_there_is_drawn(tmp_path, config):
  write_parts(tmp_path, train="abcdef", test="xy")
  splits = data.load(config("official"))
  assert len(splits.validation.class_names) == 2
  names = {*splits.train.class_names, *splits.validation.class_names}
  assert names == set("abcdef")
  assert splits.test.class_names == ("x", "y")


def test_queries_look_in_the_gallery(tmp_path, config):
  write_parts(tmp_path, train="abcd", query="xy", gallery="wxy")
  splits = data.load(config("official"))
  assert shown(splits.test) == {"x": [8, 9], "y": [10, 11]}
  assert shown(splits.gallery) == {"w": [12, 13], "x": [14, 15], "y": [16, 17]}
  assert splits.test.class_names == splits.gallery.class_names == tuple("wxy")


def test_classes_may_be_in_all_parts_of_a_closed_set(tmp_path, config):
  write_parts(tmp_path, train="abc", validation="abc", test="abc")
  splits = data.load(config("official", "closed-set"))
  assert shown(splits.test) == {"a": [12, 13], "b": [14, 15], "c": [16, 17]}
  with pytest.raises(InputError, match="'a' is in train and in validation"):
    data.load(config("official"))
  write_parts(tmp_path, 18, query="abc", gallery="abc")
  with pytest.raises(InputError, match="parts 'test' and 'query' or 'gallery'"):
    data.load(config("official", "closed-set"))
  shutil.rmtree(tmp_path / "test")
  splits = data.load(config("official", "closed-set"))
  assert splits.test.class_names == splits.gallery.class_names == tuple("abc")
  shutil.rmtree(tmp_path / "query")
  with pytest.raises(InputError, match="no image in the part 'query': queries"):
    data.load(config("official", "closed-set"))


def test_parts_that_are_not_asked_for_are_told(tmp_path, config):
  write_parts(tmp_path, train="abcd", test="xy")
  with pytest.raises(InputError, match=r"holds test, train, with.*'official'"):
    data.load(config())
  (tmp_path / "extra" / "a").mkdir(parents=True)
  with pytest.warns(UserWarning, match=r"1 folders of no part \(extra\)"):
    data.load(config("official"))


def test_parts_that_are_not_there_are_told(tmp_path, config):
  write(tmp_path, 8, 2)
  message = "no part folders .*; it has kind 00, kind 01, kind 02 and 5 more"
  with pytest.raises(InputError, match=message):
    data.load(config("official"))
  (tmp_path / "train").mkdir()
  with pytest.raises(InputError, match="train has no class folders"):
    data.load(config("official"))
  for name in ("val", "validation"):
    (tmp_path / name).mkdir()
  with pytest.raises(InputError, match="both val and validation"):
    data.load(config("official"))


def test_a_class_may_be_called_train(tmp_path, config):
  write_parts(tmp_path, train="a", test="b")
  for part in ("train", "test"):
    for path in (tmp_path / part).rglob("*.png"):
      path.rename(tmp_path / part / path.name)
    shutil.rmtree(tmp_path / part / ("a" if part == "train" else "b"))
  assert image_folder.read(config()).class_names == ("test", "train")


# --- Classes of a single image ----------------------------------------------


@pytest.mark.parametrize("small_classes", ["repeat", "drop"])
def test_single_images_may_stay(tmp_path, config, small_classes):
  """In the test part, they are distractors; training repeats or drops them."""
  write(tmp_path, 10, 3)
  for label in (0, 4, 7):
    for path in sorted((tmp_path / f"kind {label:02}").iterdir())[1:]:
      path.unlink()
  splits = data.load(config(small_classes=small_classes))
  parts = (splits.train, splits.validation, splits.test)
  sizes = [size for part in parts for size in np.bincount(part.labels)]
  assert sorted(sizes) == 3 * [1] + 7 * [3]
  (tmp_path / "none").mkdir()
  message = r"class 'none' \(0\); it takes 1 to be a class\. .* the class\.$"
  with pytest.raises(InputError, match=message):
    data.load(config(small_classes=small_classes))
