"""Faults while a run writes: one message, nothing lost, the same result."""

import errno
import logging
import shutil

import numpy as np
import pytest

from experiments import cli
from metric_learning.training import recorder, run_files, train
from metric_learning.training.checkpoints import CHECKPOINTS, Checkpoints
from metric_learning.training.recorder import LOG
from tests import faults
from tests.faults import Disk, Fault, Killed
from tests.tiny import tiny_config, tiny_scores

# As in test_loop.py, the tiny run is trained, and compiled once.
pytestmark = pytest.mark.xdist_group("training loop")


@pytest.fixture(scope="module", autouse=True)
def scored_at_once():
  """Trains without scores, which take longer than the steps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(recorder, "score", tiny_scores)
    yield


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
  """The undisturbed run."""
  folder = tmp_path_factory.mktemp("faults") / "whole"
  train(tiny_config(), folder, splits=splits)
  return folder


@pytest.fixture
def half(whole, tmp_path):
  """The same run, as it was after step 3 of 6."""
  folder = shutil.copytree(whole, tmp_path / "half")
  for name in (run_files.RESULT, run_files.EMBEDDINGS):
    (folder / name).unlink()
  (folder / CHECKPOINTS / "6.safetensors").unlink()
  return folder


def state_of(folder):
  """The files of a run without times; equal for equal runs."""
  result = run_files.read_json(folder / run_files.RESULT)
  arrays = run_files.read_arrays(folder / run_files.EMBEDDINGS)
  checkpoints = Checkpoints(
    folder / CHECKPOINTS,
    run=run_files.run_of(folder),
    lower_is_better=False,
  )
  return {
    "result": {**result, "seconds": 0},
    "metrics": (folder / run_files.METRICS).read_bytes(),
    "embeddings": {name: x.tobytes() for name, x in arrays.items()},
    "checkpoints": {
      step: checkpoints.record(step)["digest"] for step in checkpoints.reached()
    },
    "files": {p.name for p in folder.rglob("*")},
  }


def assert_same(folder, whole):
  one, other = state_of(folder), state_of(whole)
  for name in other:
    assert one[name] == other[name], name


RECORDS = (
  *(run_files.ENVIRONMENT, run_files.INPUTS, run_files.METRICS),
  *("6.safetensors", run_files.EMBEDDINGS, run_files.RESULT),
)
ERRORS = (errno.EIO, errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
WRITING = ("open", "write", "fsync", "rename")
# Each record, each operation and each error; all of them are for `make soak`.
FAULTS = [
  Fault(WRITING[i % len(WRITING)], name, ERRORS[i % len(ERRORS)])
  for i, name in enumerate(RECORDS)
]
FAULTS += [
  # Before a file gets its name, it is on the disk.
  Fault("fsync", run_files.RESULT),
  Fault("fsync", "6.safetensors"),
  Fault("write", "6.safetensors", errno.ENOSPC, half=True),
  Fault("write", run_files.EMBEDDINGS, errno.ENOSPC, nth=3, half=True),
  # The line of a step, after the file was opened.
  Fault("write", run_files.METRICS, errno.ENOSPC, nth=2, half=True),
]


@pytest.mark.parametrize(
  "fault", FAULTS, ids=lambda x: f"{x.name} {x.operation} {x.error} {x.nth}"
)
def test_an_error_of_the_disk_is_one_message_and_loses_nothing(
  fault, half, whole, splits, capsys
):
  with (
    pytest.raises(SystemExit) as stopped,
    cli.explained(),
    Disk(fault) as disk,
  ):
    train(tiny_config(), half, splits=splits)
  assert disk.fired
  assert stopped.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ")
  assert fault.name in line and "run the same command again" in line
  assert not (half / run_files.RESULT).exists()
  assert not list(half.rglob("*.part"))
  train(tiny_config(), half, splits=splits)
  assert_same(half, whole)


@pytest.mark.parametrize("name", [run_files.CONFIG, run_files.DATA])
def test_what_a_run_is_cannot_be_written(name, splits, tmp_path):
  with (
    pytest.raises(OSError, match=name) as raised,
    Disk(Fault("write", name, errno.EFBIG)),
  ):
    train(tiny_config(), tmp_path / "run", splits=splits)
  assert raised.value.errno == errno.EFBIG
  assert not (tmp_path / "run" / run_files.CONFIG).exists()


@pytest.mark.parametrize("operation", ["open", "write"])
def test_a_log_that_cannot_be_written_is_said_once(
  operation, half, whole, splits, caplog
):
  with caplog.at_level(logging.WARNING), Disk(Fault(operation, LOG)) as disk:
    train(tiny_config(), half, splits=splits)
  assert disk.fired
  (said,) = [r.getMessage() for r in caplog.records if LOG in r.getMessage()]
  assert "Input/output error" in said and "goes on without it" in said
  assert_same(half, whole)


def operations(half, splits):
  """The number of disk operations from step 3 to the end."""
  with Disk() as disk:
    train(tiny_config(), half, splits=splits)
  return disk.seen


def test_killed_at_each_operation_of_a_save(half, whole, splits, tmp_path):
  copy = shutil.copytree(half, tmp_path / "counted")
  seen = operations(copy, splits)
  name = "6.safetensors"
  of_save = sum(count for (_, file), count in seen.items() if file == name)
  assert of_save >= 4, seen
  for nth in range(1, of_save + 1):
    cut = shutil.copytree(half, tmp_path / f"cut{nth}")
    with pytest.raises(Killed), Disk(Fault(None, name, None, nth, half=True)):
      train(tiny_config(), cut, splits=splits)
    train(tiny_config(), cut, splits=splits)
    assert_same(cut, whole)


@pytest.mark.slow
def test_killed_at_any_operation(half, whole, splits, tmp_path):
  copy = shutil.copytree(half, tmp_path / "counted")
  count = sum(operations(copy, splits).values())
  assert count > 30
  # Each of them in turn is for `make soak`.
  for nth in range(1, count, 12):
    cut = shutil.copytree(half, tmp_path / f"cut{nth}")
    with pytest.raises(Killed), Disk(Fault(None, "", None, nth)):
      train(tiny_config(), cut, splits=splits)
    train(tiny_config(), cut, splits=splits)
    assert_same(cut, whole)


def test_killed_while_an_old_checkpoint_is_removed(splits, tmp_path):
  config = tiny_config(train__eval_every=1, train__save_every=1)
  undisturbed, cut = tmp_path / "undisturbed", tmp_path / "cut"
  train(config, undisturbed, splits=splits)
  fault = Fault("unlink", ".safetensors", None)
  with pytest.raises(Killed), Disk(fault) as disk:
    train(config, cut, splits=splits)
  assert disk.fired
  train(config, cut, splits=splits)
  assert_same(cut, undisturbed)


# --- Files that were damaged ------------------------------------------------

# Of what a run that goes on must read; and what it may find in any state.
READ = (run_files.CONFIG, run_files.DATA, run_files.METRICS)
REWRITTEN = (run_files.ENVIRONMENT, run_files.INPUTS, LOG)


# Which lines half a file has depends on the digits of times: those of the
# checkpoint, without which it is refused, or the end of the run.
TORN = tuple((run_files.METRICS, damage) for damage in ("cut", "zeros"))


@pytest.mark.parametrize(("name", "damage"), TORN)
def test_a_torn_last_line_is_mended(name, damage, half, whole, splits):
  path = half / name
  *lines, last = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(last)
  faults.DAMAGES[damage](path)
  path.write_bytes(b"".join(lines) + path.read_bytes())
  train(tiny_config(), half, splits=splits)
  assert_same(half, whole)


def test_a_folder_without_its_config_becomes_this_run(half, whole, splits):
  (half / run_files.CONFIG).unlink()
  train(tiny_config(), half, splits=splits)
  assert_same(half, whole)


@pytest.mark.parametrize(
  ("name", "damage"),
  [
    (name, damage)
    for name in READ
    for damage in faults.DAMAGES
    if (name, damage) not in (*TORN, (run_files.CONFIG, "removed"))
  ],
)
def test_a_damaged_record_of_a_run_is_refused_by_name(
  name, damage, half, splits
):
  faults.DAMAGES[damage](half / name)
  before = {p: p.read_bytes() for p in half.rglob("*.*") if p.is_file()}
  with pytest.raises(run_files.InputError, match="elete") as error:
    train(tiny_config(), half, splits=splits)
  said = "on other data" if damage == "an empty object" else name
  assert (said if name == run_files.DATA else name) in str(error.value)
  after = {p: p.read_bytes() for p in half.rglob("*.*") if p.is_file()}
  assert {p.name for p in before if after.get(p) != before[p]} <= {".holder"}


@pytest.mark.parametrize(
  ("name", "damage"),
  [*zip(REWRITTEN, ("cut", "removed", "not UTF-8"), strict=True)],
)
def test_what_nothing_reads_is_written_again(name, damage, half, whole, splits):
  faults.DAMAGES[damage](half / name)
  train(tiny_config(), half, splits=splits)
  assert_same(half, whole)


# All of them are in test_checkpoints.py.
@pytest.mark.parametrize("damage", ["cut", "zeros", "removed", "a bit"])
def test_a_damaged_checkpoint_is_fallen_back_from(
  damage, whole, splits, tmp_path, caplog
):
  folder = shutil.copytree(whole, tmp_path / "run")
  (folder / run_files.RESULT).unlink()
  harm = faults.DAMAGES.get(damage, faults.flip)
  harm(folder / CHECKPOINTS / "6.safetensors")
  train(tiny_config(), folder, splits=splits)
  assert_same(folder, whole)
  if damage != "removed":
    assert "checkpoint 6 is damaged" in caplog.text


@pytest.mark.parametrize("damage", faults.DAMAGES)
def test_a_damaged_result_is_refused(damage, whole, splits, tmp_path):
  folder = shutil.copytree(whole, tmp_path / "run")
  faults.DAMAGES[damage](folder / run_files.RESULT)
  if damage == "removed":
    train(tiny_config(), folder, splits=splits)
    assert_same(folder, whole)
    return
  with pytest.raises(run_files.InputError, match=r"result\.json .*Delete it"):
    train(tiny_config(), folder, splits=splits)


def test_the_result_of_another_run_is_refused(whole, splits, tmp_path):
  folder = shutil.copytree(whole, tmp_path / "run")
  other = tmp_path / "other"
  train(tiny_config(seed=1), other, splits=splits)
  shutil.copyfile(other / run_files.RESULT, folder / run_files.RESULT)
  with pytest.raises(run_files.InputError, match="belongs to another run"):
    train(tiny_config(), folder, splits=splits)
  # Its checkpoint, in the place of one of ours.
  (folder / run_files.RESULT).unlink()
  for step in (3, 6):
    name = f"{step}.safetensors"
    shutil.copyfile(other / CHECKPOINTS / name, folder / CHECKPOINTS / name)
  with pytest.raises(run_files.InputError, match="belongs to another config"):
    train(tiny_config(), folder, splits=splits)
  name = "3.safetensors"
  shutil.copyfile(whole / CHECKPOINTS / name, folder / CHECKPOINTS / name)
  train(tiny_config(), folder, splits=splits)
  assert_same(folder, whole)


@pytest.mark.parametrize("step", [3, 7, 100])
def test_a_renamed_checkpoint_is_another(step, whole, splits, tmp_path, caplog):
  folder = shutil.copytree(whole, tmp_path / "run")
  (folder / run_files.RESULT).unlink()
  checkpoints = folder / CHECKPOINTS
  moved = "6.safetensors" if step > 3 else "3.safetensors"
  to = step if step > 3 else 6
  (checkpoints / moved).rename(checkpoints / f"{to}.safetensors")
  if step == 3:
    with pytest.raises(run_files.InputError, match="at step 3 and renamed"):
      train(tiny_config(), folder, splits=splits)
    return
  train(tiny_config(), folder, splits=splits)
  assert f"checkpoint {to} cannot be used: it was saved at step 6" in (
    caplog.text
  )
  assert_same(folder, whole)


LINES = {
  "garbage in the middle": (1, b"garbage", "line 2: it is not a record"),
  "not UTF-8": (0, b'{"step": "\xff"}', "line 1: it is not a record"),
  "a list": (1, b"[3]", "line 2: it is a list"),
  "no step": (2, b'{"train/loss": 0.5}', "line 3: it lacks step"),
  "a text": (2, b'{"step": 4, "train/loss": "low"}', "train/loss is a text"),
  "out of order": (3, b'{"step": 1, "train/loss": 1}', "step 1 follows step"),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_damaged_line_of_metrics_is_named(kind, whole, splits, tmp_path):
  place, line, said = LINES[kind]
  folder = shutil.copytree(whole, tmp_path / "run")
  (folder / run_files.RESULT).unlink()
  path = folder / run_files.METRICS
  lines = path.read_bytes().splitlines()
  lines[place] = line
  path.write_bytes(b"\n".join(lines) + b"\n")
  with pytest.raises(run_files.InputError, match=said):
    run_files.read_metrics(folder)
  with pytest.raises(run_files.InputError, match=r"metrics\.jsonl .*Restore"):
    train(tiny_config(), folder, splits=splits)


def test_a_value_of_metrics_that_was_edited_is_noticed(half, splits):
  path = half / run_files.METRICS
  path.write_text(path.read_text().replace("0.", "1.", 1))
  with pytest.raises(run_files.InputError, match="has changed since checkp"):
    train(tiny_config(), half, splits=splits)


def test_a_diverged_run_says_so_again(half, splits):
  run_files.write_json(half / run_files.RESULT, {"diverged": "at step 3"})
  with pytest.raises(ArithmeticError, match="at step 3"):
    train(tiny_config(), half, splits=splits)


def test_the_embeddings_of_another_run_are_refused(whole, tmp_path):
  folder = shutil.copytree(whole, tmp_path / "run")
  path = folder / run_files.EMBEDDINGS
  arrays = run_files.read_own(path)
  run_files.write_json(folder / run_files.DATA, {"train": "other data"})
  with pytest.raises(run_files.InputError, match=r"npz .* another config or"):
    run_files.read_own(path)
  # An earlier version named no run.
  run_files.write_arrays(path, arrays)
  run_files.read_own(path)


def test_arrays_of_a_run_that_are_damaged_are_refused(whole, tmp_path):
  path = tmp_path / run_files.EMBEDDINGS
  arrays = run_files.read_arrays(whole / run_files.EMBEDDINGS)
  few = {k: v for k, v in arrays.items() if k != "test_labels"}
  short = {**arrays, "test_labels": arrays["test_labels"][:-1]}
  for changed, said in ((few, "lacks the array test_labels"), (short, "items")):
    run_files.write_arrays(path, changed)
    with pytest.raises(run_files.InputError, match=said):
      run_files.read_arrays(path)
  shutil.copyfile(whole / run_files.EMBEDDINGS, path)
  faults.flip(path)
  with pytest.raises(run_files.InputError, match="Bad CRC"):
    run_files.read_arrays(path)
  np.save(tmp_path / "one", np.zeros(3))
  shutil.move(tmp_path / "one.npy", path)
  with pytest.raises(run_files.InputError, match="not an npz"):
    run_files.read_arrays(path)
