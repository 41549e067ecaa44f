"""Studies of several labels and of super-classes run from their configs."""

import dataclasses
import json

import numpy as np
import pytest

from metric_learning import InputError, data
from metric_learning.data import feeds
from metric_learning.evaluation import is_slow
from metric_learning.study.runs import Run
from metric_learning.study.scoring import score_run
from metric_learning.study.sweeps import RunSpec
from metric_learning.training import override, run_files, train, validate
from metric_learning.training.plan import check_parts, feed_of, make_plan
from tests.test_configs import ROOT, load
from tests.tiny import tiny_config

RNG = np.random.default_rng(0)
FEW = {
  "model.name": "linear",
  "model.embedding_dim": 4,
  "train.steps": 2,
  "train.log_every": 1,
  "train.eval_every": 2,
  "train.save_every": 2,
}


def part(count, labels, names, superclasses=None):
  inputs = RNG.normal(size=(count, 6)).astype(np.float32)
  return data.Dataset(
    "few", inputs, labels.astype(np.int32), names, superclasses
  )


def several(count):
  """One or two of five labels."""
  labels = np.eye(5)[RNG.integers(0, 5, count)]
  labels[::2, 0] = 1
  return part(count, labels, tuple("abcde"))


def within(count, names, superclasses):
  """Items whose classes have super-classes."""
  return part(count, np.arange(count) % len(names), names, superclasses)


SEVERAL = data.Splits(several(40), several(20), several(30), "closed-set")
LEVELS = data.Splits(
  within(32, tuple("abcdefgh"), tuple("zyzyzyzx")),
  within(8, tuple("ij"), tuple("zy")),
  within(12, tuple("klm"), tuple("zyx")),
  "open-set",
)
PLAIN = data.Splits(
  *(within(8, names, None) for names in (("a", "b"), ("c", "d"), ("e", "f"))),
  "open-set",
)
BATCH = {"batch.classes_per_batch": 8, "batch.images_per_class": 2}
STUDIES = {
  "multi_label": (SEVERAL, {"relation.name": "jaccard"}),
  "hierarchical": (LEVELS, {"relation.name": "same_label"}),
}


def config_of(name, **overrides):
  config = load(ROOT / "configs" / f"{name}.py").get_config()
  overrides = {k.replace("__", "."): v for k, v in overrides.items()}
  return override(config, {**FEW, **BATCH, **overrides})


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_trains_and_its_relation_reaches_the_loss(name, tmp_path):
  splits, other = STUDIES[name]
  losses = []
  for number, overrides in enumerate((other, {})):
    config = override(config_of(name), overrides)
    folder = tmp_path / str(number)
    result = train(config, folder, splits=splits, embeddings=not overrides)
    lines = (folder / run_files.METRICS).read_text().splitlines()
    losses.append(json.loads(lines[0])["train/loss"])
  # The first step has the first weights, and the batch is the same.
  assert np.isfinite(losses).all() and losses[0] != losses[1]
  scores = result["validation"]
  columns = config.eval.columns
  quick = [column for column in columns if not is_slow(column)]
  assert quick and all(np.isfinite(scores[column]) for column in quick)
  run = Run(RunSpec(name, {}, config), folder, result)
  tested = score_run(run, ("own/map_at_r",)).tested
  assert all(np.isfinite(tested.selected[column]) for column in columns)
  assert (tested.classes is None) == (name == "multi_label")


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_has_super_class_and_class(stream):
  config = config_of("hierarchical", data__stream=stream)
  plan = make_plan(config, LEVELS)
  feed = feed_of(plan, 0)
  batch = feed.gather(feed.shared, next(feed.own))
  indices = plan.draws(0).indices
  classes = LEVELS.train.labels[indices]
  scripts = np.array(["xyz".index(s) for s in LEVELS.train.superclasses])
  np.testing.assert_array_equal(batch.labels[:, 1], classes)
  np.testing.assert_array_equal(batch.labels[:, 0], scripts[classes])


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_has_several_labels(stream):
  config = config_of("multi_label", data__stream=stream)
  plan = make_plan(config, SEVERAL)
  feed = feed_of(plan, 0)
  batch = feed.gather(feed.shared, next(feed.own))
  indices = plan.draws(0).indices
  np.testing.assert_array_equal(batch.labels, SEVERAL.train.labels[indices])


def test_views_of_items_with_several_labels_are_their_classes():
  config = override(
    config_of("multi_label", batch__views=2, augment__flip=True),
    {"relation.name": "same_label"},
  )
  validate(config)
  labels = feeds.labels_of(SEVERAL.train, 2, levels=False)
  assert labels.tolist() == list(range(40))


@pytest.mark.parametrize(
  ("splits", "overrides", "message"),
  [
    (
      SEVERAL,
      {"relation.name": "same_label"},
      "several labels.*'same_label' does not .*: set it to any_label or jaccar",
    ),
    (
      SEVERAL,
      {"relation.name": "levels", "relation.weights": (0.1, 1.0)},
      "several labels.*'levels' does not compare: set it to any_label or",
    ),
    (
      LEVELS,
      {"relation.name": "jaccard"},
      "one label.*'jaccard' does not compare: set it to same_label",
    ),
    (
      PLAIN,
      {"relation.name": "levels", "relation.weights": (0.1, 1.0)},
      "few has no super-classes, which config.relation.name='levels' comp",
    ),
    (
      LEVELS,
      {"relation.name": "levels", "relation.weights": (0.1, 0.2, 1.0)},
      r"weights=\(0.1, 0.2, 1.0\) has 3 weights: give two",
    ),
    (
      PLAIN,
      {"eval.select": "own/superclass_map_at_r"},
      "has no own/superclass_map_at_r.*: its classes have no super-classes",
    ),
    (
      dataclasses.replace(LEVELS, validation=within(8, ("i", "j"), ("z", "z"))),
      {"eval.select": "own/superclass_map_at_r"},
      "cannot choose a checkpoint.*every image is of the class of every query",
    ),
    (
      SEVERAL,
      {"relation.name": "any_label", "eval.select": "clustering/ami"},
      "few has no clustering/ami, which config.eval.select.*these have several",
    ),
    (
      SEVERAL,
      {
        "relation.name": "any_label",
        "eval.columns": ("own/few_shot_2_way_1_shot",),
      },
      "few has no own/few_shot.*eval.columns asks for: it takes one label",
    ),
  ],
)
def test_data_that_a_relation_or_score_does_not_take(
  splits, overrides, message
):
  config = override(tiny_config(), overrides)
  validate(config)
  with pytest.raises(InputError, match=message):
    check_parts(config, splits)


JACCARD = {"relation.name": "jaccard", "batch.sampler": "uniform"}


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      {"loss.name": "arcface"},
      "arcface needs one class label.*'jaccard' does not",
    ),
    ({"also.center.weight": 0.1}, "center needs one class label"),
    ({"memory.size": 64}, "a memory holds one label"),
    ({"batch.views": 2, "augment.flip": True}, "'jaccard' .* views leave"),
    (
      {"batch.sampler": "triplets", "loss.name": "triplet"},
      "'jaccard' compares labels, and explicit triplets leave the labels out",
    ),
  ],
)
def test_configs_whose_loss_never_sees_the_relation(overrides, message):
  config = override(tiny_config(), {**JACCARD, **overrides})
  with pytest.raises(InputError, match=message):
    validate(config)
