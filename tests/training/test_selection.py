"""The selected checkpoint, and validation parts that cannot select one."""

import dataclasses

import numpy as np
import pytest

from metric_learning import InputError, evaluation
from metric_learning.data.base import Pairs
from metric_learning.study.runs import Run
from metric_learning.study.scoring import score_run
from metric_learning.study.sweeps import RunSpec
from metric_learning.training import (
  embedding,
  plan,
  recorder,
  run_files,
  train,
  train_population,
)
from metric_learning.training.checkpoints import steps_in
from metric_learning.training.plan import make_plan
from tests.tiny import tiny_config

# As in test_loop.py, the tiny run is trained, and compiled once.
pytestmark = pytest.mark.xdist_group("training loop")


def test_a_batch_that_the_data_cannot_fill_writes_nothing(splits, tmp_path):
  config = tiny_config(batch__classes_per_batch=11)
  with pytest.raises(InputError, match="11"):
    train(config, tmp_path / "run", splits=splits)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("options", "said"),
  [
    (
      {"reduction.name": "mean", "reduction.class_weights": (1.0, 2.0)},
      "contrastive has 2 .* 10",
    ),
    (
      {
        "also.triplet.reduction.name": "mean",
        "also.triplet.reduction.class_weights": (1.0,),
      },
      "triplet has 1 weights, and the training part has 10 classes",
    ),
    # Each image is a class of its own.
    (
      {
        "reduction.name": "mean",
        "reduction.class_weights": (1.0,) * 10,
        "batch__views": 2,
        "augment__flip": True,
      },
      r"contrastive has 10 weights.* has \d{3,} classes",
    ),
  ],
)
def test_weights_of_another_number_of_classes_are_refused(
  options, said, splits
):
  config = tiny_config(loss__name="contrastive", **options)
  with pytest.raises(InputError, match=said):
    plan.check_parts(config, splits)


def test_one_weight_for_each_class_is_right(splits):
  weights = (1.0,) * 10
  config = tiny_config(
    loss__name="contrastive",
    reduction__name="mean",
    reduction__class_weights=weights,
  )
  plan.check_parts(config, splits)


@pytest.mark.slow
def test_the_selected_checkpoint_is_the_best_on_validation(splits, tmp_path):
  # The rate is so large that the last checkpoint is no better than the first.
  config = tiny_config(
    train__steps=20,
    train__eval_every=2,
    train__save_every=2,
    optimizer__learning_rate=0.3,
  )
  result = train(config, tmp_path / "run", splits=splits)
  scores = {
    r["step"]: r["validation/own/map_at_r"]
    for r in run_files.read_metrics(tmp_path / "run")
    if "validation/own/map_at_r" in r
  }
  assert len(scores) == 10
  best = max(scores, key=lambda step: (scores[step], step))
  assert result["selected_step"] == best
  assert result["validation_selected"]["own/map_at_r"] == scores[best]
  exists = (tmp_path / "run" / run_files.SELECTED_EMBEDDINGS).exists()
  assert exists
  # What is damaged is trained again: a later step is not taken in its place.
  (tmp_path / "run" / run_files.RESULT).unlink()
  path = tmp_path / "run" / "checkpoints" / f"{best}.safetensors"
  path.write_bytes(b"")
  with pytest.raises(InputError, match=f"checkpoint {best} .* deleted"):
    train(config, tmp_path / "run", splits=splits)
  again = train(config, tmp_path / "run", splits=splits)
  assert {**again, "seconds": 0} == {**result, "seconds": 0}


def test_nan_selects_no_checkpoint(splits, monkeypatch, tmp_path):
  # Of one evaluation of two.
  scores = iter(
    ({"own/map_at_r": 0.9, "own/mrr": 0.8}, {"own/map_at_r": np.nan})
  )
  monkeypatch.setattr(recorder, "score", lambda *_: next(scores))
  folder = tmp_path / "run"
  result = train(tiny_config(), folder, splits=splits)
  assert result["selected_step"] is None
  assert np.isnan(result["validation_selected"]["own/map_at_r"])
  assert not (folder / run_files.SELECTED_EMBEDDINGS).exists()
  assert "nothing is selected" in (folder / "train.log").read_text()
  run = Run(RunSpec("run", {}, tiny_config()), folder, result)
  tested = score_run(run).tested
  assert np.isfinite(tested.last["own/map_at_r"])
  assert np.isnan(list(tested.selected.values())).all()
  assert tested.selected.keys() == tested.last.keys()


def part_of(splits, labels, **fields):
  """Splits whose validation part has these labels."""
  labels = np.asarray(labels, np.int32)
  images = splits.validation.inputs[: len(labels)]
  part = dataclasses.replace(
    splits.validation, inputs=images, labels=labels, **fields
  )
  return dataclasses.replace(splits, validation=part)


@pytest.mark.parametrize(
  ("select", "labels", "fields", "reason"),
  [
    (
      "own/map_at_r",
      range(10),
      {},
      "10 images of 10 classes.: no class has two",
    ),
    ("own/map_at_r", [3] * 10, {}, "10 images of 1 classes.: every image"),
    ("own/map_at_r", [], {}, "0 images of 0 classes.: there are no images"),
    ("own/tar_at_far_0.01", [0, 0, 1, 1], {}, "needs 1000 impostor pairs"),
    ("own/few_shot_5_way_1_shot", [0, 1] * 9, {}, "only 2 classes"),
    (
      "own/map_at_r",
      [0, 0, 1, 1],
      {"groups": np.int32([5, 5, 6, 6])},
      "in another group",
    ),
  ],
)
def test_a_part_that_cannot_choose_is_refused_before_training(
  splits, tmp_path, select, labels, fields, reason
):
  config = tiny_config(eval__select=select)
  poor = part_of(splits, labels, **fields)
  message = rf"{select}, which config.eval.select names, cannot .*{reason}"
  with pytest.raises(InputError, match=message):
    train(config, tmp_path / "run", splits=poor)
  with pytest.raises(InputError, match=message):
    train_population([config], [tmp_path / "run"], poor)
  assert not (tmp_path / "run").exists()
  # What is trained on as well chooses nothing.
  plan.check_parts(config, dataclasses.replace(poor, validation_seen=True))


def test_pairs_of_one_kind_cannot_choose(splits):
  index = np.arange(2, dtype=np.int32)
  for same in (True, False):
    pairs = Pairs(index, index + 2, np.array([same] * 2), None)
    poor = part_of(splits, range(4), pairs=pairs)
    config = tiny_config(eval__select="own/eer", eval__columns=())
    with pytest.raises(InputError, match="no pair is"):
      plan.check_parts(config, poor)


def test_groups_reach_the_scores_and_the_files(splits):
  count = len(splits.validation.labels)
  groups = np.arange(count, dtype=np.int32) % 3
  part = dataclasses.replace(splits.validation, groups=groups)
  points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
  points /= np.linalg.norm(points, axis=1, keepdims=True)
  whole = make_plan(tiny_config(normalize="l2"), splits)
  found = recorder.score(points, part, whole)
  expected = evaluation.retrieval(points, part.labels, groups=groups)
  assert found["own/map_at_r"] == expected["map_at_r"]
  assert found != recorder.score(points, splits.validation, whole)
  arrays = embedding.arrays_of("validation", part, points)
  np.testing.assert_array_equal(arrays["validation_groups"], groups)


@pytest.mark.slow
def test_seen_validation_classes_choose_no_checkpoint(monkeypatch, tmp_path):
  falling = iter((0.9, 0.1) * 2)
  scored = lambda *_: {"own/map_at_r": next(falling)}
  monkeypatch.setattr(recorder, "score", scored)
  for train_on, step in (("train", 3), ("train+validation", 6)):
    config = tiny_config(data__train_on=train_on)
    result = train(config, tmp_path / train_on)
    assert result["selected_step"] == step


NAN = float("nan")


@pytest.mark.parametrize(
  ("scores", "selected"),
  [
    ((0.1, 0.5, 0.3, 0.2, 0.2, 0.1), 2),
    ((NAN, 0.1, 0.5, 0.2, 0.2, 0.1), 3),  # Its checkpoint is long gone.
    ((0.5, 0.1, 0.2, 0.3, NAN, 0.4), None),
    ((0.1, 0.2, 0.3, 0.4, 0.4, NAN), None),
  ],
)
def test_a_run_that_saves_nothing_selects_as_one_that_does(
  scores, selected, splits, tmp_path, monkeypatch
):
  config = tiny_config(train__eval_every=1, train__save_every=1)
  results = []
  for name, save_after in (("kept", 0.0), ("lost", 1e6)):
    given = iter(scores)
    monkeypatch.setattr(
      recorder, "score", lambda *_, given=given: {"own/map_at_r": next(given)}
    )
    results.append(
      train(
        config,
        tmp_path / name,
        splits=splits,
        embeddings=False,
        save_after=save_after,
      )
    )
    del results[-1]["seconds"]
  assert [result["selected_step"] for result in results] == [selected] * 2
  assert str(results[0]) == str(results[1])
  assert (tmp_path / "kept" / "checkpoints").exists()
  assert not (tmp_path / "lost" / "checkpoints").exists()


def test_a_long_run_that_keeps_nothing_goes_on_where_it_was(
  splits, tmp_path, monkeypatch
):
  config = tiny_config(train__eval_every=2, train__save_every=2)
  options = {"splits": splits, "embeddings": False, "save_after": 1e-9}
  whole = train(config, tmp_path / "whole", **options)
  seen = iter((True, True, False))
  embed = recorder.embed_all

  def killed(*args):
    if not next(seen):
      raise KeyboardInterrupt
    return embed(*args)

  monkeypatch.setattr(recorder, "embed_all", killed)
  with pytest.raises(KeyboardInterrupt):
    train(config, tmp_path / "killed", **options)
  monkeypatch.setattr(recorder, "embed_all", embed)
  resumed = train(config, tmp_path / "killed", **options)
  log = (tmp_path / "killed" / "train.log").read_text()
  assert "from step 4:" in log
  assert resumed["validation"] == whole["validation"]
  # Nothing is scored that nobody reads: what selects, and what warns.
  families = {name.partition("/")[0] for name in whole["validation"]}
  assert families == {"own", "geometry"}
  assert "geometry/collapsed" in whole["validation"]
  assert 6 not in steps_in(tmp_path / "killed" / "checkpoints")
