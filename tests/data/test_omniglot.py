import logging
import os
import pathlib

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import prepared
from metric_learning.data.sets import omniglot
from metric_learning.errors import InputError
from tests.data import stand_ins


@pytest.fixture
def folder(tmp_path, monkeypatch):
  source = stand_ins.make("omniglot", tmp_path / "archives", monkeypatch)
  prepared.prepare("omniglot", str(tmp_path / "out"), str(source))
  return tmp_path / "out"


@pytest.fixture
def config(data_config):
  def make(folder, split="standard", **changes):
    changes["data_dir"] = str(folder)
    return data_config("omniglot", split, "open-set", **changes)

  return make


def alphabets(dataset):
  return {name[0] for name in dataset.class_names}


def drawers(dataset):
  """The drawer of each image: the column with ink in its first row."""
  return set((dataset.inputs[:, 0, :, 0].argmax(axis=1) + 1).tolist())


@pytest.mark.slow
def test_ink_is_bright_and_stands_with_its_character(folder, config):
  drawings = omniglot.read(config(folder))
  dataset = drawings.dataset
  assert dataset.inputs.shape == (400, 6, 20, 1)
  assert set(np.unique(dataset.inputs)) == {0, 255}
  ink = dataset.inputs[..., 0] > 0
  np.testing.assert_array_equal(ink[:, 0].argmax(axis=1) + 1, drawings.drawers)
  number = ink[:, 1:].reshape(400, -1).argmax(axis=1)
  names = [f"{'ABCDEFGHIJ'[n // 2]}/character{n % 2 + 1:02d}" for n in number]
  assert names == [dataset.class_names[label] for label in dataset.labels]
  known = [name[0] in "ABCDEF" for name in dataset.class_names]
  assert drawings.background.tolist() == known


@pytest.mark.slow
def test_standard_holds_background_alphabets_out(folder, config):
  seen = set()
  for seed in range(4):
    splits = data.load(config(folder, split_seed=seed))
    assert alphabets(splits.test) == set("GHIJ")
    assert alphabets(splits.train) | alphabets(splits.validation) == set(
      "ABCDEF"
    )
    assert len(alphabets(splits.validation)) == 1  # a fifth of six
    assert len(splits.test.inputs) == 160
    seen |= alphabets(splits.validation)
  assert len(seen) > 1


@pytest.mark.slow
def test_koch_divides_alphabets_and_drawers(folder, config):
  splits = data.load(config(folder, "koch"))
  parts = (splits.train, splits.validation, splits.test)
  assert [len(alphabets(part)) for part in parts] == [6, 2, 2]
  assert set().union(*map(alphabets, parts)) == set("ABCDEFGHIJ")
  assert [len(part.inputs) for part in parts] == [12 * 12, 4 * 4, 4 * 4]
  assert drawers(splits.train) == set(range(1, 13))
  assert drawers(splits.validation) == set(range(13, 17))
  assert drawers(splits.test) == set(range(17, 21))
  assert splits.train.pairs is None
  for part in parts[1:]:
    first, second = part.pairs.first, part.pairs.second
    assert len(first) == 10_000 and part.pairs.same.sum() == 5_000
    np.testing.assert_array_equal(
      part.labels[first] == part.labels[second], part.pairs.same
    )
  again = data.load(config(folder, "koch")).test.pairs
  np.testing.assert_array_equal(again.first, splits.test.pairs.first)
  # Each part has draws of its own.
  assert (splits.validation.pairs.first != again.first).any()


# So small, the stand-ins of some characters are equal.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*pixel for pixel")
def test_matching_mixes_alphabets_and_rotates_training(folder, config):
  with pytest.raises(InputError, match=r"\(6, 20\): rotations .* square"):
    data.load(config(folder, "matching"))
  splits = data.load(config(folder, "matching", image_size=(6, 6)))
  parts = (splits.train, splits.validation, splits.test)
  # 1,028, 172 and 423 of 1,623, in proportion of 20.
  assert [len(part.class_names) for part in parts] == [4 * 13, 2, 5]
  assert len(splits.train.inputs) == 4 * 13 * 20
  first = splits.train.inputs[splits.train.labels == 0]
  for turn, angle in enumerate(("", " 90", " 180", " 270")):
    label = 13 * turn
    name = splits.train.class_names[0] + angle
    assert splits.train.class_names[label] == name
    np.testing.assert_array_equal(
      splits.train.inputs[splits.train.labels == label],
      np.rot90(first, turn, axes=(1, 2)),
    )


# --- Arrays -----------------------------------------------------------------


@pytest.fixture
def arrays(tmp_path, monkeypatch):
  """The stand-in as arrays; A to D are not in the archive of names."""
  source = stand_ins.make("omniglot", tmp_path / "archives", monkeypatch)
  folder = tmp_path / "arrays"
  folder.mkdir()
  for part, count in (("background", 12), ("evaluation", 8)):
    paper = []
    for name, read in omniglot.archives.members(source / f"images_{part}.zip"):
      image = omniglot.archives.Example(name, "", read)
      # The True of the official arrays is 255, as Pillow makes it.
      pixels = omniglot.imaging.read_images([image])[0, ..., 0]
      paper.append(pixels.view(bool))
    np.savez(
      folder / f"images_{part}.npz",
      images=np.reshape(paper, (count, 20, 6, 20)),
      labels=np.arange(count),
    )
  named, _ = stand_ins.omniglot()
  small = {
    name.replace("images_background", "images_background_small1"): content
    for name, content in named["images_background.zip"].items()
    if "/E/" in name or "/F/" in name
  }
  stand_ins.write(folder / "images_background_small1.zip", small)
  rows = [
    f"{2 * a + c},{965 + 2 * a + c},{alphabet},character{c + 1:02d}"
    for a, alphabet in enumerate("GHIJ")
    for c in range(2)
  ]
  head = "npz_label,omniglot_id,alphabet,character"
  (folder / "evaluation_classes.csv").write_text("\n".join([head, *rows]))
  return folder


@pytest.mark.slow
def test_arrays_are_the_same_images(arrays, folder, config):
  one, two = omniglot.read(config(arrays)), omniglot.read(config(folder))
  np.testing.assert_array_equal(one.dataset.inputs, two.dataset.inputs)
  np.testing.assert_array_equal(one.dataset.labels, two.dataset.labels)
  np.testing.assert_array_equal(one.drawers, two.drawers)
  np.testing.assert_array_equal(one.background, two.background)
  assert one.dataset.class_names[8:] == two.dataset.class_names[8:]
  assert one.dataset.class_names[0] == "unnamed/0000"


def test_what_is_not_known_is_said(arrays, config, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("metric_learning"), "propagate", True)
  splits = data.load(config(arrays))
  assert "alphabet of 8 background characters is not known" in caplog.text
  assert len(splits.validation.class_names) == 2  # a fifth of 12 characters
  assert alphabets(splits.test) == set("GHIJ")
  caplog.clear()
  splits = data.load(config(arrays, "koch"))
  assert "6 alphabets are divided instead of 50" in caplog.text
  parts = (splits.train, splits.validation, splits.test)
  assert set().union(*map(alphabets, parts)) == set("EFGHIJ")


@pytest.mark.slow
def test_arrays_that_cannot_be_used(arrays, config):
  path = arrays / "images_background.npz"
  content = path.read_bytes()
  np.savez(path, images=np.array([{}], object))
  with pytest.raises(InputError, match=r"images_background\.npz.*allow_pickle"):
    data.load(config(arrays))
  np.savez(path, images=np.zeros((3, 20, 6, 20)))
  with pytest.raises(InputError, match=r"float64 \(3, 20, 6, 20\); it must be"):
    data.load(config(arrays))
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(InputError, match=r"images_background\.npz.*fetch it"):
    data.load(config(arrays))
  path.write_bytes(content)
  table = arrays / "evaluation_classes.csv"
  table.write_text("\n".join(table.read_text().splitlines()[:-1]))
  with pytest.raises(InputError, match=r"names 7 characters, .* holds 8"):
    data.load(config(arrays))


def test_real_drawings(config):
  folder = os.environ.get("METRIC_LEARNING_DATA", "")
  path = pathlib.Path(folder, "omniglot")
  if not folder or not (path / "images_background.npz").exists():
    pytest.skip("METRIC_LEARNING_DATA names no folder with omniglot arrays")
  drawings = omniglot.read(config(path, image_size=(14, 14)))
  dataset = drawings.dataset
  assert len(dataset.class_names) == len(set(dataset.class_names)) == 1623
  assert drawings.background.sum() == 964
  assert (np.bincount(dataset.labels) == 20).all()
  unnamed = [n for n in dataset.class_names if n.startswith("unnamed/")]
  assert len(unnamed) == 722
  splits = omniglot.standard(drawings, 0)
  assert len(splits.test.class_names) == 659
  assert len(splits.train.class_names) == 964 - 193
  parts = omniglot.matching(drawings, 0)
  assert len(parts.train.class_names) == 4 * 1028
  assert len(parts.validation.class_names) == 172
  assert len(parts.test.class_names) == 423
