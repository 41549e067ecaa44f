"""Rows of a study: claimed by one process, shared by two, on all devices."""

import contextlib
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import filelock
import numpy as np
import pytest

from experiments import cli
from metric_learning import InputError, data
from metric_learning.data import feeds, loaded
from metric_learning.study import (
  launchers,
  make_specs,
  run_study,
  runner,
)
from metric_learning.study.launchers import claims, local
from metric_learning.training import recorder, run_files, step
from metric_learning.training.config import from_dict, override
from metric_learning.training.embedding import embed_run
from tests.quick import QUICK_FLAGS
from tests.tiny import tiny_config

ROOT = Path(__file__).parents[2]
# Adam divides by the size of a gradient: of small ones it keeps the rounding.
CONFIG = tiny_config(
  loss__name="contrastive",
  optimizer__name="sgd",
  train__steps=2,
  train__eval_every=2,
  train__save_every=2,
)


def sweep(margins, rates=(1e-2,), seeds=(0,)):
  for margin in margins:
    for rate in rates:
      for seed in seeds:
        yield {
          "loss.margin": margin,
          "optimizer.learning_rate": rate,
          "seed": seed,
        }


@pytest.fixture(autouse=True)
def train_alone(monkeypatch):
  """Trains without scores, which take longer than two steps."""
  monkeypatch.setattr(runner, "write_baselines", lambda *_: None)
  monkeypatch.setattr(recorder, "score", lambda *_: {"own/map_at_r": 0.0})


def results_of(folder):
  """The embeddings of each finished row, by name."""
  found = {}
  for path in folder.glob("runs/*/result.json"):
    config = from_dict(run_files.read_json(path.parent / run_files.CONFIG))
    embed_run(config, path.parent, loaded.load_once(config.data))
    arrays = run_files.read_arrays(path.parent / run_files.EMBEDDINGS)
    found[path.parent.name] = arrays["test_embeddings"]
  return found


def times_finished(folder):
  return [
    path.read_text().count(" finished\n")
    for path in folder.glob("runs/*/train.log")
  ]


class NoCheckpoints:
  """Stores only scores: files take most of the time of two steps."""

  def __init__(self, folder, *, run, lower_is_better):
    self.scores = {}
    self.restore = lambda like: None
    self.close = lambda: None
    self.keep_only = lambda steps: None
    self.forget_stopped = lambda: None
    self.steps = lambda: list(self.scores)
    self.record = lambda step: {"score": self.scores[step]}

  def save(self, step, state, score, seconds, metrics):
    self.scores[step] = score


@pytest.mark.slow
def test_a_sweep_over_numbers_and_seeds_compiles_its_step_once(
  tmp_path, monkeypatch
):
  """Two margins × two learning rates × two seeds."""
  monkeypatch.setattr(step, "_PROGRAMS", {})
  monkeypatch.setattr(recorder, "Checkpoints", NoCheckpoints)
  monkeypatch.setattr(recorder, "embed_all", lambda *_: np.zeros((1, 1)))
  rows = make_specs(CONFIG, sweep((0.2, 1.0), (1e-4, 1e-2), range(2)))
  run_study(CONFIG, rows, tmp_path)
  assert len(list(tmp_path.glob("runs/*/result.json"))) == len(rows) == 8
  programs = {
    step.program_of(row.config, spec).step
    for row in rows
    for spec in [loaded.load_once(row.config.data).train.input_spec]
  }
  (one,) = programs
  assert step.compiled(one, feeds.gather_resident, None)._cache_size() == 1


def test_images_are_read_once_for_all_folds_and_batches(monkeypatch):
  monkeypatch.setattr(loaded, "_WHOLE", {})
  read, load = [], data.load
  monkeypatch.setattr(
    loaded, "load", lambda config: read.append(config) or load(config)
  )
  folds = [
    {"data.validation_folds": 2, "data.validation_fold": fold}
    for fold in range(2)
  ]
  others = [
    {"batch.images_per_class": 2},
    {"data.train_on": "train+validation"},
  ]
  for fields in ({}, *folds, *others):
    config = override(CONFIG, fields)
    found, wanted = loaded.load_once(config.data), load(config.data)
    assert found.validation_seen == wanted.validation_seen
    for part in ("train", "validation", "test"):
      one, other = getattr(found, part), getattr(wanted, part)
      np.testing.assert_array_equal(one.inputs, other.inputs)
      np.testing.assert_array_equal(one.labels, other.labels)
    assert loaded.load_once(config.data) is found
  assert len(read) == 1


@pytest.mark.slow
def test_a_row_of_another_process_is_waited_for(tmp_path, monkeypatch):
  monkeypatch.setattr(runner, "_PATIENCE", 0.01)
  rows = make_specs(CONFIG, sweep((0.5, 1.0, 1.5)))
  theirs = tmp_path / "runs" / rows[1].name
  theirs.mkdir(parents=True)
  thread = threading.Thread(target=run_study, args=(CONFIG, rows, tmp_path))
  with filelock.FileLock(theirs / ".lock"):
    thread.start()
    while len(list(tmp_path.glob("runs/*/result.json"))) < 2:
      thread.join(0.05)
      assert thread.is_alive()
    thread.join(0.1)
    assert thread.is_alive()
    assert not (theirs / run_files.CONFIG).exists()
  thread.join()
  assert times_finished(tmp_path) == [1, 1, 1]


@pytest.mark.slow
def test_two_at_once_train_each_row_once(tmp_path, monkeypatch):
  """A lock belongs to an open file: two threads compete like two processes."""
  monkeypatch.setattr(runner, "_PATIENCE", 0.01)
  rows = make_specs(CONFIG, sweep((0.2, 0.4, 0.6, 0.8)))
  both, serial = tmp_path / "both", tmp_path / "serial"
  threads = [
    threading.Thread(target=run_study, args=(CONFIG, rows, both))
    for _ in range(2)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  run_study(CONFIG, rows, serial)
  assert times_finished(both) == [1, 1, 1, 1]
  found, expected = results_of(both), results_of(serial)
  assert found.keys() == expected.keys()
  for name, points in expected.items():
    np.testing.assert_array_equal(found[name], points)


def test_groups_hold_what_differs_in_numbers_and_seeds():
  rows = make_specs(
    CONFIG,
    [
      {"metric.name": metric, "loss.margin": margin, "seed": seed}
      for metric in ("l1", "l2")
      for margin in (0.5, 1.0)
      for seed in (0, 1)
    ],
  )
  groups = claims.groups_of(rows, members=3)
  assert [len(group) for group in groups] == [3, 1, 3, 1]
  for group in groups:
    assert len({row.overrides["metric.name"] for row in group}) == 1
  assert [len(g) for g in claims.groups_of(rows, members=1)] == [1] * 8


def test_a_row_that_was_finished_a_moment_ago_is_not_claimed(
  tmp_path, monkeypatch
):
  """Another process finishes it between the two looks at its result."""
  rows, held = make_specs(CONFIG, sweep((0.5,))), claims.holding.held

  @contextlib.contextmanager
  def finished(folder):
    with held(folder):
      (folder / run_files.RESULT).touch()
      yield

  monkeypatch.setattr(claims.holding, "held", finished)
  with contextlib.ExitStack() as ours:
    assert claims.claim(rows, tmp_path, ours) == []


@pytest.mark.parametrize(
  ("saved", "groups"),
  [
    # Checkpoints are two steps apart.
    ([[], ["20"], []], [[0, 2], [1]]),
    ([["2", "4"], ["4", "6"], ["4"]], [[0, 1, 2]]),  # Killed in a save.
    ([["2"], [], []], [[0, 1, 2]]),  # Killed in the first save.
    ([["2", "4"], ["8", "10"], ["2", "4"]], [[0, 2], [1]]),
    ([["2", "3.stopped"], ["2", "4"], ["2", "3.stopped"]], [[0, 1, 2]]),
    ([["1.stopped"], ["2"], ["1.stopped"]], [[0, 2], [1]]),
  ],
)
def test_a_population_goes_back_by_one_save_at_most(saved, groups, tmp_path):
  """So that it is the same population again after a kill."""
  rows = make_specs(CONFIG, sweep((0.5, 1.0, 1.5)))
  for row, names in zip(rows, saved, strict=True):
    folder = tmp_path / "runs" / row.name / "checkpoints"
    folder.mkdir(parents=True)
    for name in names:
      (folder / f"{name}.safetensors").touch()
    for other in (".30.safetensors-cut", "best.safetensors"):
      (folder / other).touch()
  expected = [[rows[i] for i in group] for group in groups]
  assert claims.as_far(rows, tmp_path) == expected


# Two devices, simulated: a process has as many as it begins with.
TWO_DEVICES = """
import jax
from pathlib import Path
from metric_learning.study import make_specs, run_study, runner
from metric_learning.study.launchers import local
from metric_learning.training import population, recorder
from tests.study.test_launchers import CONFIG, sweep

runner.write_baselines = lambda *_: None
recorder.score = lambda *_: {{"own/map_at_r": 0.0}}
used, train_group = [], local.train_group
shards = set()

def noted(*args):
  device = jax.config.jax_default_device
  used.append(None if device is None else device.id)
  return train_group(*args)

local.train_group = noted
step_of = population.step_of

def watched(*program, **options):
  step = step_of(*program, **options)
  def stepped(state, *rest):
    leaf = jax.tree.leaves(state)[0]
    shards.add((len(leaf.sharding.device_set), leaf.is_fully_replicated))
    return step(state, *rest)
  return stepped

population.step_of = watched
rows = make_specs(CONFIG, sweep((0.5, 1.0, 1.5)))
for together in ("off", "on"):
  run_study(CONFIG, rows, Path("{folder}", together), population=together)
assert shards == {{(2, False)}}, shards  # Each has its share of the members.
assert set(used[:3]) == {{0, 1}} and used[3:] == [None], used
"""


@pytest.mark.slow
def test_several_devices(tmp_path):
  flags = f"{QUICK_FLAGS} --xla_force_host_platform_device_count=2"
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", TWO_DEVICES.format(folder=tmp_path)],
    cwd=ROOT,
    env={
      **os.environ,
      "XLA_FLAGS": flags,
      "JAX_PLATFORMS": "cpu",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  rows = make_specs(CONFIG, sweep((0.5, 1.0, 1.5)))
  run_study(CONFIG, rows, tmp_path / "serial")
  expected = results_of(tmp_path / "serial")
  for population in ("off", "on"):
    found = results_of(tmp_path / population)
    assert found.keys() == expected.keys()
    for name, points in expected.items():
      np.testing.assert_allclose(found[name], points, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"launcher": "slurm"}, "slurm.*local"),
    ({"population": "yes"}, "yes.*auto"),
    ({"members": 0}, "at least 1"),
  ],
)
def test_what_is_not_there_is_refused(options, said, tmp_path):
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(InputError, match=said):
    run_study(CONFIG, rows, tmp_path / "study", **options)
  assert not (tmp_path / "study").exists()


def test_without_ray_its_extra_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(InputError, match=r"pip install -e '\.\[ray\]'"):
    run_study(CONFIG, rows, tmp_path / "study", launcher="ray")
  assert not (tmp_path / "study").exists()


def test_a_launcher_is_added_by_its_function_and_one_entry(
  tmp_path, monkeypatch
):
  seen = []

  def launch(groups, folder, report, *, times=1):
    seen.append((len(groups), times))
    local.launch(groups, folder, report)

  entry = launchers.Launcher(
    launch,
    "as it is here",
    lambda: seen.append("started"),
    {"times": launchers.Option(int, "How often.", 1)},
  )
  monkeypatch.setitem(launchers.LAUNCHERS, "here", entry)
  given = {"launcher": "here", "population": "off", "members": 1, "times": 2}
  given["gpus_per_run"] = None
  flags = {k: types.SimpleNamespace(value=v) for k, v in given.items()}
  options = cli.launch_options(flags)
  assert options.keys() == {"launcher", "population", "members", "times"}
  specs = make_specs(CONFIG, [{"seed": 0}])
  run_study(CONFIG, specs, tmp_path, **options)
  assert seen == ["started", "started", (1, 2)]
  assert len(times_finished(tmp_path)) == 1
  for name, value, said in (
    ("gpus_per_run", 1.0, "--gpus_per_run is an option of --launcher=ray"),
    ("launcher", "hree", "unknown launcher 'hree'; did you mean 'here'"),
    ("launcher", "local", "--times is an option of --launcher=here"),
  ):
    flags = {k: types.SimpleNamespace(value=v) for k, v in given.items()}
    flags[name].value = value
    with pytest.raises(InputError, match=said):
      cli.launch_options(flags)
