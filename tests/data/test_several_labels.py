"""Items with several labels: reading, splits, batches, and refusals."""

import dataclasses
import types

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import base, duplicates
from metric_learning.data.samplers import SAMPLERS, make_batches
from metric_learning.data.sets import features, glyph_pairs, npz
from metric_learning.errors import InputError

COUNT = 120
NAMES = ("red", "green", "blue")


def stored(n=COUNT):
  """Features with the number of the item first; one or two of three labels."""
  labels = np.eye(3, dtype=np.int64)[np.arange(n) % 3]
  labels[::2] |= np.roll(labels[::2], 1, axis=1)
  vectors = np.stack([np.arange(n), np.arange(n) % 7], axis=1)
  return {"features": vectors.astype(np.float32), "labels": labels}


@pytest.fixture
def config(data_config, tmp_path):
  def make(split="images", protocol="closed-set", name="features", **changes):
    changes = {"data_dir": str(tmp_path / "mine.npz")} | changes
    return data_config(name, split, protocol, **changes)

  def save(**arrays):
    np.savez(tmp_path / "mine.npz", **arrays)
    return make()

  make.save = save
  return make


def items(part):
  return part.inputs[:, 0].astype(int).tolist()


def test_labels_and_names_are_read(config):
  dataset, _ = features.read(config.save(**stored()))
  assert dataset.has_several_labels
  assert dataset.class_names == ("0", "1", "2")
  assert dataset.labels.dtype == np.int32
  np.testing.assert_array_equal(dataset.labels, stored()["labels"])
  assert dataset.class_sizes.tolist() == stored()["labels"].sum(0).tolist()
  assert dataset.classes_of(0) == "'0' and '1'"
  named, _ = features.read(config.save(**stored(), class_names=np.array(NAMES)))
  assert named.class_names == NAMES
  images = {"images": np.zeros((COUNT, 2, 3), np.uint8)}
  config.save(**images, labels=stored()["labels"].astype(bool))
  of_images, _ = npz.read(config(name="npz"))
  np.testing.assert_array_equal(of_images.labels, dataset.labels)


def test_labels_are_in_the_identity():
  one = base.Dataset("x", stored()["features"], labels32(), NAMES)
  other = labels32()
  other[0] = other[0, ::-1]
  assert one.identity != dataclasses.replace(one, labels=other).identity
  again = base.Dataset("x", stored()["features"], labels32(), NAMES)
  assert one.identity == again.identity


def labels32():
  return stored()["labels"].astype(np.int32)


@pytest.mark.parametrize("folds", [1, 3])
def test_a_cut_by_items_shares_none(config, folds):
  config.save(**stored())
  splits = data.load(config(validation_folds=folds, validation_fold=folds - 1))
  parts = [items(p) for p in (splits.train, splits.validation, splits.test)]
  assert sorted(i for part in parts for i in part) == list(range(COUNT))
  assert len(parts[2]) == COUNT // 5
  assert len(parts[1]) == (COUNT // 5 if folds == 1 else 4 * COUNT // 15)
  for part in (splits.train, splits.validation, splits.test):
    np.testing.assert_array_equal(part.labels, labels32()[items(part)])
    assert part.class_names == ("0", "1", "2")
  # Who is in which part does not depend on the labels.
  config.save(**(stored() | {"labels": stored()["labels"][:, [1, 2, 0]]}))
  other = data.load(config(validation_folds=folds, validation_fold=folds - 1))
  for name, own in zip(base.PARTS, parts, strict=True):
    assert items(getattr(other, name)) == own
  config.save(**stored())
  both = data.load(config(train_on="train+validation"))
  first = data.load(config())
  assert items(both.train) == items(first.train) + items(first.validation)
  np.testing.assert_array_equal(
    both.train.labels, labels32()[items(both.train)]
  )


def test_parts_may_be_given(config):
  number = np.arange(COUNT) % 4
  names = np.array(["train", "train", "query", "gallery"])
  config.save(**stored(), split=names[number])
  splits = data.load(config("official"))
  assert sorted(items(splits.test)) == list(range(2, COUNT, 4))
  np.testing.assert_array_equal(
    splits.gallery.labels, labels32()[items(splits.gallery)]
  )
  # A tenth of all training items validates.
  assert len(splits.validation.labels) == 6
  red = stored()["labels"][:, 0] == 1
  config.save(**stored(), split=np.where(red, "train", "test"))
  with pytest.raises(InputError, match="test has no image of the class '0'"):
    data.load(config("official"))


@pytest.mark.parametrize("split", ["classes", "half", "folds", "official"])
def test_classes_cannot_be_parted(config, split):
  config.save(**stored(), split=np.array(["train", "test"] * (COUNT // 2)))
  with pytest.raises(InputError, match=r"several labels.*would still share"):
    data.load(config(split, "open-set"))


def test_any_part_of_classes_is_refused():
  dataset = base.Dataset("x", stored()["features"], labels32(), NAMES)
  with pytest.raises(InputError, match=r"several labels.*data.split='images'"):
    base.subset(dataset, [0, 1])


def with_label(row, value):
  labels = stored()["labels"]
  labels[row] = value
  return {"labels": labels}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (with_label([4, 7], 0), r"mine.npz, `labels`: 2 of 120 .*: item 4, 7\."),
    (with_label(5, 3), "`labels`: 3 in the row of item 5"),
    ({"labels": stored()["labels"] / 1}, "`labels`: float64.*integers 0 and 1"),
    ({"class_names": np.array(["a", "b"])}, "3 columns, but there are 2"),
    ({"groups": np.arange(COUNT)}, "leave `groups` out"),
    (
      {"labels": np.column_stack([stored()["labels"], np.arange(COUNT) == 1])},
      r"class '3' \(1\)",
    ),
    ({"labels": stored()["labels"][:7]}, r"has the shape \(7,\)"),
  ],
)
def test_labels_that_cannot_be_used(config, changes, message):
  with pytest.raises(InputError, match=message):
    data.load(config.save(**(stored() | changes)))


def test_a_data_set_checks_its_labels():
  vectors = stored()["features"]
  bare = labels32()
  bare[3] = 0
  with pytest.raises(InputError, match=r"x, labels: 1 of 120 .*: item 3\."):
    base.Dataset("x", vectors, bare, NAMES)
  with pytest.raises(InputError, match="3 columns, and there are 2 class nam"):
    base.Dataset("x", vectors, labels32(), NAMES[:2])
  with pytest.raises(InputError, match="leave the groups out"):
    groups = np.zeros(COUNT, np.int32)
    base.Dataset("x", vectors, labels32(), NAMES, groups=groups)


def test_a_part_without_an_answer_is_refused(config):
  """No two items of the validation part share a label."""
  arrays = stored(24)
  parts = np.array(["train"] * 9 + ["test"] * 12 + ["validation"] * 3)
  arrays["labels"][-3:] = np.eye(3)
  config.save(**arrays, split=parts)
  with pytest.raises(
    InputError, match=r"'validation' cannot be scored.*one im"
  ):
    data.load(config("official"))


def test_a_duplicate_is_named_with_its_labels():
  image = np.zeros((1, 2, 2, 1), np.uint8)
  one = base.Dataset("x", image, labels32()[:1], NAMES)
  other = base.Dataset("x", image + np.uint8(1), labels32()[:1], NAMES)
  splits = base.Splits(one, other, one, "closed-set")
  with pytest.warns(UserWarning, match=r"image 0 \('red' and 'green'\) is tr"):
    duplicates.warn_of_duplicates(splits)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_only_a_sampler_of_items_draws_them(sampler):
  dataset = base.Dataset("x", stored()["features"], labels32(), NAMES)
  config = types.SimpleNamespace(
    sampler=sampler,
    classes_per_batch=8,
    images_per_class=1,
    superclasses_per_batch=1,
    num_pairs=20,
    num_triplets=20,
  )
  if sampler == "uniform":
    assert len(set(make_batches(dataset, config, 0)(0).indices.tolist())) == 8
    return
  message = f"several labels, and the sampler '{sampler}'.*sampler='uniform'"
  with pytest.raises(InputError, match=message):
    make_batches(dataset, config, 0)


def bars(letter, font):
  """Bars: their number gives the letter, and their thickness the font."""
  edges = []
  for number in range(letter + 1):
    x, width = -0.5 + 0.25 * number, 0.04 * (font + 1)
    corners = np.array(
      [[x, -0.5], [x, 0.5], [x + width, 0.5], [x + width, -0.5]]
    )
    edges.append(np.stack([corners, np.roll(corners, -1, axis=0)], axis=1))
  return np.concatenate(edges)


def test_pairs_of_letters_have_both_labels_and_fonts_of_their_part(monkeypatch):
  monkeypatch.setattr(glyph_pairs.glyphs, "jitter", lambda edges, key: edges)
  outlines = {(k, f): bars(k, f) for k in range(4) for f in range(6)}
  pictures = {
    glyph_pairs.glyphs.rasterize(0.7 * edges, 24).tobytes(): place
    for place, edges in outlines.items()
  }
  assert len(pictures) == 24
  sizes = ((30, 3), (20, 2), (10, 1))
  parts = glyph_pairs.draw_parts(outlines, "abcd", sizes, 0)
  seen = set()
  for part, (count, fonts) in zip(parts, sizes, strict=True):
    assert part.inputs.shape == (count, 24, 48, 1)
    of_part = set()
    for image, row in zip(part.inputs, part.labels, strict=True):
      halves = image[:, :24], image[:, 24:]
      (a, font), (b, other) = (pictures[half.tobytes()] for half in halves)
      assert a != b and np.flatnonzero(row).tolist() == sorted({a, b})
      of_part |= {font, other}
    assert len(of_part) == fonts and not of_part & seen
    seen |= of_part


def test_pairs_of_letters_are_jittered_one_by_one_and_seeded():
  outlines = dict.fromkeys([(0, 0), (1, 0)], bars(1, 0))
  one, again, other = (
    glyph_pairs.draw(outlines, "ab", [0], 8, [seed]) for seed in (0, 0, 1)
  )
  assert one.identity == again.identity != other.identity
  halves = np.concatenate([one.inputs[:, :, :24], one.inputs[:, :, 24:]])
  assert len({half.tobytes() for half in halves}) == 16
