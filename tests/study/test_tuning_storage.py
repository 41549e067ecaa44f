"""Every trial runs once, whatever happens: processes, kills, storages."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from metric_learning import InputError
from metric_learning.study import (
  tuning,
)
from tests.forks import FORKS
from tests.study.searches import ONE, fake_train, near, search, trials_of


@pytest.fixture(scope="module")
def postgres():
  """The URL of an empty server on loopback."""
  pytest.importorskip("psycopg")
  found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
  initdb = shutil.which("initdb") or (found and str(found[-1]))
  if not initdb:
    pytest.skip("PostgreSQL is not installed")
  as_user = []
  if os.geteuid() == 0:  # As which the server refuses to run.
    as_user = ["runuser", "-u", "postgres", "--"]
    if subprocess.run([*as_user, "true"], capture_output=True).returncode:
      pytest.skip("PostgreSQL does not run as root, and there is no runuser")
  with (
    tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    socket.socket() as free,
  ):
    os.chmod(folder, 0o777)
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    bin, data = Path(initdb).parent, f"{folder}/data"
    quiet = dict(cwd=folder, check=True, stdout=subprocess.DEVNULL)
    make = [initdb, "-D", data, "-U", "tuner", "-A", "trust", "--no-sync"]
    subprocess.run([*as_user, *make], **quiet)
    control = [*as_user, str(bin / "pg_ctl"), "-D", data, "-w"]
    options = f"-F -p {port} -k {folder} -c listen_addresses=127.0.0.1"
    log = ["-l", f"{folder}/log", "-o", options]
    subprocess.run([*control, *log, "start"], **quiet)
    try:
      yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
    finally:
      subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def storage(request, tmp_path):
  if request.param == "postgres":
    return request.getfixturevalue("postgres")
  return str(tmp_path / "journal") if request.param == "journal" else None


def worker(folder, storage, ready, dies_at=None):
  """One of several processes; it may be killed during a trial."""

  def said(workdir):
    with (folder.parent / "trained").open("a") as file:
      file.write(f"{workdir.name}\n")
    if workdir.name == dies_at:
      os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)

  ready.wait()
  search(folder, ONE, storage, train=fake_train(near, said))


def processes(folder, storage, count, **options):
  ready = FORKS.Barrier(count)
  started = [
    FORKS.Process(target=worker, args=(folder, storage, ready), kwargs=options)
    for _ in range(count)
  ]
  for process in started:
    process.start()
  for process in started:
    process.join()
  return [process.exitcode for process in started]


@pytest.mark.slow
def test_every_trial_is_made_once_by_whoever_lives(storage, tmp_path):
  folder, trained = tmp_path / "study", tmp_path / "trained"
  (code,) = processes(folder, storage, 1, dies_at="002-fold1")
  assert code == -signal.SIGKILL
  cut = trials_of(folder, storage)
  states = [trial.state for trial in cut]
  finished, waiting = TrialState.COMPLETE, TrialState.WAITING
  assert states == [finished] * 2 + [TrialState.RUNNING] + [waiting] * 3
  trained.unlink()

  assert processes(folder, storage, 2) == [0, 0]
  each = [f"{t:03}-fold{f}" for t in range(2, 6) for f in range(2)]
  assert sorted(trained.read_text().split()) == each
  trials = trials_of(folder, storage)
  assert [trial.number for trial in trials] == list(range(6))
  assert {trial.state for trial in trials} == {finished}
  assert trials[2].params == cut[2].params

  def never(config, workdir, **_):
    raise AssertionError("a finished search trains nothing")

  before = (folder / tuning.TUNING).read_bytes()
  (cell,) = search(folder, ONE, storage, train=never)
  assert (folder / tuning.TUNING).read_bytes() == before
  best = max(trials, key=lambda trial: trial.value)
  assert cell["trials"] == 6
  assert cell["validation"] == best.value
  margin = best.params["loss.margin"]
  assert cell["chosen"]["loss.margin"] == pytest.approx(margin, abs=1e-3)
  mean = 1 - abs(cell["chosen"]["loss.margin"] - 0.7) / 2 - 0.05
  assert cell["validation"] == pytest.approx(mean)


def test_two_that_begin_at_once_make_one_study(storage, tmp_path):
  assert processes(tmp_path / "new", storage, 2) == [0, 0]
  each = [f"{t:03}-fold{f}" for t in range(6) for f in range(2)]
  assert sorted((tmp_path / "trained").read_text().split()) == each
  assert len(trials_of(tmp_path / "new", storage)) == 6


def test_trials_that_a_kill_left_out_are_put_there(tmp_path, monkeypatch):
  folder, enqueue = tmp_path / "study", optuna.Study.enqueue_trial

  def killed(study, *arguments):
    if len(study.get_trials()) == 2:
      raise KeyboardInterrupt
    enqueue(study, *arguments)

  monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
  with pytest.raises(KeyboardInterrupt):
    search(folder)
  monkeypatch.undo()
  (cell,) = search(folder)
  assert cell["trials"] == 6
  assert len(trials_of(folder)) == 6


def test_a_line_that_was_cut_is_dropped_from_a_journal(tmp_path):
  folder, path = tmp_path / "study", tmp_path / "study.journal"
  chosen = search(folder)
  (folder / tuning.TUNING).unlink()
  with path.open("ab") as file:
    file.write(b'{"op_c')
  assert search(folder) == chosen
  assert b'{"op_c\n' not in path.read_bytes()
  assert path.read_bytes().endswith(b"\n")
  # Another file without an end of line stays as it is.
  (tmp_path / "note").write_text("nothing of ours")
  with pytest.raises(InputError, match="is not a journal file"):
    search(tmp_path / "another", storage=str(tmp_path / "note"))
  assert (tmp_path / "note").read_text() == "nothing of ours"
  # Nothing but half a first line: a disk that was full from the start.
  (tmp_path / "new.journal").write_bytes(b'{"op_c')
  assert search(tmp_path / "new") == chosen


def test_a_database_that_was_half_created_is_completed(tmp_path):
  """Of two studies with one name, Optuna finds neither."""

  class Killed(BaseException):
    """A kill when an index is created."""

  def open_and_name(name):
    with tuning.storage.open_storage(f"sqlite:///{tmp_path}/{name}") as opened:
      study = optuna.create_study(storage=opened, study_name="one")
      study.tell(study.ask(), 1.0)

  def stop(connection, cursor, statement, *_):
    if "INDEX" in statement:
      seen.append(statement)
      if len(seen) == number:
        raise Killed

  open_and_name("whole")
  engine = sqlalchemy.engine.Engine
  for number in (1, 2):
    seen = []
    sqlalchemy.event.listen(engine, "before_cursor_execute", stop)
    try:
      with pytest.raises(Killed):
        open_and_name(number)
    finally:
      sqlalchemy.event.remove(engine, "before_cursor_execute", stop)
    open_and_name(number)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
      open_and_name(number)


def test_the_home_in_the_url_of_a_database_is_expanded(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  found = tuning.storage.expanded("sqlite:///~/trials.db")
  assert found == f"sqlite:///{tmp_path}/trials.db"
  with tuning.storage.open_storage(found):
    pass
  assert (tmp_path / "trials.db").exists()


def test_a_search_expands_the_home_in_its_storage(monkeypatch, tmp_path):
  opened = []

  def no_storage(where):
    opened.append(where)
    raise InputError("seen")

  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setattr(tuning.trials, "open_storage", no_storage)
  with pytest.raises(InputError, match="seen"):
    search(tmp_path / "study", storage="sqlite:///~/trials.db")
  assert opened == [f"sqlite:///{tmp_path}/trials.db"]


def test_the_lock_of_a_journal_is_found_from_anywhere(tmp_path, monkeypatch):
  """Otherwise, a process would wait forever for a broken link."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").mkdir()
  with tuning.storage.open_storage("runs/journal") as opened:
    assert Path(opened._backend._lock._lock_target_file).exists()
    assert Path(opened._backend._file_path).is_absolute()


@pytest.mark.slow
def test_a_storage_that_cannot_be_used(tmp_path, monkeypatch):
  monkeypatch.setattr(tuning.storage, "_PATIENCE", 0.05)
  path = tmp_path / "trials.db"
  search(tmp_path / "study", storage=f"sqlite:///{path}")

  def refused(storage, *said):
    with pytest.raises(InputError) as error:
      search(tmp_path / "another", storage=storage)
    for words in said:
      assert words in str(error.value)

  with contextlib.closing(sqlite3.connect(path)) as other:
    other.execute("BEGIN EXCLUSIVE")
    refused(f"sqlite:///{path}", "database is locked", "try again")
  refused(f"sqlite:///file:{path}?mode=ro&uri=true", "readonly", "permissions")
  refused(f"sqlite:///{tmp_path}/no/such.db", "unable to open")
  refused(str(tmp_path / "no" / "journal"), "No such file")
  (tmp_path / "text").write_text("not a journal\n")
  refused(str(tmp_path / "text"), "not a journal file")
  refused("nosql://user:secret@host/name", "nosql")
  with pytest.raises(InputError) as error:
    search(tmp_path / "another", storage="nosql://user:secret@host/name")
  assert "secret" not in str(error.value)
  assert not (tmp_path / "another" / tuning.SEARCH).exists()
