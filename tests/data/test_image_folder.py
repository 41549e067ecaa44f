import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from metric_learning.data import image_folder
from metric_learning.errors import InputError


def write(folder, classes, images, mode="L", size=(4, 3), first=0):
  """Images whose pixels are all 16 × class + number, from `first` on."""
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
  assert dataset.images.shape == (15, 4, 3, 1)
  assert (dataset.images[:, 0, 0, 0] == 16 * dataset.labels + numbers).all()


def test_jpeg_is_found_and_other_files_are_passed_over(tmp_path, config):
  write(tmp_path, 2, 2)
  for name in ("a.jpg", "b.JPEG"):
    Image.new("L", (3, 4), 50).save(tmp_path / "kind 00" / name)
  (tmp_path / "kind 00" / "notes.txt").write_text("not an image")
  (tmp_path / "kind 00" / "._00.png").write_text("not an image")
  (tmp_path / ".thumbnails").mkdir()
  (tmp_path / "README").write_text("not a class")
  dataset = image_folder.read(config())
  assert dataset.class_names == ("kind 00", "kind 01")
  assert np.bincount(dataset.labels).tolist() == [4, 2]


def test_color_has_three_channels(tmp_path, config):
  write(tmp_path, 8, 2, mode="RGB")
  assert data.load(config()).train.images.shape[1:] == (4, 3, 3)


def test_splits_obey_their_protocols(tmp_path, config):
  write(tmp_path, 10, 10)
  splits = data.load(config())
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.class_names) for part in parts] == [5, 2, 3]
  splits = data.load(config("images", "closed-set"))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(part.images) for part in parts] == [60, 20, 20]
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
  assert splits.train.images.shape == (8, 5, 2, 1)


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
