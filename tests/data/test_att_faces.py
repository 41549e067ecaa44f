import os
import pathlib
import zipfile

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import att_faces
from metric_learning.errors import InputError

HEIGHT, WIDTH = 8, 6


def pgm(subject, number):
  """The first pixel identifies the person, and the others the image."""
  pixels = bytes([subject]) + bytes([number]) * (HEIGHT * WIDTH - 1)
  return b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels


IMAGES = {
  f"s{subject}/{number}.pgm": pgm(subject, number)
  for subject in range(1, 41)
  for number in range(1, 11)
}


def write_zip(path, images, prefix=""):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("README", "about the faces")
    for name, content in images.items():
      archive.writestr(prefix + name, content)
  return path


def write_folder(path, images):
  for name, content in images.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(content)
  return path


@pytest.fixture(scope="module")
def faces_zip(tmp_path_factory):
  return write_zip(tmp_path_factory.mktemp("faces") / "att_faces.zip", IMAGES)


@pytest.fixture
def config(data_config, faces_zip):
  def make(split="folds", **changes):
    changes = {"data_dir": str(faces_zip)} | changes
    return data_config("att_faces", split, "open-set", **changes)

  return make


def names_of(splits):
  parts = (splits.train, splits.validation, splits.test)
  return [part.class_names for part in parts]


@pytest.mark.slow
def test_all_layouts_give_the_same_images(tmp_path, config, faces_zip):
  plain = write_folder(tmp_path / "plain", IMAGES)
  nested = write_zip(tmp_path / "nested.zip", IMAGES, prefix="orl_faces/")
  for place in (faces_zip, faces_zip.parent, plain, tmp_path, nested):
    dataset = att_faces.read(config(data_dir=str(place)))
    assert dataset.inputs.shape == (400, HEIGHT, WIDTH, 1)
    shown = [f"s{subject}" for subject in dataset.inputs[:, 0, 0, 0]]
    assert shown == [dataset.class_names[label] for label in dataset.labels]
    numbers = dataset.inputs[:, 1, 1, 0].reshape(40, 10)
    assert (numbers == np.arange(1, 11)).all()


@pytest.mark.slow
def test_folds_test_each_subject_once(config):
  tested = []
  for fold in range(8):
    splits = data.load(config(fold=fold))
    train, validation, test = names_of(splits)
    assert test == tuple(f"s{5 * fold + i}" for i in range(1, 6))
    assert (len(train), len(validation)) == (30, 5)
    assert len({*train, *validation, *test}) == 40
    assert len(splits.test.inputs) == 50
    tested += test
  assert tested == [f"s{i}" for i in range(1, 41)]


@pytest.mark.slow
def test_validation_subjects_depend_on_seed_and_fold(config):
  chosen = {
    names_of(data.load(config(fold=fold, split_seed=seed)))[1]
    for fold in (0, 7)
    for seed in (0, 1)
  }
  again = names_of(data.load(config(fold=7, split_seed=1)))[1]
  assert len(chosen) == 4
  assert again in chosen


def test_chopra_2005_tests_the_last_five(config):
  train, validation, test = names_of(data.load(config("chopra2005")))
  assert test == ("s36", "s37", "s38", "s39", "s40")
  assert (len(train), len(validation)) == (30, 5)


def test_fold_out_of_range(config):
  with pytest.raises(InputError, match=r"fold 8 .* 0 to 7"):
    data.load(config(fold=8))
  with pytest.raises(InputError, match=r"fold 1 .* 0 only"):
    data.load(config("chopra2005", fold=1))


def test_data_dir_that_is_not_set_or_not_there(config, tmp_path):
  with pytest.raises(InputError, match=r"needs data_dir.*att_faces\.zip"):
    data.load(config(data_dir=""))
  with pytest.raises(InputError, match=r"nowhere' does not exist"):
    data.load(config(data_dir=str(tmp_path / "nowhere")))


def test_empty_folder_lacks_all_images(config, tmp_path):
  with pytest.raises(InputError, match=r"lacks 400 of the 400 .*s1/1\.pgm"):
    data.load(config(data_dir=str(tmp_path)))


def test_missing_subjects_are_named(config, tmp_path):
  some = {name: IMAGES[name] for name in IMAGES if "s39/" not in name}
  path = write_zip(tmp_path / "some.zip", some)
  with pytest.raises(InputError, match=r"some\.zip/ lacks 10 .*s39/1\.pgm"):
    data.load(config(data_dir=str(path)))


def test_damaged_archive_is_named(config, faces_zip, tmp_path):
  content = faces_zip.read_bytes()
  path = tmp_path / "bad.zip"
  start = content.index(pgm(7, 3))
  flipped = content[:start] + b"X" + content[start + 1 :]
  for damaged in (b"", content[:-1000], content[: len(content) // 2]):
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"bad\.zip.*checksum.*fetch it again"):
      data.load(config(data_dir=str(path)))
  path.write_bytes(flipped)
  with pytest.raises(InputError, match=r"bad\.zip/s7/3\.pgm.*fetch it again"):
    data.load(config(data_dir=str(path)))


@pytest.fixture
def real_faces():
  folder = os.environ.get("METRIC_LEARNING_DATA", "")
  path = pathlib.Path(folder, "att_faces.zip")
  if not folder or not path.exists():
    pytest.skip("METRIC_LEARNING_DATA names no folder with att_faces.zip")
  return str(path)


def test_real_faces(config, real_faces):
  dataset = att_faces.read(config(data_dir=real_faces))
  assert dataset.inputs.shape == (400, 112, 92, 1)
  assert len({image.tobytes() for image in dataset.inputs}) == 400
  small = data.load(config(data_dir=real_faces, image_size=(56, 46))).test
  exact = dataset.inputs[:50].reshape(50, 56, 2, 46, 2).mean(axis=(2, 4))
  np.testing.assert_allclose(small.inputs[..., 0], exact, atol=0.5)
  # Faces of one person are nearer than faces of two.
  flat = small.inputs.reshape(50, -1).astype(float)
  distances = np.linalg.norm(flat[:, None] - flat, axis=2)
  same = small.labels[:, None] == small.labels
  assert distances[same].sum() / (same.sum() - 50) < distances[~same].mean()
