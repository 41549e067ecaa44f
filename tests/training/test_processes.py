"""Two processes on one machine train one run; one of them is killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.training import processes, run_files, train
from tests.quick import QUICK_FLAGS
from tests.tiny import tiny_config

ROOT = Path(__file__).parents[2]
FIELDS = {
  "loss__name": "contrastive",
  "model__name": "tests.normed:Normed",
  "train__steps": 40,
  "train__log_every": 2,
  "train__eval_every": 10,
  "train__save_every": 10,
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


@contextlib.contextmanager
def both(folder, name, *flags):
  """Starts two processes of a run, of which only the first has its folder."""
  (folder / "pair.py").write_text(CONFIG)
  port, started = free_port(), []
  for index in range(2):
    workdir = folder / ("run" if index == 0 else "nowhere")
    with (folder / f"{name}{index}").open("w") as output:
      started.append(
        subprocess.Popen(
          [
            *(sys.executable, "-m", "experiments.train", "--distributed"),
            *(f"--config={folder / 'pair.py'}", f"--workdir={workdir}"),
            *(flags if index else ()),
          ],
          cwd=ROOT,
          env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": QUICK_FLAGS,
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
          },
          stdout=output,
          stderr=subprocess.STDOUT,
        )
      )
  try:
    yield started
  finally:
    for one in started:
      one.kill()
      one.wait()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
  checkpoints = tmp_path / "run" / "checkpoints"
  with both(tmp_path, "killed") as (first, second):
    patience = time.monotonic() + 120
    while not list(checkpoints.glob("*.safetensors")):
      assert time.monotonic() < patience and first.poll() is None
      time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    assert first.wait(60) == 1
  assert not (tmp_path / "run" / run_files.RESULT).exists()
  assert "another process of this run" in (tmp_path / "killed0").read_text()

  with both(tmp_path, "again") as (first, second):
    assert first.wait(120) == 0, (tmp_path / "again0").read_text()
    assert second.wait(60) == 0, (tmp_path / "again1").read_text()
  assert not (tmp_path / "nowhere").exists()
  result = run_files.read_json(tmp_path / "run" / run_files.RESULT)
  alone = train(tiny_config(**FIELDS), tmp_path / "alone", progress=False)
  assert result["devices"] == 2 and "devices" not in alone
  assert result["selected_step"] == alone["selected_step"]
  assert result["train"] == pytest.approx(alone["train"], rel=1e-4, abs=1e-6)
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
    assert [one.wait(120) for one in started] == [2, 2]
  said = [(tmp_path / f"other{index}").read_text() for index in range(2)]
  assert "seed (0 there, 3 now)" in said[1]
  assert "process 1 of the run: " in said[0]


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
