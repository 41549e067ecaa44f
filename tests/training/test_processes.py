"""Two processes on one machine train one run; one of them is killed."""

import atexit
import contextlib
import functools
import os
import signal
import socket

import jax
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.training import processes, recorder, run_files, train
from tests.forks import FORKS, fork
from tests.tiny import tiny_config, tiny_scores

FIELDS = {
  "loss__name": "contrastive",
  "model__name": "tests.normed:Normed",
  "train__steps": 6,
  "train__log_every": 1,
  "train__eval_every": 2,
  "train__save_every": 2,
}
CONFIG = f"""
from tests.tiny import tiny_config

def get_config():
  return tiny_config(mesh__batch=2, **{FIELDS!r})
"""


def free_port():
  with socket.socket() as some:
    some.bind(("localhost", 0))
    return some.getsockname()[1]


def dies_at(step):
  """Kills this process after a given step."""
  log_steps = recorder.Recorder.log_steps

  def logged(self, done, steps):
    if done == step:
      os.kill(os.getpid(), signal.SIGKILL)
    return log_steps(self, done, steps)

  recorder.Recorder.log_steps = logged


def joins(index, port, dies):
  """Tells a process how to join the others."""
  os.environ["JAX_COORDINATOR_ADDRESS"] = f"localhost:{port}"
  os.environ["JAX_NUM_PROCESSES"] = "2"
  os.environ["JAX_PROCESS_ID"] = str(index)
  jax.config.update("jax_platforms", "cpu")
  recorder.score = tiny_scores
  if dies and index:
    dies_at(3)


def trains(arguments, folder, prepare):
  """Runs `experiments.train` to its end in a process of its own."""
  try:
    fork("train", arguments, folder, prepare)
  finally:
    atexit._run_exitfuncs()


@contextlib.contextmanager
def both(folder, name, *flags, dies=False):
  """Starts two processes of a run; only the first one has the folder."""
  (folder / "pair.py").write_text(CONFIG)
  port, started = free_port(), []
  for index in range(2):
    workdir = folder / ("nowhere" if index else "run")
    arguments = ["--distributed", f"--config={folder / 'pair.py'}"]
    arguments += [f"--workdir={workdir}", *(flags if index else ())]
    (says := folder / f"{name}{index}").mkdir()
    prepare = functools.partial(joins, index, port, dies)
    started.append(
      FORKS.Process(target=trains, args=(arguments, says, prepare))
    )
  for one in started:
    one.start()
  try:
    yield started
  finally:
    for one in started:
      one.kill()
      one.join()


def ended(process, seconds):
  """The exit status of a process that ends in time, else None."""
  process.join(seconds)
  return process.exitcode


def said(folder, name):
  """The output of a process."""
  return (folder / name / "err").read_text()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, monkeypatch):
  with both(tmp_path, "killed", dies=True) as (first, second):
    assert ended(second, 120) == -signal.SIGKILL
    assert ended(first, 60) == 1
  assert not (tmp_path / "run" / run_files.RESULT).exists()
  assert list((tmp_path / "run" / "checkpoints").iterdir())
  assert "another process of this run" in said(tmp_path, "killed0")

  with both(tmp_path, "again") as (first, second):
    assert ended(first, 120) == 0, said(tmp_path, "again0")
    assert ended(second, 60) == 0, said(tmp_path, "again1")
  assert not (tmp_path / "nowhere").exists()
  assert "from step 2" in (tmp_path / "run" / recorder.LOG).read_text()
  result = run_files.read_json(tmp_path / "run" / run_files.RESULT)
  monkeypatch.setattr(recorder, "score", tiny_scores)
  alone = train(tiny_config(**FIELDS), tmp_path / "alone", progress=False)
  assert result["devices"] == 2 and "devices" not in alone
  assert result["selected_step"] == alone["selected_step"]
  for part in ("train", "validation"):
    assert result[part] == pytest.approx(alone[part], rel=1e-4, abs=1e-6)
  found, expected = (
    run_files.read_arrays(tmp_path / name / run_files.EMBEDDINGS)
    for name in ("run", "alone")
  )
  for name in ("validation_embeddings", "test_embeddings"):
    np.testing.assert_allclose(
      found[name], expected[name], rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_what_one_process_is_given_otherwise_ends_both(tmp_path):
  with both(tmp_path, "other", "--config.seed=3") as started:
    assert [ended(one, 120) for one in started] == [2, 2]
  assert "seed (0 there, 3 now)" in said(tmp_path, "other1")
  assert "process 1 of the run: " in said(tmp_path, "other0")


@pytest.mark.parametrize(
  ("set_to", "message"),
  [
    ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES='two' must be a whole"),
    ({}, "Set JAX_COORDINATOR_ADDRESS=HOST:PORT"),
  ],
)
def test_processes_that_do_not_know_each_other(monkeypatch, set_to, message):
  for name, value in set_to.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(InputError, match=message):
    processes.join()
