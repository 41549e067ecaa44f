"""Features of a trunk: the contents of the file, and recovery after a kill."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from metric_learning import data, models
from metric_learning.data.provenance import read_provenance
from metric_learning.errors import InputError
from metric_learning.inference import features
from metric_learning.models.weights import digest_of
from metric_learning.specs import as_numbers
from metric_learning.training import base_config, override, run_files
from tests.data import stand_ins
from tests.normed import TinyTrunk


@pytest.fixture
def weights(tmp_path, monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny_trunk", TinyTrunk)
  monkeypatch.setattr(features, "_BLOCK", 8)
  rng = np.random.default_rng(0)
  names = ("weight", "bias", "running_mean", "running_var")
  tensors = {f"bn.{name}": rng.uniform(0.5, 1, 4) for name in names}
  tensors["conv.weight"] = rng.normal(size=(4, 3, 2, 2))
  np.savez(tmp_path / "tiny.npz", **tensors)
  return tmp_path / "tiny.npz"


@pytest.fixture
def birds(weights, tmp_path):
  """A config of 30 tiny birds that stay on disk."""
  for path, content in stand_ins.cub100().items():
    (tmp_path / "birds" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "birds" / path).write_bytes(content)
  return override(
    base_config(),
    {
      "data.name": "cub100",
      "data.data_dir": str(tmp_path / "birds"),
      "data.split": "official",
      "data.stream": True,
      "model.name": "tiny_trunk",
      "model.weights": str(weights),
    },
  )


def embedded(config, images):
  """The network's embeddings of images, computed at once."""
  spec = data.load(config.data).train.input_spec
  options = {"weights": config.model.weights, "head": "none"}
  model = models.create(
    "tiny_trunk", input_spec=spec, embedding_dim=4, **options
  )
  params, stats = model.init(jax.random.key(config.seed))
  seen = model.preprocess(as_numbers(np.asarray(images)))
  return np.asarray(model.apply(params, stats, seen, train=False)[0])


def loaded(path, **changes):
  """The parts of the data set `features` that a file gives."""
  changes = {"name": "features", "data_dir": str(path)} | changes
  section = {f"data.{name}": value for name, value in changes.items()}
  config = override(base_config(), {"data.split": "official", **section})
  return data.load(config.data)


def test_heads_get_the_parts_of_the_set_and_its_provenance(birds, tmp_path):
  path = tmp_path / "birds.npz"
  made_by = features.write_features(birds, path, batch_size=3)
  assert not Path(f"{path}.blocks").exists()
  images, found = data.load(birds.data), loaded(path)
  for part in ("train", "validation", "test"):
    before, after = getattr(images, part), getattr(found, part)
    assert after.class_names == before.class_names
    np.testing.assert_array_equal(after.labels, before.labels)
    expected = embedded(birds, before.inputs)
    np.testing.assert_allclose(after.inputs, expected, rtol=1e-5, atol=1e-6)
    assert np.std(expected, axis=0).max() > 0.01  # the images differ
  assert found.identity["provenance"] == str(made_by)
  for words in (
    "cub100 (",
    "6×5",
    "tiny_trunk",
    digest_of(tmp_path / "tiny.npz"),
  ):
    assert words in str(made_by)
  text = str(run_files.read_arrays(path)["provenance"])
  assert json.loads(text) == made_by._asdict()
  assert made_by.weights == "tiny.npz" and str(tmp_path) not in text


def test_a_killed_call_goes_on(birds, tmp_path, monkeypatch):
  whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
  features.write_features(birds, whole)
  save, written = np.savez, []

  def killed(file, features, **options):
    if len(written) == 3:
      raise KeyboardInterrupt
    written.append(len(features))
    save(file, features=features, **options)

  monkeypatch.setattr(np, "savez", killed)
  with pytest.raises(KeyboardInterrupt):
    features.write_features(birds, cut)
  assert not cut.exists()
  monkeypatch.setattr(np, "savez", save)
  blocks = Path(f"{cut}.blocks")
  kept = sorted(blocks.glob("*.npz"))
  assert len(kept) == 3
  content = bytearray(kept[1].read_bytes())
  content[len(content) // 2] ^= 1
  kept[1].write_bytes(content)
  np.savez(kept[2], features=np.zeros((2, 4), np.float32))
  with pytest.raises(InputError, match=r"holds a part of other .*seed \(0 the"):
    features.write_features(override(birds, {"seed": 1}), cut)
  read, opened = features._item, []

  def counted(inputs, index):
    opened.append(index)
    return read(inputs, index)

  monkeypatch.setattr(features, "_item", counted)
  features.write_features(birds, cut)
  assert len(opened) == 30 - written[0]
  assert not blocks.exists()
  blocks.mkdir()  # As if killed while it deleted them.
  features.write_features(birds, cut)
  assert not blocks.exists()
  one, other = map(run_files.read_arrays, (whole, cut))
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])
  # What is whole is left as it is, and another is not written over it.
  opened.clear()
  features.write_features(birds, cut)
  assert not opened
  with pytest.raises(InputError, match=r"holds other .*views \(0 there, 1"):
    augmented = override(birds, {"augment.flip": True})
    features.write_features(augmented, cut, views=1)


def test_views_are_of_training_items_and_do_not_answer_each_other(
  birds, tmp_path
):
  config = override(birds, {"augment.brightness": 0.5})
  files = [tmp_path / name for name in ("a.npz", "b.npz")]
  for path, batch_size in zip(files, (4, 16), strict=True):
    features.write_features(config, path, views=2, batch_size=batch_size)
  found, again = map(run_files.read_arrays, files)
  np.testing.assert_allclose(
    found["features"], again["features"], rtol=1e-5, atol=1e-6
  )
  images = data.load(config.data).train.inputs
  train, items = len(images), 30
  assert len(found["labels"]) == items + 2 * train
  np.testing.assert_allclose(
    found["features"][:train], embedded(config, images), rtol=1e-5, atol=1e-6
  )
  views = found["features"][: 3 * train].reshape(3, train, -1)
  gaps = [np.abs(views[i] - views[j]).max() for i, j in ((0, 1), (1, 2))]
  assert min(gaps) > 1e-3
  numbers = found["groups"][: 3 * train].reshape(3, train)
  assert (numbers == numbers[0]).all()
  assert len({*found["groups"].tolist()}) == items
  assert len(loaded(files[0]).train.labels) == 3 * train


def test_parts_of_all_folds_are_kept(birds, tmp_path):
  config, path = override(birds, {"data.split": "folds"}), tmp_path / "out.npz"
  made_by = features.write_features(config, path, folds=5)
  assert made_by.split == ["folds", 0, [0, 1, 2, 3, 4]]
  for fold in range(5):
    before = data.load(override(config, {"data.fold": fold}).data)
    after = loaded(path, fold=fold)
    for part in ("train", "validation", "test"):
      one, other = getattr(before, part), getattr(after, part)
      assert {*one.class_names} == {*other.class_names}
    expected = embedded(config, before.test.inputs)
    for name in before.test.class_names:
      rows, others = (
        np.flatnonzero(test.labels == test.class_names.index(name))
        for test in (before.test, after.test)
      )
      np.testing.assert_allclose(
        after.test.inputs[others], expected[rows], rtol=1e-5, atol=1e-6
      )


def test_queries_and_gallery_keep_their_parts_and_groups(weights, tmp_path):
  images = np.random.default_rng(1).integers(0, 256, (64, 4, 4), np.uint8)
  np.savez(
    tmp_path / "own.npz",
    images=images,
    labels=np.repeat(np.arange(16), 4),
    split=["train"] * 32 + ["validation"] * 16 + ["query", "gallery"] * 8,
    groups=np.tile([3, 3, 7, 7], 16),
  )
  config = override(
    base_config(),
    {
      "data.name": "npz",
      "data.data_dir": str(tmp_path / "own.npz"),
      "data.split": "official",
      "model.name": "tiny_trunk",
    },
  )
  features.write_features(config, tmp_path / "out.npz")
  before, after = data.load(config.data), loaded(tmp_path / "out.npz")
  assert "untrained, seed 0" in after.identity["provenance"]
  for part in ("train", "validation", "test", "gallery"):
    one, other = getattr(before, part), getattr(after, part)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.class_names == other.class_names
    np.testing.assert_array_equal(one.groups, other.groups)
  flip = override(config, {"augment.flip": True})
  with pytest.raises(InputError, match="marked by groups: set --views=0"):
    features.write_features(flip, tmp_path / "views.npz", views=1)


def test_the_classes_of_a_closed_set_are_the_same_in_all_parts(
  weights, tmp_path, monkeypatch
):
  monkeypatch.setattr(features, "_BLOCK", 1024)
  own = {"data.name": "digits", "data.split": "images"}
  own |= {"data.protocol": "closed-set", "model.name": "tiny_trunk"}
  config, path = override(base_config(), own), tmp_path / "digits.npz"
  features.write_features(config, path, batch_size=1024)
  found, before = loaded(path, protocol="closed-set"), data.load(config.data)
  assert found.test.class_names == tuple("0123456789")
  np.testing.assert_array_equal(found.test.labels, before.test.labels)


@pytest.mark.parametrize(
  ("changes", "options", "said"),
  [
    ({"model.name": "conv3"}, {}, r"conv3 has no option head.*resnet18"),
    ({}, {"views": 1}, r"views=1, but without augmentation .*brightness"),
    ({}, {"views": -1}, "views=-1"),
    ({}, {"folds": 2}, "fold 1 of cub100, split 'official': the folds are 0"),
    (
      {"augment.flip": True, "data.split": "folds"},
      {"folds": 2, "views": 1},
      "--folds=2 .*and --views=0",
    ),
    ({"data.train_on": "train+validation"}, {}, "a choice for heads"),
    ({"data.split": "view1"}, {}, "split of cub100 'view1'"),
  ],
)
def test_what_cannot_be_embedded_is_refused(
  birds, tmp_path, changes, options, said
):
  if changes.get("model.name"):
    changes = {**changes, "model.weights": None}
  with pytest.raises(InputError, match=said):
    features.write_features(
      override(birds, changes), tmp_path / "out.npz", **options
    )
  assert not list(tmp_path.glob("out.npz*"))


def test_an_image_that_cannot_be_read_is_named(birds, tmp_path):
  splits = data.load(birds.data)
  path = splits.test.inputs.paths[2]
  whole = path.read_bytes()
  path.write_bytes(whole[:-40])
  with pytest.raises(InputError, match=rf"{path.parent.name}/{path.name}"):
    features.write_features(birds, tmp_path / "out.npz")


def test_another_provenance_is_refused():
  with pytest.raises(InputError, match=r"a\.npz: `provenance` is not the JSON"):
    read_provenance(Path("a.npz"), np.array("by hand"))
  with pytest.raises(InputError, match=r"unexpected keyword"):
    read_provenance(Path("a.npz"), np.array('{"by": "hand"}'))
