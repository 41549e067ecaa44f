"""A population: each member equals the same run alone."""

import shutil
import signal
import types
from unittest import mock

import numpy as np
import pytest

from experiments import cli
from metric_learning import InputError, data, inference
from metric_learning.training import (
  population,
  recorder,
  run_files,
  stopping,
  train,
  train_population,
)
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def splits():
  return data.load(tiny_config().data)


CLOSE = {"rel": 2e-4, "abs": 2e-5}
NUMBERS = [
  {"seed": 0, "loss__margin": 0.5, "optimizer__learning_rate": 0.01},
  {"seed": 1, "loss__margin": 1.5, "optimizer__learning_rate": 0.1},
]
# With a state, and with an affinity.
KINDS = [
  {"loss__name": "contrastive", "memory__size": 64},
  {"loss__name": "triplet", "batch__sampler": "triplets"},
]


def members_of(overrides, **shared):
  # Adam divides by the size of a gradient: of small ones it keeps the rounding.
  shared = {"optimizer__name": "sgd", **shared}
  return [tiny_config(**shared, **each) for each in overrides]


def assert_same_run(one, other):
  """The folders of a single run and of a member have equal contents."""
  files = [{p.name for p in folder.iterdir()} for folder in (one, other)]
  assert files[0] == files[1]
  assert run_files.read_json(one / run_files.CONFIG) == run_files.read_json(
    other / run_files.CONFIG
  )
  said = [run_files.read_metrics(folder) for folder in (one, other)]
  for a, b in zip(*said, strict=True):
    assert a.keys() == b.keys()
    for name, value in a.items():
      # A rank may change with the last bit of a distance.
      slack = {"abs": 0.01} if name.startswith("validation/") else CLOSE
      assert b[name] == pytest.approx(value, **slack), name
  arrays = [
    run_files.read_arrays(f / run_files.EMBEDDINGS) for f in (one, other)
  ]
  for name in arrays[0]:
    if name.endswith("embeddings"):
      np.testing.assert_allclose(*(a[name] for a in arrays), 2e-4, 2e-5)
  results = [run_files.read_json(f / run_files.RESULT) for f in (one, other)]
  assert results[1].pop("members") > 1
  assert results[0].keys() == results[1].keys()
  assert results[0]["digest"] == results[1]["digest"]
  assert results[0]["numbers"] == results[1]["numbers"]


@pytest.mark.slow
@pytest.mark.parametrize("shared", KINDS)
def test_a_member_is_the_single_run(shared, splits, tmp_path):
  configs = members_of(NUMBERS, **shared, train__steps=3)
  together = [tmp_path / f"member{i}" for i in range(len(configs))]
  results = train_population(configs, together, splits)
  losses = {result["train"]["train/loss"] for result in results}
  assert len(losses) == len(configs)
  for i, config in enumerate(configs):
    train(config, tmp_path / f"alone{i}", splits=splits)
    assert_same_run(tmp_path / f"alone{i}", together[i])
  assert_usable(together[1], splits)


def assert_usable(folder, splits):
  """A member embeds as it was scored, and has a threshold."""
  run = inference.load(folder)
  points = run.embed(splits.validation)
  np.testing.assert_array_equal(points, run.validation.points)
  assert np.isfinite(run.verify(points, points, far=0.1).threshold.distance)


@pytest.mark.slow
def test_a_member_that_diverges_leaves_the_others(splits, tmp_path):
  configs = members_of(
    [{"optimizer__learning_rate": rate} for rate in (1e-3, 1e30, 2e-3)],
    loss__name="contrastive_inverse",
    normalize="none",
    train__steps=3,
  )
  workdirs = [tmp_path / str(i) for i in range(3)]
  results = train_population(configs, workdirs, splits)
  assert "not finite at step" in results[1]["diverged"]
  assert run_files.read_json(workdirs[1] / run_files.RESULT) == results[1]
  train(configs[2], tmp_path / "alone", splits=splits)
  assert_same_run(tmp_path / "alone", workdirs[2])


@pytest.mark.slow
def test_a_member_whose_embeddings_are_not_finite_leaves_the_others(
  splits, tmp_path, monkeypatch
):
  configs = members_of(NUMBERS, loss__name="contrastive", train__steps=3)
  workdirs = [tmp_path / str(i) for i in range(2)]
  embed, calls = recorder.embed_all, iter((True, False))

  def sick_once(*args):
    points = embed(*args)
    return points * np.nan if next(calls, False) else points

  monkeypatch.setattr(recorder, "embed_all", sick_once)
  results = train_population(configs, workdirs, splits)
  assert "embeddings of validation" in results[0]["diverged"]
  assert run_files.read_json(workdirs[0] / run_files.RESULT) == results[0]
  assert run_files.read_json(workdirs[1] / run_files.RESULT) == results[1]
  assert results[1]["members"] == 2


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
  """Two members without interruption: their configs and their folders."""
  configs = members_of(NUMBERS, loss__name="contrastive")
  folder = tmp_path_factory.mktemp("whole")
  workdirs = [folder / str(i) for i in range(2)]
  train_population(configs, workdirs, splits)
  return configs, workdirs


def assert_resumed(resumed, whole):
  """Resumed runs equal uninterrupted ones, to the bit."""
  for one, other in zip(resumed, whole, strict=True):
    metrics = [(w / run_files.METRICS).read_text() for w in (one, other)]
    assert metrics[0] == metrics[1]
    arrays = [
      run_files.read_arrays(w / run_files.EMBEDDINGS) for w in (one, other)
    ]
    np.testing.assert_array_equal(*(a["test_embeddings"] for a in arrays))
    names = [{p.name for p in w.rglob("*")} for w in (one, other)]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_saves_all_members_says_so_and_ends(
  number, status, whole, splits, tmp_path, signal_at, monkeypatch, capsys
):
  configs, undisturbed = whole
  workdirs = [tmp_path / str(i) for i in range(2)]
  signal_at(4, number)
  with (
    pytest.raises(SystemExit) as stopped,
    cli.explained(),
    stopping.signals_wait(),
  ):
    train_population(configs, workdirs, splits)
  assert stopped.value.code == status
  assert "stopped after step 4 and saved" in capsys.readouterr().err
  for workdir in workdirs:
    assert (workdir / "checkpoints" / "4.stopped.safetensors").exists()
  monkeypatch.undo()
  train_population(configs, workdirs, splits)
  assert "from step 4:" in (workdirs[1] / "train.log").read_text()
  assert_resumed(workdirs, undisturbed)


@pytest.mark.slow
def test_a_population_goes_on_from_the_last_step_that_all_have(
  whole, splits, tmp_path
):
  configs, undisturbed = whole
  cut = [tmp_path / str(i) for i in range(2)]
  for workdir, source in zip(cut, undisturbed, strict=True):
    shutil.copytree(source, workdir)
    (workdir / run_files.RESULT).unlink()
  # Killed between the two, when the first had saved step 6.
  (cut[1] / "checkpoints" / "6.safetensors").unlink()
  train_population(configs, cut, splits)
  for workdir in cut:
    assert "from step 3:" in (workdir / "train.log").read_text()
  assert_resumed(cut, undisturbed)


def test_of_steps_that_all_have_the_newest_is_gone_on_from():
  def run(*steps):
    checkpoints = types.SimpleNamespace(
      reached=lambda: list(steps),
      restore_step=lambda step, like: {"step": step},
      delete_after=lambda step: None,
    )
    one = mock.Mock(spec=recorder.Recorder, checkpoints=checkpoints)
    one.first_state = lambda: {"step": 0}
    return one

  found = population._restore([run(9, 6, 3), run(6, 3)])
  assert found == (6, [{"step": 6}] * 2)


def test_members_that_differ_in_more_are_refused(splits, tmp_path):
  configs = members_of([{"metric.name": "l1"}, {"metric.name": "l2"}])
  with pytest.raises(InputError, match="only in traced numbers and seeds"):
    train_population(configs, [tmp_path / "0", tmp_path / "1"], splits)
  assert not list(tmp_path.iterdir())
