"""One run: its files, its seed, killed and resumed."""

import dataclasses
import json
import shutil
import time
import types

import jax
import numpy as np
import pytest

from metric_learning import InputError, data, evaluation
from metric_learning.data.feeds import gather_resident
from metric_learning.training import (
  NotFiniteError,
  loop,
  recorder,
  run_files,
  train,
)
from metric_learning.training.embedding import embed_all
from metric_learning.training.plan import make_plan
from metric_learning.training.step import compiled
from tests.forks import FORKS
from tests.tiny import tiny_config

# As in test_selection.py, the tiny run is trained, and compiled once.
pytestmark = pytest.mark.xdist_group("training loop")


@pytest.fixture(scope="module")
def finished(splits, tmp_path_factory):
  folder = tmp_path_factory.mktemp("finished") / "run"
  return folder, train(tiny_config(), folder, splits=splits)


def metrics_of(folder):
  return (folder / run_files.METRICS).read_text()


@pytest.mark.parametrize(
  ("loss", "metric"), [("pair_bce", "l1"), ("contrastive", "mahalanobis")]
)
def test_points_projected_after_normalization_are_scored(
  loss, metric, splits, tmp_path
):
  config = tiny_config(
    loss__name=loss, metric__name=metric, normalize="l2", train__steps=3
  )
  result = train(config, tmp_path, splits=splits)
  assert result["normalize"] == "none"
  assert 0 < result["validation"]["own/map_at_r"] <= 1
  embeddings = run_files.read_arrays(tmp_path / "embeddings.npz")
  norms = np.linalg.norm(embeddings["test_embeddings"], axis=1)
  assert np.abs(norms - 1).max() > 1e-3


@pytest.mark.slow
def test_a_run_leaves_its_files(finished):
  folder, result = finished
  names = {path.name for path in folder.iterdir()}
  assert names >= {
    "config.json",
    "environment.json",
    "inputs.json",
    "metrics.jsonl",
    "checkpoints",
    "embeddings.npz",
    "result.json",
    "train.log",
  }
  assert run_files.read_json(folder / "result.json") == result
  environment = run_files.read_json(folder / "environment.json")
  assert environment["versions"]["jax"] == jax.__version__


def test_the_last_step_is_scored_and_logged_too():
  config = tiny_config(train__steps=7, train__eval_every=3, train__log_every=2)
  steps = range(1, 8)
  assert [n for n in steps if loop.is_evaluated(config, n)] == [3, 6, 7]
  assert [n for n in steps if loop.is_logged(config, n)] == [2, 3, 4, 6, 7]


@pytest.mark.slow
def test_each_step_draws_its_own_augmentation(splits):
  config = tiny_config(augment__shift=0.3)
  plan = make_plan(config, splits)
  shared = splits.train.inputs, splits.train.labels
  step = compiled(plan.program.step, gather_resident)
  own, key = (np.arange(20), None), jax.random.key(0)
  losses = []
  for number in (0, 0, 1):
    state = plan.program.init(0, 10, plan.numbers)
    _, values = step(state, number, shared, own, key, plan.numbers)
    losses.append(float(values.named()["loss"]))
  assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_scores_are_those_of_the_embeddings_on_disk(finished):
  folder, result = finished
  arrays = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  again = evaluation.retrieval(
    arrays["validation_embeddings"],
    arrays["validation_labels"],
    metric=result["metric"],
  )
  assert result["validation"]["own/map_at_r"] == again["map_at_r"]
  assert not any("test" in name for name in result)


@pytest.mark.slow
def test_validation_leaves_out_what_nobody_asks_for(finished):
  _, result = finished
  assert {"own/map_at_r", "geometry/alignment"} <= result["validation"].keys()
  assert not any("eer" in name for name in result["validation"])


@pytest.mark.slow
def test_training_moves_the_score(splits, tmp_path):
  config = tiny_config(
    train__steps=60,
    train__eval_every=60,
    train__save_every=60,
    optimizer__learning_rate=0.01,
  )
  start = train(
    tiny_config(
      train__steps=1,
      train__eval_every=1,
      train__save_every=1,
      optimizer__learning_rate=1e-12,
    ),
    tmp_path / "start",
    splits=splits,
  )
  end = train(config, tmp_path / "end", splits=splits)
  score = "own/map_at_r"
  assert end["validation"][score] > start["validation"][score] + 0.1
  assert end["train"]["train/loss"] < start["train"]["train/loss"]


def test_a_finished_run_is_left_as_it_is(finished, splits):
  folder, result = finished
  before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
  assert train(tiny_config(), folder, splits=splits) == result
  after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
  assert after == before


@pytest.mark.slow
def test_the_seed_fixes_everything(finished, splits, tmp_path):
  folder, _ = finished
  train(tiny_config(), tmp_path / "again", splits=splits)
  train(tiny_config(seed=1), tmp_path / "other", splits=splits)
  assert metrics_of(tmp_path / "again") == metrics_of(folder)
  assert metrics_of(tmp_path / "other") != metrics_of(folder)


def test_a_workdir_of_another_config_is_refused(finished, splits):
  folder, _ = finished
  with pytest.raises(InputError, match=r"seed \(0 there, 7 now\)"):
    train(tiny_config(seed=7), folder, splits=splits)


def test_a_workdir_that_cannot_be_written_is_refused(splits, tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(InputError, match="cannot be written"):
    train(tiny_config(), tmp_path / "file" / "run", splits=splits)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(splits, tmp_path):
  config = tiny_config(
    loss__name="contrastive_inverse",
    normalize="none",
    optimizer__name="sgd",
    optimizer__learning_rate=1e30,
  )
  with pytest.raises(NotFiniteError, match=r"at step [23]: .*no checkpoint"):
    train(config, tmp_path / "run", splits=splits)
  assert not (tmp_path / "run" / run_files.RESULT).exists()


def test_embeddings_that_are_not_finite_stop_the_run(
  splits, monkeypatch, tmp_path
):
  sick = lambda program, state, images: np.full((len(images), 4), np.nan)
  monkeypatch.setattr(recorder, "embed_all", sick)
  with pytest.raises(NotFiniteError, match="at step 3: embeddings of valid"):
    train(tiny_config(), tmp_path / "run", splits=splits)


@pytest.mark.slow
def test_margins_in_units_of_the_initial_mean(splits, tmp_path):
  overrides = dict(
    loss__name="contrastive", margin_unit="initial_mean", loss__margin=2.0
  )
  config = tiny_config(**overrides)
  result = train(config, tmp_path / "run", splits=splits)
  # The mean over five seeds, from embeddings, in float64.
  program = make_plan(config, splits).program
  chosen = np.random.default_rng(0).permutation(len(splits.train.labels))
  means = []
  for seed in range(5):
    state = program.init(seed, 10, {"loss.margin": 1.0})
    points = embed_all(
      program, state, splits.train.inputs[chosen[:512]]
    ).astype(float)
    apart = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
    means.append(apart[np.triu_indices(len(points), 1)].mean())
  np.testing.assert_allclose(
    result["initial_mean_distance"], np.mean(means), rtol=1e-5
  )
  np.testing.assert_allclose(
    result["numbers"]["loss.margin"], 2 * np.mean(means), rtol=1e-5
  )
  other = tiny_config(**overrides, seed=9)
  assert make_plan(other, splits).numbers == result["numbers"]


@pytest.mark.slow
def test_learned_parts_train_at_their_own_rate(splits):
  config = tiny_config(loss__name="norm_softmax", optimizer__loss__factor=0.0)
  plan = make_plan(config, splits)
  state = plan.program.init(0, 10, plan.numbers)
  before = jax.tree.map(np.array, state["params"])
  state, _ = compiled(plan.program.step, gather_resident)(
    state,
    0,
    (splits.train.inputs, splits.train.labels),
    (np.arange(20, dtype=np.int32), None),
    jax.random.key(0),
    {k: np.float32(v) for k, v in plan.numbers.items()},
  )
  after = jax.tree.map(np.array, state["params"])
  frozen = jax.tree.map(np.array_equal, before["objective"], after["objective"])
  moved = jax.tree.map(np.array_equal, before["model"], after["model"])
  assert all(jax.tree.leaves(frozen))
  assert not any(jax.tree.leaves(moved))


def test_an_older_checkpoint_that_is_damaged_stops_nothing(
  finished, splits, tmp_path
):
  folder, result = finished
  shutil.copytree(folder, tmp_path / "run")
  (tmp_path / "run" / run_files.RESULT).unlink()
  assert result["selected_step"] == 6
  (tmp_path / "run" / "checkpoints" / "3.safetensors").write_bytes(b"")
  again = train(tiny_config(), tmp_path / "run", splits=splits)
  assert {**again, "seconds": 0} == {**result, "seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
  "options",
  [
    {"memory__size": 64},
    {"loss__name": "triplet_dynamic_soft"},
    {
      "also.center.weight": 0.1,
      "also.center.loss.rate": 0.2,
      "regularizer.name": "lp",
      "regularizer.weight": 0.01,
      "regularizer.power": 2.0,
    },
    {
      "loss__name": "margin",
      "miner.name": "distance_weighted",
      "miner.cutoff": 0.4,
    },
  ],
)
def test_what_an_objective_keeps_is_saved_and_restored(
  options, splits, tmp_path
):
  config = tiny_config(**options)
  whole, cut = tmp_path / "whole", tmp_path / "cut"
  train(config, whole, splits=splits)
  shutil.copytree(whole, cut)
  (cut / run_files.RESULT).unlink()
  (cut / "checkpoints" / "6.safetensors").unlink()
  train(config, cut, splits=splits)
  assert "from step 3:" in (cut / "train.log").read_text()
  assert metrics_of(cut) == metrics_of(whole)


@pytest.mark.slow
def test_seconds_before_a_kill_count(splits, tmp_path, monkeypatch):
  folder, clock = tmp_path / "run", iter(range(0, 100_000, 10))
  ticks = types.SimpleNamespace(perf_counter=lambda: next(clock))
  monkeypatch.setattr(recorder, "time", ticks)
  whole = train(tiny_config(), folder, splits=splits)["seconds"]
  (folder / run_files.RESULT).unlink()
  again = train(tiny_config(), folder, splits=splits)["seconds"]
  assert again >= whole


LONG = tiny_config(
  train__steps=160,
  train__log_every=5,
  train__eval_every=20,
  train__save_every=20,
)


def long_run(workdir):
  train(LONG, workdir, progress=False)


@pytest.mark.slow
def test_killed_and_resumed_equals_never_killed(tmp_path):
  killed, whole = tmp_path / "killed", tmp_path / "whole"
  process = FORKS.Process(target=long_run, args=(killed,))
  process.start()
  while process.is_alive():
    if (killed / "metrics.jsonl").exists() and any(
      '"step": 1' in line for line in metrics_of(killed).splitlines()[8:]
    ):
      break
    time.sleep(0.005)
  process.kill()
  process.join()
  assert not (killed / "result.json").exists()
  reached = run_files.read_metrics(killed)[-1]["step"]
  assert 0 < reached < 160
  long_run(killed)
  long_run(whole)
  assert metrics_of(killed) == metrics_of(whole)
  log = (killed / "train.log").read_text()
  resumed = [line for line in log.splitlines() if "from step" in line]
  assert len(resumed) == 2
  assert "from step 0:" not in resumed[1]
  a, b = (
    run_files.read_arrays(f / run_files.EMBEDDINGS) for f in (killed, whole)
  )
  np.testing.assert_array_equal(a["test_embeddings"], b["test_embeddings"])


def test_a_line_cut_short_is_left_out(tmp_path):
  metrics = run_files.Metrics(tmp_path, 0)
  metrics.write(1, {"a": 1.0})
  with (tmp_path / run_files.METRICS).open("a") as file:
    file.write('{"step": 2, "a"')
  assert run_files.read_metrics(tmp_path) == [{"step": 1, "a": 1.0}]
  run_files.Metrics(tmp_path, 1).write(2, {"a": 2.0})
  lines = metrics_of(tmp_path).splitlines()
  assert [json.loads(line)["step"] for line in lines] == [1, 2]


@pytest.mark.slow
def test_a_run_on_other_data_is_refused(splits, tmp_path):
  """Resumed or finished: training data could be in the test part now."""
  whole = tmp_path / "run"
  train(tiny_config(), whole, splits=splits)
  cut = tmp_path / "cut"
  shutil.copytree(whole, cut)
  (cut / run_files.RESULT).unlink()
  other = dataclasses.replace(
    splits, test=data.select(splits.test, np.arange(300))
  )
  message = "run on other data: test .*360 images of .* there, .*300 images of"
  for folder in (whole, cut):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message) as error:
      train(tiny_config(), folder, splits=other)
    assert "train (" not in str(error.value)
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before
  # The same data, from another array.
  copied = dataclasses.replace(splits.test, inputs=splits.test.inputs.copy())
  train(tiny_config(), cut, splits=dataclasses.replace(splits, test=copied))
  (whole / run_files.DATA).unlink()
  with pytest.raises(
    InputError, match=r"of an earlier version, without data\."
  ):
    train(tiny_config(), whole, splits=splits)
