import numpy as np
import pytest

from metric_learning import data
from metric_learning.data.sets import npz
from metric_learning.errors import InputError


def arrays(classes, images):
  """Images with pixels (class, number), and their labels, shuffled."""
  labels = np.repeat(np.arange(classes), images)
  numbers = np.tile(np.arange(images), classes)
  order = np.random.default_rng(0).permutation(len(labels))
  pixels = np.stack([labels, numbers], axis=1).astype(np.uint8)
  return {"images": pixels[order, None, :], "labels": labels[order]}


@pytest.fixture
def config(data_config, tmp_path):
  def make(split="classes", protocol="open-set", **changes):
    changes = {"data_dir": str(tmp_path / "mine.npz")} | changes
    return data_config("npz", split, protocol, **changes)

  def save(**arrays):
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    return make

  make.save = save
  return make


def kinds(part):
  """The class of each image, read from its pixels."""
  return part.inputs[:, 0, 0, 0].tolist()


@pytest.mark.parametrize(
  ("split", "protocol", "count"),
  [
    ("classes", "open-set", 3),
    ("half", "open-set", 5),
    ("folds", "open-set", 2),
    ("images", "closed-set", 10),
  ],
)
def test_splits(config, split, protocol, count):
  config.save(**arrays(10, 10))
  test = data.load(config(split, protocol)).test
  assert len(test.class_names) == count
  assert kinds(test) == [int(test.class_names[label]) for label in test.labels]


def test_strings_and_names(config):
  stored = arrays(8, 3)
  names = np.array([*"abcdefgh"])
  for changes in (
    {"labels": names[stored["labels"]]},
    {"class_names": names},
  ):
    config.save(**(stored | changes))
    dataset, _ = npz.read(config())
    assert dataset.class_names == tuple("abcdefgh")
    assert kinds(dataset) == dataset.labels.tolist()


def test_color_images_keep_their_channels(config):
  stored = arrays(8, 3)
  colored = np.stack(3 * [stored["images"]], axis=-1) + np.uint8([0, 1, 2])
  config.save(**(stored | {"images": colored}))
  np.testing.assert_array_equal(npz.read(config())[0].inputs, colored)


def test_official_split_without_validation(config):
  stored = arrays(10, 10)
  part = np.where(stored["images"][:, 0, 1] < 8, "train", "test")
  config.save(**stored, split=part)
  splits = data.load(config("official", "closed-set"))
  assert sorted(splits.test.inputs[:, 0, 1, 0].tolist()) == 10 * [8] + 10 * [9]
  assert np.bincount(splits.validation.labels).tolist() == [2] * 10


def test_parts_by_fold(config):
  stored = arrays(10, 3)
  by_class = np.full((10, 2), "train", "U10")
  by_class[:2, 0] = by_class[5:7, 1] = "test"
  by_class[2:4, 0] = by_class[0:2, 1] = "validation"
  config.save(**stored, split=by_class[stored["labels"]])
  for fold, classes in enumerate(("01", "56")):
    test = data.load(config("official", fold=fold)).test
    assert test.class_names == tuple(classes)
  with pytest.raises(InputError, match="the folds are 0 to 1"):
    data.load(config("official", fold=2))


def test_objects_are_refused_and_not_run(config, tmp_path):
  class Attack:
    def __reduce__(self):
      return (tmp_path.joinpath("ran").touch, ())

  stored = arrays(8, 3)
  stored["class_names"] = np.array([Attack()] * 8, object)
  config.save(**stored)
  with pytest.raises(InputError, match=r"`class_names` holds Python objects"):
    data.load(config())
  assert not (tmp_path / "ran").exists()


GOOD = arrays(8, 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"labels": GOOD["labels"][1:]}, r"24 items, but `labels` .*\(23,\)"),
    ({"labels": GOOD["labels"][:, None]}, r"`labels` has the shape \(24, 1\)"),
    ({"split": np.array(["test"])}, r"`split` has the shape \(1,\)"),
    ({"labels": GOOD["labels"] / 2}, "`labels` is float64; it takes integers"),
    ({"images": GOOD["images"] / 255}, "`images` is float64.*it takes uint8"),
    ({"images": GOOD["images"][:, 0]}, r"`images` is uint8 \(24, 2\)"),
    ({"images": GOOD["images"][:, :0]}, r"`images` is uint8 \(24, 0, 2\)"),
    ({"images": GOOD["images"].reshape(24, 1, 1, 2)}, "channels"),
    ({"class_names": np.array([*"abcdefg"])}, "integers from 0 to 6"),
    ({"class_names": np.array([*"abcdefghi"])}, r"'i' \(0\)"),
    ({"labels": np.where(GOOD["labels"] == 5, 6, GOOD["labels"])}, "7 classes"),
    ({"labels": np.arange(24)}, r"'0' \(1\).* form a pair"),
  ],
)
def test_arrays_that_cannot_be_used(config, changes, message):
  config.save(**(GOOD | changes))
  with pytest.raises(InputError, match=message):
    data.load(config())


def test_missing_arrays_are_named(config):
  config.save(images=GOOD["images"], label=GOOD["labels"])
  with pytest.raises(InputError, match="lacks the array `labels`; it has"):
    data.load(config())
  config.save(**GOOD)
  with pytest.raises(InputError, match="has no array `split`"):
    data.load(config("official"))


@pytest.mark.parametrize("damage", ["short", "a web page", "flipped", "npy"])
def test_damaged_file_is_named(config, tmp_path, damage):
  config.save(**GOOD)
  path = tmp_path / "mine.npz"
  whole = path.read_bytes()
  if damage == "npy":
    np.save(tmp_path / "images.npy", GOOD["images"])
    whole = (tmp_path / "images.npy").read_bytes()
  path.write_bytes(
    {
      "short": whole[:-30],
      "a web page": b"<html>not found</html>",
      "flipped": whole[:90] + bytes(8) + whole[98:],
      "npy": whole,
    }[damage]
  )
  with pytest.raises(InputError, match=r"mine\.npz.*fetch it again"):
    data.load(config())
  with pytest.raises(InputError, match="is a folder, not an npz file"):
    data.load(config(data_dir=str(tmp_path)))


def test_bomb_is_refused_before_it_is_read(config, monkeypatch):
  config.save(**GOOD)
  monkeypatch.setattr("metric_learning.data.files.MAX_UNPACKED", 100)
  with pytest.raises(InputError, match=r"mine\.npz unpacks to over 100 bytes"):
    data.load(config())
  monkeypatch.setenv("METRIC_LEARNING_NO_SIZE_LIMIT", "1")
  assert len(data.load(config()).test.class_names) == 2


def test_two_classes_of_one_name_are_refused(config):
  stored = arrays(8, 3)
  config.save(**stored, class_names=np.array(list("abcbdefa")))
  message = "npz: several classes have the name 'a', 'b'; give each class"
  with pytest.raises(InputError, match=message):
    data.load(config())


def test_queries_and_a_gallery_may_be_given(config):
  stored = arrays(8, 3)
  labels = np.unique(stored["labels"], return_inverse=True)[1]
  number = np.arange(len(labels)) % 3
  tested = np.where(number < 1, "query", "gallery")
  config.save(**stored, split=np.where(labels < 5, "train", tested))
  splits = data.load(config("official"))
  assert len(splits.test.labels) == 3 and len(splits.gallery.labels) == 6
  assert splits.test.class_names == splits.gallery.class_names


@pytest.mark.parametrize("kind", [int, str])
def test_groups_follow_their_images(config, kind):
  """In every split and fold, the pixels of an image give its group."""
  stored = arrays(12, 9)
  group = 100 - 7 * stored["images"][:, 0, 0] - stored["images"][:, 0, 1] % 3
  config.save(**stored, groups=group.astype(kind))
  number = {value: i for i, value in enumerate(np.unique(group.astype(kind)))}
  for splits in (
    data.load(config()),
    data.load(config("folds", validation_folds=3, validation_fold=1)),
    data.load(config("images", "closed-set", validation_folds=2)),
    data.load(config(train_on="train+validation")),
  ):
    for part in (splits.train, splits.validation, splits.test):
      first, second = part.inputs[:, 0, 0, 0], part.inputs[:, 0, 1, 0]
      wanted = (100 - 7 * first - second % 3).astype(kind)
      assert part.groups.tolist() == [number[value] for value in wanted]
  config.save(**stored)
  assert data.load(config()).test.groups is None


def test_groups_that_cannot_be_used(config):
  stored = arrays(8, 3)
  config.save(**stored, groups=np.zeros(24))
  with pytest.raises(InputError, match="`groups` is float64; it takes integ"):
    data.load(config())
  config.save(**stored, groups=np.zeros(23, int))
  with pytest.raises(InputError, match=r"24 items, but `groups` has .*\(23,\)"):
    data.load(config())
  config.save(**stored, groups=stored["labels"])
  with pytest.raises(InputError, match="have images of one group each"):
    data.load(config())
