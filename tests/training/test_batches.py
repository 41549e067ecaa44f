"""The input of a step: views, explicit pairs and triplets, images on disk."""

import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_curve

from metric_learning import InputError, data
from metric_learning.data import feeds
from metric_learning.data.samplers import make_batches
from metric_learning.study.runs import Run
from metric_learning.study.scoring import score_run
from metric_learning.training import (
  run_files,
  train,
  train_population,
)
from metric_learning.training.embedding import embed_all
from metric_learning.training.plan import make_plan
from tests.tiny import tiny_config

RNG = np.random.default_rng(0)
# One step at a rate that changes nothing: its loss is of the first weights.
ONE_STEP = {
  "train__steps": 1,
  "train__eval_every": 1,
  "train__save_every": 1,
  "train__log_every": 1,
  "optimizer__learning_rate": 1e-12,
}


@pytest.fixture(scope="module")
def digits():
  return data.load(tiny_config().data)


def metrics_of(folder):
  return (folder / run_files.METRICS).read_text()


def untrained(config, splits, images):
  """Embeddings before the first step, before they are normalized."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.normalize = "none"
  plan = make_plan(config, splits)
  state = plan.program.init(config.seed, plan.num_classes, plan.numbers)
  return embed_all(plan.program, state, images)


def test_parts_of_nearly_one_size_have_one_shape_on_the_device(digits):
  batches = make_batches(digits.train, tiny_config().batch, 0)
  fed = feeds.resident(digits.train, batches, range(2))
  inputs, labels = fed.shared
  n = len(digits.train.labels)
  # 1,078 fill nine units of 128.
  assert (n, len(inputs), len(labels)) == (1078, 1152, 1152)
  np.testing.assert_array_equal(inputs[:n], digits.train.inputs)
  assert not np.any(inputs[n:])
  assert max(batches(0).indices) < n


# --- Views ------------------------------------------------------------------


def test_each_image_is_in_the_batch_as_often_as_it_has_views(digits):
  config = tiny_config(
    batch__views=3, augment__flip=True, batch__sampler="uniform"
  )
  batches = make_batches(digits.train, config.batch, 0)
  feed = feeds.resident(digits.train, batches, range(4, 6), views=3)
  batch = feed.gather(feed.shared, next(feed.own))
  assert batch.affinity is None and batch.where is None
  indices = np.tile(batches(4).indices, 3)
  np.testing.assert_array_equal(batch.inputs, digits.train.inputs[indices])
  np.testing.assert_array_equal(batch.labels, indices)
  found, counts = np.unique(batch.labels, return_counts=True)
  assert len(found) == 20 and (counts == 3).all()


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ntxent", "vicreg"])
def test_views_train_without_labels(loss, digits, tmp_path):
  config = tiny_config(
    loss__name=loss,
    batch__sampler="uniform",
    batch__views=2,
    augment__shift=0.1,
    augment__brightness=0.2,
  )
  result = train(config, tmp_path / "run", splits=digits)
  assert np.isfinite(result["train"]["train/loss"])
  assert result["train"]["train/positive_distance"] > 1e-3  # views differ
  if loss != "ntxent":
    return
  # Labels are shuffled: the same weights come out.
  shuffled = data.Splits(
    data.Dataset(
      "digits",
      digits.train.inputs,
      RNG.permutation(digits.train.labels),
      digits.train.class_names,
    ),
    digits.validation,
    digits.test,
    digits.protocol,
  )
  train(config, tmp_path / "shuffled", splits=shuffled)
  assert metrics_of(tmp_path / "shuffled") == metrics_of(tmp_path / "run")


# --- Explicit triplets ------------------------------------------------------


@pytest.mark.slow
def test_the_loss_sees_the_fixed_triplets_and_no_others(digits, tmp_path):
  config = tiny_config(
    loss__name="triplet",
    loss__margin=0.3,
    reduction__name="mean",
    metric__name="l1",
    batch__sampler="triplets",
    batch__num_triplets=40,
    normalize="none",
    **ONE_STEP,
  )
  result = train(config, tmp_path / "run", splits=digits)
  indices, _ = make_batches(digits.train, config.batch, config.seed)(0)
  points = untrained(config, digits, digits.train.inputs[indices])
  anchor, positive, negative = points.astype(float).reshape(3, 6, -1)
  away = lambda x, y: np.abs(x - y).sum(axis=1)
  gaps = away(anchor, positive) - away(anchor, negative) + 0.3
  np.testing.assert_allclose(
    result["train"]["train/loss"], np.maximum(gaps, 0).mean(), rtol=1e-4
  )


# --- Explicit pairs ---------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
  """Pairs of digits in two forms, as a user may write them."""
  root = tmp_path_factory.mktemp("pairs")
  parts = (("train", 80), ("validation", 40), ("test", 40))
  for (part, count), some in zip(
    parts, (digits.train, digits.validation, digits.test), strict=True
  ):
    # Of three digits, so that a third of the pairs are the same.
    three = np.flatnonzero(some.labels < 3)[:count]
    for kind in ("same", "similarity"):
      (root / kind / part).mkdir(parents=True)
      lines = [f"first,second,{kind}"]
      for i in three:
        name = f"{part}/{i}.png"
        Image.fromarray(some.inputs[i, ..., 0]).save(root / kind / name)
      for a, b in zip(three, RNG.permutation(three), strict=True):
        same = some.labels[a] == some.labels[b]
        value = int(same) if kind == "same" else (0.9 if same else 0.2)
        lines.append(f"{part}/{a}.png,{part}/{b}.png,{value}")
      (root / kind / f"{part}.csv").write_text("\n".join(lines))
  return root


def pairs_config(folder, loss, kind="same", **more):
  return tiny_config(
    data__name="pairs_csv",
    data__data_dir=str(folder / kind),
    data__split="files",
    data__protocol="open-set",
    batch__sampler="pairs",
    loss__name=loss,
    **{"eval__select": "own/eer", "eval__columns": ("own/auc",), **more},
  )


def first_pairs(config, splits):
  """Embeddings and targets of the pairs of the first batch."""
  indices, affinity = make_batches(splits.train, config.batch, 0)(0)
  points = untrained(config, splits, splits.train.inputs[indices])
  half = len(indices) // 2
  targets = affinity[np.arange(half), half + np.arange(half)]
  assert not np.isnan(targets).any()
  return *np.split(points.astype(float), 2), targets


@pytest.mark.slow
def test_pair_bce_of_explicit_pairs(folder, tmp_path):
  config = pairs_config(folder, "pair_bce", loss__bias=0.5, **ONE_STEP)
  splits = data.load(config.data)
  loss = train(config, tmp_path / "run")["train"]["train/loss"]
  first, second, same = first_pairs(config, splits)
  chance = 1 / (1 + np.exp(np.abs(first - second).sum(axis=1) - 0.5))
  expected = -np.log(np.where(same == 1, chance, 1 - chance)).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("field", ["select", "columns"])
def test_scores_that_pairs_do_not_give_are_refused(folder, tmp_path, field):
  name = "own/map_at_r"
  wanted = {f"eval__{field}": name if field == "select" else (name,)}
  config = pairs_config(folder, "pair_bce", **wanted)
  said = rf"has no own/map_at_r, which config.eval.{field} asks .* no classes"
  splits, run = data.load(config.data), tmp_path / "run"
  with pytest.raises(InputError, match=said):
    train(config, run)
  with pytest.raises(InputError, match=said):
    train_population([config], [run], splits=splits)
  assert not run.exists()


@pytest.mark.slow
def test_pair_regression_of_explicit_similarities(folder, tmp_path):
  config = pairs_config(folder, "pair_regression", "similarity", **ONE_STEP)
  splits = data.load(config.data)
  loss = train(config, tmp_path / "run")["train"]["train/loss"]
  first, second, targets = first_pairs(config, splits)
  assert set(np.round(targets, 4).tolist()) == {
    np.float32(0.9).item(),
    np.float32(0.2).item(),
  }
  lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
  cosine = (first * second).sum(axis=1) / lengths
  expected = (((1 + cosine) / 2 - targets) ** 2).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-4)


def equal_error_rate(distances, same):
  """The point of scikit-learn's ROC curve with FAR = FRR."""
  far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
  gap = (1 - tar) - far
  k = np.flatnonzero(gap >= 0)[-1]
  share = gap[k] / (gap[k] - gap[k + 1])
  return far[k] + share * (far[k + 1] - far[k])


@pytest.mark.slow
def test_pairs_are_scored_by_their_own_error_rate(folder, tmp_path):
  config = pairs_config(
    folder,
    "pair_bce",
    train__steps=60,
    train__eval_every=30,
    train__save_every=30,
    optimizer__learning_rate=0.01,
  )
  splits = data.load(config.data)
  result = train(config, tmp_path / "run", splits=splits)
  arrays = run_files.read_arrays(tmp_path / "run" / run_files.EMBEDDINGS)

  def expected(part):
    points = arrays[f"{part}_embeddings"].astype(float)
    pairs = getattr(splits, part).pairs
    distances = cdist(points, points, "cityblock")[pairs.first, pairs.second]
    return equal_error_rate(np.float32(distances), pairs.same)

  found = result["validation"]
  np.testing.assert_allclose(found["own/eer"], expected("validation"))
  assert found["own/num_genuine"] == splits.validation.pairs.same.sum()
  assert "own/map_at_r" not in found
  assert found["own/eer"] < 0.4
  run = Run(None, tmp_path / "run", result)
  np.testing.assert_allclose(
    score_run(run).tested.last["own/eer"], expected("test")
  )
  assert score_run(run).tested.last["own/accuracy"] > 0.5


def test_pair_files_that_differ_in_channels_are_refused(folder, tmp_path):
  spoiled = shutil.copytree(folder / "same", tmp_path / "same")
  for image in (spoiled / "test").iterdir():
    Image.open(image).convert("RGB").save(image)
  with pytest.raises(InputError, match="channels differ between the files"):
    data.load(pairs_config(tmp_path, "pair_bce").data)


# --- From disk --------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  root = tmp_path_factory.mktemp("images")
  for c in range(8):
    (root / f"class{c}").mkdir()
    for i in range(6):
      shape = (9 + i, 10 + c, 3) if (c, i) == (0, 0) else (9 + i, 10 + c)
      pixels = RNG.integers(0, 256, shape, np.uint8)
      Image.fromarray(pixels).save(root / f"class{c}" / f"{i}.png")
  return root


def folder_config(images, **more):
  return tiny_config(
    data__name="image_folder",
    data__data_dir=str(images),
    data__split="classes",
    data__protocol="open-set",
    data__image_size=(8, 8),
    batch__classes_per_batch=3,
    batch__images_per_class=2,
    augment__flip=True,
    augment__crop=0.3,
    **more,
  )


@pytest.mark.slow
def test_streamed_and_in_memory_runs_are_equal(images, tmp_path):
  for stream in (False, True):
    config = folder_config(images, batch__views=2, data__stream=stream)
    train(config, tmp_path / f"{stream}")
  assert metrics_of(tmp_path / "True") == metrics_of(tmp_path / "False")
  one, other = (
    run_files.read_arrays(tmp_path / f"{stream}" / run_files.EMBEDDINGS)
    for stream in (False, True)
  )
  np.testing.assert_array_equal(
    one["test_embeddings"], other["test_embeddings"]
  )


@pytest.mark.slow
def test_a_streamed_run_resumes_at_its_batch(images, tmp_path):
  config = folder_config(images, batch__views=2, data__stream=True)
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  train(config, whole)
  shutil.copytree(whole, cut)
  (cut / run_files.RESULT).unlink()
  (cut / "checkpoints" / "6.safetensors").unlink()
  train(config, cut)
  assert "from step 3:" in (cut / "train.log").read_text()
  assert metrics_of(cut) == metrics_of(whole)


def test_an_image_that_is_damaged_later_is_named(images, tmp_path):
  spoiled = shutil.copytree(images, tmp_path / "images")
  for path in spoiled.rglob("*.png"):
    path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(InputError, match=r"cannot read the image .*\.png"):
    train(folder_config(spoiled, data__stream=True), tmp_path / "run")


@pytest.mark.parametrize("views", [1, 2])
def test_a_set_in_memory_can_be_streamed(digits, views):
  seen, config = [], tiny_config()
  for stream in (False, True):
    batches = make_batches(digits.train, config.batch, 0)
    kind = feeds.streamed if stream else feeds.resident
    feed = kind(digits.train, batches, range(2, 5), views)
    steps = [feed.gather(feed.shared, own) for own in feed.own]
    assert len(steps) == 3
    seen.append(steps)
  jax.tree.map(np.testing.assert_array_equal, *seen)


def test_sizes_of_images_have_programs_of_their_own(digits):
  config, other = tiny_config(), tiny_config(data__image_size=(4, 4))
  smaller = data.load(other.data)
  program = lambda config, splits: make_plan(config, splits).program
  assert program(config, digits) is program(config, digits)
  assert program(other, smaller) is not program(config, digits)
