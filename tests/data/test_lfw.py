import os
import pathlib

import numpy as np
import pytest

from metric_learning import data
from metric_learning.data import archives, files, prepared
from metric_learning.data.sets import lfw
from metric_learning.errors import InputError
from metric_learning.study.runs import Run
from metric_learning.study.scoring import score_run
from metric_learning.training import run_files, train
from tests.data import stand_ins
from tests.tiny import tiny_config


@pytest.fixture
def config(tmp_path, data_config, monkeypatch):
  """The stand-in as a folder lfw/Name/Name_0001.jpg, with its text files."""
  source = stand_ins.make("lfw", tmp_path / "faces", monkeypatch)
  made, _ = stand_ins.lfw()
  for name, content in made["lfw.tgz"].items():
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_bytes(content)

  def make(split="view2", **changes):
    changes = {"data_dir": str(source)} | changes
    return data_config("lfw", split, "open-set", **changes)

  return make


def people(part):
  return {int(name[-2:]) for name in part.class_names}


def test_view_2_tests_each_person_of_a_fold_once(config):
  for fold in range(10):
    splits = data.load(config(fold=fold))
    after = (fold + 1) % 10
    assert people(splits.test) == {2 * fold, 2 * fold + 1}
    assert people(splits.validation) == {2 * after, 2 * after + 1}
    # People with one image have no pair: the odd ones, and 21.
    seen = {*range(0, 20, 2), 20, *range(22, 26)} - {2 * fold, 2 * after}
    assert people(splits.train) == seen
    assert len(splits.train.inputs) == 2 * len(seen)
    assert splits.train.pairs is None
    for part, k in ((splits.test, fold), (splits.validation, after)):
      a, b = f"{2 * k:02d}", f"{2 * k + 1:02d}"
      wanted = [(f"{a} 1", f"{a} 2", True), (f"{a} 2", f"{b} 1", False)]
      assert official(part) == wanted
      assert part.pairs.folds is None


def test_all_of_view_2_is_tested_without_its_people(config):
  splits = data.load(config("view2_all"))
  assert people(splits.test) == set(range(20))
  pairs = official(splits.test)
  assert len(pairs) == 20
  for fold in range(10):
    one = official(data.load(config(fold=fold)).test)
    found = np.flatnonzero(splits.test.pairs.folds == fold)
    assert [pairs[i] for i in found] == one
  both = people(splits.train) | people(splits.validation)
  assert both <= {20, *range(21, 26)} and len(people(splits.validation)) == 2
  assert 21 not in people(splits.train)
  assert not people(splits.train) & people(splits.validation)


@pytest.mark.slow
def test_a_run_reports_the_accuracy_over_ten_folds(config, tmp_path):
  fields = {"data_dir": config().data_dir, "split": "view2_all"}
  fields |= {"name": "lfw", "protocol": "open-set"}
  run_config = tiny_config(
    **{f"data__{name}": value for name, value in fields.items()},
    batch__classes_per_batch=2,
    batch__images_per_class=2,
    metric__name="l1",
    eval__select="own/eer",
    eval__columns=("own/accuracy",),
    train__steps=1,
    train__eval_every=1,
    train__save_every=1,
  )
  result = train(run_config, tmp_path / "run", progress=False)
  found = score_run(Run(None, tmp_path / "run", result)).tested.last
  arrays = run_files.read_arrays(tmp_path / "run" / run_files.EMBEDDINGS)
  points, same = arrays["test_embeddings"], arrays["test_same"]
  first, second = points[arrays["test_first"]], points[arrays["test_second"]]
  distances = np.abs(first - second).sum(axis=1)
  assert result["metric"] == "l1"
  shares = []
  for fold in range(10):
    here = arrays["test_folds"] == fold
    # Of all thresholds that tell the other nine apart best, the smallest.
    tried = np.unique(distances[~here])
    middles = np.concatenate(
      [[-np.inf], (tried[:-1] + tried[1:]) / 2.0, [np.inf]]
    )
    right = [np.mean((distances[~here] <= t) == same[~here]) for t in middles]
    threshold = middles[np.argmax(right)]
    shares.append(np.mean((distances[here] <= threshold) == same[here]))
    assert here.sum() == 2
  assert found["own/accuracy"] == pytest.approx(np.mean(shares))
  assert found["own/accuracy_standard_error"] == pytest.approx(
    np.std(shares, ddof=1) / np.sqrt(10)
  )


def official(part):
  """The pairs of a part as ("person image", "person image", same)."""
  counts, shown = {}, []
  for label in part.labels:
    counts[label] = counts.get(label, 0) + 1
    shown.append(f"{part.class_names[label][-2:]} {counts[label]}")
  first, second, same = part.pairs[:3]
  return [
    (shown[i], shown[j], bool(s))
    for i, j, s in zip(first, second, same, strict=True)
  ]


def test_view_1_trains_on_its_own_people(config):
  splits = data.load(config("view1"))
  assert people(splits.test) == {24, 25}
  both = people(splits.train) | people(splits.validation)
  assert both == {0, 2, 4, 6, 8, 23}
  assert len(people(splits.validation)) == 2  # a fifth of six, but two
  assert official(splits.test) == [
    ("24 1", "24 2", True),
    ("24 1", "25 1", False),
  ]
  # Drawn: half genuine, of people with two images.
  part, pairs = splits.validation, splits.validation.pairs
  assert len(pairs.same) == 600 and pairs.same.sum() == 300
  same = part.labels[pairs.first] == part.labels[pairs.second]
  np.testing.assert_array_equal(same, pairs.same)


def test_pairs_point_at_their_images(config):
  faces = lfw.read(config())
  path = prepared.beside(config(), "pairs.txt")
  folds = lfw.read_pairs(path)
  assert len(folds) == 10
  for k, fold in enumerate(folds):
    first, second = lfw.locate(fold, faces.names)
    assert fold.same.tolist() == [True, False]
    shown = [faces.dataset.class_names[i] for i in faces.dataset.labels]
    a, b = f"Person_{2 * k:02d}", f"Person_{2 * k + 1:02d}"
    assert [shown[i] for i in first] == [a, a]
    assert [shown[i] for i in second] == [a, b]
    assert first[0] != second[0] and first[1] == second[0]


def test_pair_of_a_missing_image_is_named(config):
  names = lfw.read(config()).names
  fold = lfw.read_pairs(prepared.beside(config(), "pairs.txt"))[3]
  left = [name for name in names if "Person_06_0002" not in name]
  with pytest.raises(InputError, match=r"1 images .* lfw/.*/Person_06_0002"):
    lfw.locate(fold, left)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "line 1: '' is not the header"),
    ("ten 300", "line 1: 'ten 300' is not the header"),
    ("2\nA 1 2\nA 2 3\nA 1 B 1", "has 3 pairs; its header promises 4"),
    ("1\nA 1 B 2\nA 1 B 1", "line 2: 'A 1 B 2' is not a pair of the same"),
    ("1\nA 1 2\nA 1 2", "line 3: 'A 1 2' is not a pair of different"),
    ("1\nA 1 x\nA 1 B 2", "line 2: 'A 1 x' is not a pair"),
  ],
)
def test_pairs_file_that_is_not_one(text, message, tmp_path):
  (tmp_path / "pairs.txt").write_text(text)
  with pytest.raises(InputError, match=rf"pairs\.txt.*{message}"):
    lfw.read_pairs(tmp_path / "pairs.txt")


def test_pairs_file_that_is_missing(config):
  folder = pathlib.Path(config().data_dir)
  (folder / "pairs.txt").unlink()
  with pytest.raises(InputError, match=r"lacks pairs\.txt, from https"):
    data.load(config())


@pytest.mark.parametrize(
  ("name", "folds", "count"),
  [
    ("pairs.txt", 10, 600),
    ("pairsDevTrain.txt", 1, 2200),
    ("pairsDevTest.txt", 1, 1000),
  ],
)
def test_real_pairs(name, folds, count):
  folder = os.environ.get("METRIC_LEARNING_DATA", "")
  path = pathlib.Path(folder, "lfw", name)
  if not folder or not path.exists():
    pytest.skip(f"METRIC_LEARNING_DATA names no folder with lfw/{name}")
  official = {file.name: file for file in archives.ARCHIVES["lfw"].beside}
  files.check_digest(path, official[name].sha256)
  found = lfw.read_pairs(path)
  assert [len(fold.same) for fold in found] == [count] * folds
  named = []
  for fold in found:
    assert fold.same.sum() == count / 2
    pairs = zip(fold.first, fold.second, strict=True)
    same = [a.split("/")[1] == b.split("/")[1] for a, b in pairs]
    np.testing.assert_array_equal(same, fold.same)
    named.append({p.split("/")[1] for p in (*fold.first, *fold.second)})
  # Nobody is in two folds.
  assert sum(map(len, named)) == len(set().union(*named))
