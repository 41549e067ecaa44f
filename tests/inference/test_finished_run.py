"""A finished run embeds as in training, compares, searches and verifies."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from metric_learning import InputError, data, inference
from metric_learning.training import run_files, train
from metric_learning.training.config import override
from tests.studies import change
from tests.tiny import tiny_config

CONFIG = tiny_config(
  loss__name="contrastive",
  metric__name="l1",
  train__steps=4,
  train__eval_every=2,
  train__save_every=2,
)


@pytest.fixture(scope="module")
def splits():
  return data.load(CONFIG.data)


@pytest.fixture(scope="module")
def folder(splits, tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "digits"
  train(CONFIG, folder, splits=splits)
  return folder


@pytest.fixture(scope="module")
def run(folder):
  return inference.load(folder)


@pytest.fixture(scope="module")
def kept(folder):
  """The embeddings of the selected checkpoint, as training wrote them."""
  for name in (run_files.SELECTED_EMBEDDINGS, run_files.EMBEDDINGS):
    if (folder / name).exists():
      return run_files.read_arrays(folder / name)


@pytest.fixture
def photographs(splits, tmp_path):
  """Three class folders of four images each, as files."""
  for label in range(3):
    members = np.flatnonzero(splits.test.labels == label)[:4]
    (tmp_path / "photographs" / f"digit {label}").mkdir(parents=True)
    for number, index in enumerate(members):
      pixels = Image.fromarray(splits.test.inputs[index, :, :, 0])
      pixels.save(tmp_path / "photographs" / f"digit {label}" / f"{number}.png")
  return tmp_path / "photographs"


def assert_close(one, other):
  np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def exact_l1(points, others):
  return np.abs(points[:, None].astype(np.float64) - others).sum(-1)


def test_embeds_as_training_did(run, kept, splits):
  expected = kept["test_embeddings"]
  np.testing.assert_array_equal(run.embed(splits.test), expected)
  np.testing.assert_array_equal(run.embed(splits.test.inputs), expected)
  assert_close(run.embed(splits.test.inputs[:, :, :, 0]), expected)
  for size in (1, 7, 1000):
    some = run.embed(splits.test.inputs[:15], batch_size=size)
    assert_close(some, expected[:15])


def test_files_are_embedded_in_the_order_of_their_paths(
  run, photographs, splits
):
  paths = inference.images_in(photographs)
  names = inference.image_labels(photographs, paths)
  assert names == [f"digit {label}" for label in (0, 1, 2) for _ in range(4)]
  indices = [
    np.flatnonzero(splits.test.labels == label)[:4] for label in range(3)
  ]
  expected = run.embed(splits.test.inputs[np.concatenate(indices)])
  assert_close(run.embed(photographs), expected)
  assert_close(run.embed([str(path) for path in paths[3:]]), expected[3:])
  assert_close(run.embed(paths[5], batch_size=2), expected[5:6])
  for given in (photographs, str(photographs)):
    found = run.embed_files(given)
    assert found.paths == paths
    assert_close(found.points, expected)
  assert run.embed_files(str(paths[5])).paths == [paths[5]]


def test_what_cannot_be_used_is_said_or_skipped(run, photographs):
  whole = run.embed(photographs)
  (photographs / "digit 0" / "1.png").write_bytes(b"no image")
  Image.new("L", (9, 8)).save(photographs / "digit 1" / "0.png")
  Image.new("RGB", (8, 8)).save(photographs / "digit 2" / "3.png")
  paths = inference.images_in(photographs)
  with pytest.raises(
    InputError, match="3 of 12 images cannot be used"
  ) as error:
    run.embed(photographs)
  for words in ("0/1.png", "is 8×9", "--resize", "is in color", "to gray"):
    assert words in str(error.value)
  found = run.embed_files(paths, skip_bad=True, batch_size=4)
  left = [i for i in range(12) if i not in (1, 4, 11)]
  assert found.paths == [paths[i] for i in left]
  assert_close(found.points, whole[left])
  assert all(
    str(paths[i]) in str(e) for i, e in zip((1, 4, 11), found.bad, strict=True)
  )
  resized = run.embed_files(paths, skip_bad=True, resize=True)
  assert len(resized.bad) == 2
  with pytest.raises(InputError, match="cannot read the image"):
    run.embed_files([paths[1]], skip_bad=True)


def test_other_items_are_refused(run, splits, tmp_path):
  items = splits.test.inputs[:2]
  for wrong, said in (
    (items[:, :7], r"shape \(2, 7, 8, 1\); .* images of 8×8×1: give"),
    (items / 255, "dtype float64; .* uint8"),
    (items[:0], "at least one"),
    (tmp_path, "holds no images"),
    (tmp_path / "none", "not a folder"),
    (
      dataclasses.replace(splits.test, inputs=np.zeros((360, 3), np.float32)),
      "vectors of 3 features; the run takes images of 8×8×1",
    ),
  ):
    with pytest.raises(InputError, match=said):
      run.embed(wrong)
  with pytest.raises(InputError, match="batch_size=0"):
    run.embed(items, batch_size=0)


def test_distances_and_search_are_exact(run, splits):
  points = run.embed(splits.test)
  exact = exact_l1(points, points[:40])
  assert_close(run.distances(points, points[:40]), exact)
  assert run.distances(points[:5]).shape == (5, 5)
  names = np.array(splits.test.class_names)[splits.test.labels[:40]]
  index = run.index(points[:40], names)
  hits = index.search(points, 3)
  assert_close(hits.distances, np.sort(exact, axis=1)[:, :3])
  np.testing.assert_array_equal(hits.labels, names[hits.indices])
  assert (hits.indices[:40, 0] == np.arange(40)).all()
  own = np.where(np.arange(len(points)) < 40, np.arange(len(points)), -1)
  others = index.search(points, 39, exclude_self=own).indices
  assert not (others[:40] == np.arange(40)[:, None]).any()
  assert run.index(points[:1]).search(points, 1).labels is None
  with pytest.raises(InputError, match=r"k=41: .* from 1 to 40"):
    index.search(points, 41)
  with pytest.raises(InputError, match="one item, which does not find itself"):
    run.index(points[:1]).search(points[:1], 1, exclude_self=True)


def test_verifies_by_validation_pairs_alone(
  run, kept, splits, folder, tmp_path
):
  points = run.embed(splits.test)
  verdict = run.verify(points[:50], points[50:100], far=0.05)
  threshold = verdict.threshold
  labels = kept["validation_labels"]
  between = exact_l1(*(kept["validation_embeddings"],) * 2)
  upper = np.triu(np.ones(between.shape, bool), 1)
  impostor = between[upper & (labels[:, None] != labels)]
  accepted = np.count_nonzero(impostor <= threshold.distance)
  assert abs(accepted / len(impostor) - 0.05) < 2 / len(impostor)
  apart = np.abs(points[:50] - points[50:100]).sum(axis=1)
  np.testing.assert_array_equal(verdict.same, apart <= threshold.distance)
  assert 0 < verdict.same.sum() < 50
  # Without embeddings of its own the run embeds what validates, and no more.
  bare = shutil.copytree(folder, tmp_path / "bare")
  for path in bare.glob("embeddings*"):
    path.unlink()
  again = inference.load(bare).verify(points[:50], points[50:100], far=0.05)
  assert again.threshold == threshold
  assert not list(bare.glob("embeddings*"))


def test_a_run_of_an_earlier_version_reads_its_data(folder, run, tmp_path):
  older = shutil.copytree(folder, tmp_path / "older")
  (older / run_files.INPUTS).unlink()
  items = np.zeros((2, 8, 8, 1), np.uint8)
  np.testing.assert_array_equal(
    inference.load(older).embed(items), run.embed(items)
  )
  change(older / run_files.DATA, test="another")
  with pytest.raises(InputError, match="is a run on other data: test"):
    inference.load(older)


def unfinished(folder):
  (folder / run_files.RESULT).unlink()


def empty(folder):
  shutil.rmtree(folder)


def diverged(folder):
  (folder / run_files.RESULT).write_text('{"diverged": "at step 3"}')


def unselected(folder):
  change(folder / run_files.RESULT, selected_step=None)


def of_other_code(folder):
  path = folder / run_files.RESULT
  result = json.loads(path.read_text())
  path.write_text(json.dumps({"commit": result["commit"]}))


def of_old_fields(folder):
  change(folder / run_files.CONFIG, metric="l1")


def without_checkpoints(folder):
  shutil.rmtree(folder / "checkpoints")


def damaged(folder):
  for path in (folder / "checkpoints").rglob("*"):
    if path.is_file():
      path.write_bytes(b"")


@pytest.mark.parametrize(
  ("spoil", "said"),
  [
    (empty, "holds neither a run nor a study"),
    (unfinished, "not finished: repeat the command"),
    (diverged, "diverged, at step 3"),
    (unselected, "selected no checkpoint"),
    (
      of_other_code,
      r"result\.json cannot be read: it lacks digest\. Delete it",
    ),
    (of_old_fields, r"config\.json: a config of old fields: other code wrote"),
    (without_checkpoints, "not have the checkpoint of step"),
    (damaged, "is damaged"),
  ],
)
def test_a_folder_that_cannot_be_used_is_said(folder, tmp_path, spoil, said):
  spoiled = shutil.copytree(folder, tmp_path / "spoiled")
  spoil(spoiled)
  with pytest.raises(InputError, match=said):
    inference.load(spoiled)


def test_what_was_trained_on_validation_has_no_thresholds(tmp_path):
  fields = {"data.train_on": "train+validation"}
  train(override(CONFIG, fields), tmp_path / "seen", progress=False)
  run = inference.load(tmp_path / "seen")
  points = run.embed(np.zeros((1, 8, 8, 1), np.uint8))
  with pytest.raises(InputError, match="trained on its validation classes too"):
    run.verify(points, points, far=0.1)


def test_features_are_given_as_they_were_before_they_were_standardized(
  tmp_path,
):
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(12), 9)
  features = (5 + 3 * rng.normal(size=(108, 6))).astype(np.float32)
  path = tmp_path / "vectors.npz"
  np.savez(path, features=features, labels=labels)
  config = tiny_config(
    data__name="features",
    data__data_dir=str(path),
    data__standardize=True,
    train__steps=2,
    train__eval_every=2,
    train__save_every=2,
  )
  splits = data.load(config.data)
  train(config, tmp_path / "run", splits=splits)
  run = inference.load(tmp_path / "run")
  mean, factor = splits.scale
  raw = splits.test.inputs / factor + mean
  expected = run.embed(splits.test)
  np.testing.assert_allclose(run.embed(raw), expected, atol=1e-4)
  assert not np.allclose(run.embed(splits.test.inputs), expected, atol=1e-2)
  with pytest.raises(InputError, match="not images: give an array"):
    run.embed(["one.png"])


def test_of_a_study_the_best_run_of_the_best_cell_is_loaded(real_study):
  scores = {}
  for path in real_study.folder.glob(f"runs/*/{run_files.RESULT}"):
    config = run_files.read_json(path.parent / run_files.CONFIG)
    score = run_files.read_json(path)["validation_selected"]
    setting = json.dumps([config["loss"], config["metric"]])
    scores.setdefault(setting, {})[path.parent] = score[
      config["eval"]["select"]
    ]
  best = max(scores.values(), key=lambda some: np.mean([*some.values()]))
  run = inference.load(real_study.folder)
  assert run.folder == max(best, key=best.get)
