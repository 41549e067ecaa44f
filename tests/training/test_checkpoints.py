"""Checkpoints are exact and verified; restoring skips damaged ones."""

import errno
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.models import weights
from metric_learning.training import checkpoints as checkpoints_file
from metric_learning.training.checkpoints import (
  Checkpoints,
  DamagedError,
  digest_of,
)


def opened_in(folder, *, lower_is_better=False, run="this run"):
  return Checkpoints(folder, run=run, lower_is_better=lower_is_better)


def state_of(value):
  return {"params": {"w": jnp.full((64, 64), value)}, "count": jnp.int32(value)}


def file_of(folder, step):
  return folder / f"{step}.safetensors"


def test_restores_the_newest_exactly(tmp_path):
  checkpoints = opened_in(tmp_path)
  for step in (1, 2):
    checkpoints.save(step, state_of(step / 3), score=0.5)
  step, state = checkpoints.restore(state_of(0.0))
  assert step == 2
  assert digest_of(state) == digest_of(state_of(2 / 3))


@pytest.mark.parametrize(
  ("lower_is_better", "kept"), [(False, [4, 3, 1]), (True, [4, 3, 2])]
)
def test_keeps_the_newest_two_and_the_best(tmp_path, lower_is_better, kept):
  checkpoints = opened_in(tmp_path, lower_is_better=lower_is_better)
  for step, score in enumerate((0.9, 0.1, 0.5, 0.6), start=1):
    checkpoints.save(step, state_of(step), score)
  assert checkpoints.steps() == kept
  assert checkpoints.record(kept[-1])["score"] == (
    0.1 if lower_is_better else 0.9
  )


def test_nothing_to_restore(tmp_path):
  checkpoints = opened_in(tmp_path)
  assert checkpoints.restore(state_of(0.0)) is None


def test_checkpoints_of_an_earlier_version_are_refused(tmp_path):
  (tmp_path / "20" / "state").mkdir(parents=True)
  checkpoints = opened_in(tmp_path)
  with pytest.raises(InputError, match=r"earlier version .* \(20\): continue"):
    checkpoints.restore(state_of(0.0))


def flip_bit(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


DAMAGES = {
  "a bit of a weight": lambda path: flip_bit(path, -9),
  "the length of the header": lambda path: flip_bit(path, 7),
  "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
  "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:10]),
  "empty": lambda path: path.write_bytes(b""),
  "a list": lambda path: path.write_bytes(b"\2" + bytes(7) + b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_falls_back_from_a_damaged_checkpoint(tmp_path, damage):
  rng = np.random.default_rng(0)
  states = [{"w": jnp.asarray(rng.normal(size=(64, 64)))} for _ in range(2)]
  checkpoints = opened_in(tmp_path)
  for step, state in enumerate(states):
    checkpoints.save(step, state, 0.5)
  damage(file_of(tmp_path, 1))
  again = opened_in(tmp_path)
  with pytest.raises(DamagedError, match="checkpoint 1"):
    again.restore_step(1, states[0])
  step, state = again.restore(states[0])
  assert step == 0
  np.testing.assert_array_equal(state["w"], states[0]["w"])
  assert again.steps() == [0]


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
  """A folder with the checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp("two")
  checkpoints = opened_in(folder)
  for step in (1, 2):
    checkpoints.save(step, state_of(step), 0.5)
  return folder


@pytest.fixture
def opened(two_steps, tmp_path):
  """Those checkpoints, for tests that damage them."""
  shutil.copytree(two_steps, tmp_path / "here")
  checkpoints = opened_in(tmp_path / "here")
  yield checkpoints, tmp_path / "here"


def test_no_bit_of_a_file_can_flip_unnoticed(tmp_path):
  state = {"key": jax.random.key(3), "w": jnp.arange(3.0)}
  checkpoints = opened_in(tmp_path)
  checkpoints.save(1, state, 0.5, seconds=2.0)
  path = file_of(tmp_path, 1)
  whole = path.read_bytes()
  assert len(whole) < 1000
  for place in range(len(whole)):
    flip_bit(path, place)
    with pytest.raises(DamagedError):
      checkpoints.restore_step(1, state)
    path.write_bytes(whole)
  assert digest_of(checkpoints.restore_step(1, state)) == digest_of(state)


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError("no memory"),
  ],
  ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_read_is_kept(opened, monkeypatch, error):
  checkpoints, _ = opened

  def fail(*arguments):
    raise error

  with monkeypatch.context() as patched:
    patched.setattr(Path, "open", fail)
    with pytest.raises(InputError, match="not known to be damaged and is kep"):
      checkpoints.restore(state_of(0))
  assert checkpoints.steps() == [2, 1]


def test_a_state_of_another_shape_is_no_damage(opened):
  checkpoints, _ = opened
  more_classes = {"params": {"w": jnp.zeros((65, 64))}, "count": jnp.int32(0)}
  with pytest.raises(
    InputError, match=r"params/w .*\(64, 64\) there.*\(65, 64\) now"
  ):
    checkpoints.restore(more_classes)
  other_type = {"params": {"w": jnp.zeros((64, 64))}, "count": jnp.float32(0)}
  with pytest.raises(InputError, match=r"count is int32 .* float32"):
    checkpoints.restore(other_type)
  with pytest.raises(InputError, match=r"count is int32 .* missing now"):
    checkpoints.restore({"params": {"w": jnp.zeros((64, 64))}})
  assert checkpoints.steps() == [2, 1]


def test_a_checkpoint_that_is_gone_is_named(opened):
  checkpoints, folder = opened
  file_of(folder, 2).unlink()
  with pytest.raises(DamagedError, match="checkpoint 2 is missing"):
    checkpoints.restore_step(2, state_of(0))
  assert checkpoints.restore(state_of(0))[0] == 1


def test_other_programs_read_the_file(opened):
  tensors = weights.read(file_of(opened[1], 2))
  np.testing.assert_array_equal(tensors["params/w"], np.full((64, 64), 2))


def test_without_a_whole_checkpoint_nothing_is_deleted(opened):
  checkpoints, folder = opened
  for step in (1, 2):
    flip_bit(file_of(folder, step), -9)
  with pytest.raises(
    InputError, match=r"2 is damaged: .* 1 is damaged: .* dele"
  ):
    checkpoints.restore(state_of(0))
  assert checkpoints.steps() == [2, 1]


def test_nan_is_never_the_best_score(tmp_path):
  for lower_is_better in (False, True):
    folder = tmp_path / str(lower_is_better)
    checkpoints = opened_in(folder, lower_is_better=lower_is_better)
    for step, score in enumerate((0.5, *3 * [float("nan")]), start=1):
      checkpoints.save(step, {"count": jnp.int32(step)}, score)
    assert checkpoints.steps() == [4, 3, 1]
    assert checkpoints.record(4)["score"] is None
    header = file_of(folder, 4).read_bytes()[8:].partition(b"}}")[0] + b"}}"
    text = json.loads(header)["__metadata__"]["record"]
    json.loads(text, parse_constant=pytest.fail)


def test_typed_keys_are_saved(tmp_path):
  state = {
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(1)),
  }
  other = state | {"key": jax.random.key(4)}
  raw = state | {"key": jax.random.key_data(state["key"])}
  assert len({digest_of(s) for s in (state, other, raw)}) == 3
  checkpoints = opened_in(tmp_path)
  checkpoints.save(1, state, 0.5)
  assert digest_of(checkpoints.restore_step(1, other)) == digest_of(state)


def test_an_array_that_other_processes_hold_is_refused(monkeypatch):
  array = jnp.zeros(3)
  spread = property(lambda _: False)
  monkeypatch.setattr(type(array), "is_fully_addressable", spread)
  digest_of({"w": array})  # Each process has all of it.
  monkeypatch.setattr(type(array), "is_fully_replicated", spread)
  with pytest.raises(InputError, match="array w is spread over several"):
    digest_of({"w": array})


def test_only_some_steps_are_kept(tmp_path):
  checkpoints = opened_in(tmp_path)
  for step, score in ((1, 0.9), (2, 0.1), (3, 0.2)):
    checkpoints.save(step, state_of(step), score)
  assert checkpoints.steps() == [3, 2, 1]
  checkpoints.keep_only({1, 3, None})
  assert checkpoints.steps() == [3, 1]


# --- Of another run, another step, or edited --------------------------------


def test_a_checkpoint_of_another_run_is_not_restored(opened):
  checkpoints, folder = opened
  other = opened_in(folder, run="another")
  with pytest.raises(DamagedError, match=r"2 cannot .* to another config"):
    other.restore_step(2, state_of(0))
  other.save(3, state_of(3), 0.9)
  assert checkpoints.restore(state_of(0))[0] == 2
  assert checkpoints.steps() == [2]


def test_a_renamed_checkpoint_is_not_that_of_its_name(opened):
  checkpoints, folder = opened
  file_of(folder, 2).rename(file_of(folder, 100))
  with pytest.raises(DamagedError, match=r"100 .* at step 2 and renamed"):
    checkpoints.restore_step(100, state_of(0))
  assert checkpoints.restore(state_of(0))[0] == 1


def rewritten(path, change, sealed):
  """Edits the record of a file, and updates its digest like the writer."""
  content = path.read_bytes()
  length = int.from_bytes(content[:8], "little")
  header = json.loads(content[8 : 8 + length])
  about = header["__metadata__"]
  about["record"] = json.dumps(change(json.loads(about["record"])))
  if sealed:
    about["seal"] = checkpoints_file._seal(about["record"])
  text = json.dumps(header).encode()
  path.write_bytes(
    len(text).to_bytes(8, "little") + text + content[8 + length :]
  )


def without(name):
  return lambda record: {k: v for k, v in record.items() if k != name}


def with_value(name, value):
  return lambda record: {**record, name: value}


EDITS = {
  "no score": without("score"),
  "no digest": without("digest"),
  "no seconds": without("seconds"),
  "no run": without("run"),
  "a score that is a text": with_value("score", "0.99"),
  "seconds that are null": with_value("seconds", None),
  "a list": lambda record: [record],
  "null": lambda record: None,
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_record_of_another_shape_is_fallen_back_from(edit, opened, caplog):
  checkpoints, folder = opened
  rewritten(file_of(folder, 2), EDITS[edit], sealed=True)
  assert checkpoints.restore(state_of(0))[0] == 1
  (said,) = caplog.messages
  assert "checkpoint 2 cannot be used: its record is damaged" in said
  assert said.endswith("Falling back.")


def test_a_score_that_was_edited_is_not_selected(opened):
  checkpoints, folder = opened
  rewritten(file_of(folder, 2), with_value("score", 0.99), sealed=False)
  with pytest.raises(DamagedError, match="its record differs"):
    checkpoints.record(2)
  assert checkpoints._best() == 1


# --- Saved on a signal ------------------------------------------------------


def test_what_a_signal_saved_is_gone_on_from_and_then_replaced(opened):
  checkpoints, _ = opened
  checkpoints.save_stopped(5, state_of(5), seconds=7.0)
  assert checkpoints.steps() == [2, 1]
  assert checkpoints.reached() == [5, 2, 1]
  step, state = checkpoints.restore(state_of(0))
  assert (step, int(state["count"])) == (5, 5)
  assert checkpoints.record(5)["seconds"] == 7.0
  checkpoints.save(6, state_of(6), 0.4)
  assert checkpoints.reached() == [6, 2]


def test_a_damaged_one_that_a_signal_saved_is_fallen_back_from(opened):
  checkpoints, folder = opened
  checkpoints.save_stopped(5, state_of(5))
  flip_bit(folder / "5.stopped.safetensors", -9)
  assert checkpoints.restore(state_of(0))[0] == 2
  assert checkpoints.reached() == [2, 1]
