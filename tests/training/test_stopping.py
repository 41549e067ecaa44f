"""A run belongs to one process; a signal saves it before it stops."""

import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref

import filelock
import pytest
import sqlalchemy

from experiments import cli
from metric_learning import InputError
from metric_learning.training import (
  holding,
  recorder,
  run_files,
  stopping,
  train,
)
from metric_learning.training.checkpoints import CHECKPOINTS
from tests.tiny import tiny_config

# As in test_loop.py, the tiny run is trained, and compiled once.
pytestmark = pytest.mark.xdist_group("training loop")


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
  folder = tmp_path_factory.mktemp("stopping") / "whole"
  train(tiny_config(), folder, splits=splits)
  return folder


@pytest.mark.parametrize("where", ["__del__", "weakref", "gc"])
def test_a_signal_within_the_garbage_collector_is_not_lost(where):
  """Python drops what is raised there."""
  sent = []

  def send(*_):
    if not sent:
      sent.append(where)
      os.kill(os.getpid(), signal.SIGTERM)

  made = type("Made", (), {"__del__": send} if where == "__del__" else {})()
  watch = weakref.ref(made, send) if where == "weakref" else None
  with pytest.raises(stopping.Stopped), stopping.signals_wait():
    if where == "gc":
      gc.callbacks.append(send)
    try:
      del made
      gc.collect()
    finally:
      if where == "gc":
        gc.callbacks.remove(send)
    time.sleep(10)
  assert sent == [where]
  assert watch is None or watch() is None


def test_a_signal_waits_for_the_end_of_a_connection(caplog):
  engine = sqlalchemy.create_engine("sqlite://")

  def stop(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)  # The signal is handled here.

  sqlalchemy.event.listen(engine, "reset", stop)
  with pytest.raises(stopping.Stopped), stopping.signals_wait():
    engine.connect().close()
    time.sleep(60)
  engine.dispose()
  assert not caplog.records  # Neither an error nor its traceback.


def test_a_signal_waits_for_the_end_of_an_import(tmp_path, monkeypatch):
  """Half of a module would stay behind."""
  lines = (
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM); whole = True"
  )
  (tmp_path / "told_to_stop.py").write_text(lines)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(stopping.Stopped), stopping.signals_wait():
    importlib.import_module("told_to_stop")
    time.sleep(10)
  assert sys.modules.pop("told_to_stop").whole


@pytest.mark.parametrize(
  ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_saves_says_so_and_ends(
  number, status, whole, splits, tmp_path, signal_at, monkeypatch, capsys
):
  folder = tmp_path / "run"
  signal_at(4, number)
  with (
    pytest.raises(SystemExit) as stopped,
    cli.explained(),
    stopping.signals_wait(),
  ):
    train(tiny_config(), folder, splits=splits)
  monkeypatch.undo()
  assert stopped.value.code == status
  assert "stopped after step 4 and saved" in capsys.readouterr().err
  assert (folder / CHECKPOINTS / "4.stopped.safetensors").exists()
  train(tiny_config(), folder, splits=splits)
  assert "from step 4:" in (folder / recorder.LOG).read_text()
  metrics = [(f / run_files.METRICS).read_bytes() for f in (folder, whole)]
  assert metrics[0] == metrics[1]
  names = [{p.name for p in f.rglob("*")} for f in (folder, whole)]
  assert names[0] == names[1]


def test_a_signal_at_a_step_that_is_saved_saves_no_more(
  splits, tmp_path, signal_at
):
  signal_at(3, signal.SIGTERM)
  with pytest.raises(stopping.Stopped), stopping.signals_wait():
    train(tiny_config(), tmp_path / "run", splits=splits)
  (path,) = (tmp_path / "run" / CHECKPOINTS).iterdir()
  assert path.name == "3.safetensors"


def test_where_nothing_trains_a_signal_stops_at_once():
  before = signal.getsignal(signal.SIGTERM)
  with (
    pytest.raises(stopping.Stopped) as stopped,
    stopping.signals_wait(),
  ):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
  assert stopped.value.status == 143
  assert signal.getsignal(signal.SIGTERM) is before
  assert not stopping.asked()


def test_a_second_signal_does_not_wait(capfd):
  with (
    pytest.raises(stopping.Stopped),
    stopping.signals_wait(),
    stopping.heeded(),
  ):
    os.kill(os.getpid(), signal.SIGINT)
    assert stopping.asked() == signal.SIGINT
    os.kill(os.getpid(), signal.SIGINT)
    pytest.fail("it waited")
  assert "stopping after this step" in capfd.readouterr().err


def test_a_run_after_a_signal_does_not_begin(splits, tmp_path):
  with pytest.raises(stopping.Stopped), stopping.signals_wait():
    with pytest.raises(stopping.Stopped), stopping.heeded():
      os.kill(os.getpid(), signal.SIGTERM)
    train(tiny_config(), tmp_path / "run", splits=splits)
  assert not (tmp_path / "run" / run_files.METRICS).exists()


# --- The folder of a run ----------------------------------------------------

HOLD = """
import fcntl, json, os, sys, time
folder = sys.argv[1]
file = open(folder + "/.lock", "w")
fcntl.flock(file, fcntl.LOCK_EX)
who = {"process": os.getpid(), "host": "node7"}
open(folder + "/.holder", "w").write(json.dumps(who))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_trains_and_a_dead_one_holds_nothing(
  whole, splits, tmp_path
):
  folder = shutil.copytree(whole, tmp_path / "run")
  (folder / run_files.RESULT).unlink()
  command = [sys.executable, "-S", "-c", HOLD, str(folder)]
  with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"held\n"
    said = rf"{folder} is in use by process {process.pid} on node7: wait"
    with pytest.raises(holding.HeldError, match=said):
      train(tiny_config(), folder, splits=splits)
    assert not (folder / run_files.RESULT).exists()
    process.kill()
    process.wait()
    # What it left is there, and nobody holds it.
    assert (folder / ".holder").exists()
    train(tiny_config(), folder, splits=splits)
  assert (folder / run_files.RESULT).exists()


def test_who_holds_it_may_be_unknown(tmp_path):
  for said in ("", "[]", "{}", '{"process": "x", "host": 1}'):
    (tmp_path / ".holder").write_text(said)
    with (
      filelock.FileLock(tmp_path / ".lock"),
      pytest.raises(InputError, match="in use by another process"),
      holding.held(tmp_path),
    ):
      pytest.fail("held twice")


def test_one_thread_may_hold_it_twice(tmp_path):
  other = filelock.FileLock(tmp_path / ".lock")
  with holding.held(tmp_path):
    with holding.held(tmp_path):
      pass
    # Left once, it is still held.
    with pytest.raises(filelock.Timeout):
      other.acquire(blocking=False)
  with other.acquire(blocking=False):
    assert other.is_locked


def test_without_locks_it_is_said(tmp_path, monkeypatch, caplog):
  def missing(self, **options):
    raise NotImplementedError

  monkeypatch.setattr(filelock.FileLock, "acquire", missing)
  with holding.held(tmp_path):
    pass
  assert "a file system without locks" in caplog.text
