"""Checkpoints: exact, verified, and fallen back from."""

import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.training import checkpoints as module
from metric_learning.training.checkpoints import (
  Checkpoints,
  DamagedError,
  digest_of,
)


def state_of(value):
  return {"params": {"w": jnp.full((64, 64), value)}, "count": jnp.int32(value)}


def largest_file(folder):
  files = [p for p in folder.rglob("*") if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def test_restores_the_newest_exactly(tmp_path):
  checkpoints = Checkpoints(tmp_path, lower_is_better=False)
  for step in (1, 2):
    checkpoints.save(step, state_of(step / 3), score=0.5)
  step, state = checkpoints.restore(state_of(0.0))
  assert step == 2
  assert digest_of(state) == digest_of(state_of(2 / 3))
  checkpoints.close()


@pytest.mark.parametrize(
  ("lower_is_better", "kept"), [(False, [4, 3, 1]), (True, [4, 3, 2])]
)
def test_keeps_the_newest_two_and_the_best(tmp_path, lower_is_better, kept):
  checkpoints = Checkpoints(tmp_path, lower_is_better=lower_is_better)
  for step, score in enumerate((0.9, 0.1, 0.5, 0.6), start=1):
    checkpoints.save(step, state_of(step), score)
  assert checkpoints.steps() == kept
  assert checkpoints.record(kept[-1])["score"] == (
    0.1 if lower_is_better else 0.9
  )
  checkpoints.close()


def test_nothing_to_restore(tmp_path):
  checkpoints = Checkpoints(tmp_path, lower_is_better=False)
  assert checkpoints.restore(state_of(0.0)) is None
  checkpoints.close()


def flip_bytes(path):
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  for i in range(middle, min(middle + 64, len(content))):
    content[i] ^= 0xFF
  path.write_bytes(content)


def truncate(path):
  path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize("damage", [flip_bytes, truncate])
def test_falls_back_from_a_damaged_checkpoint(tmp_path, damage):
  rng = np.random.default_rng(0)
  states = [{"w": jnp.asarray(rng.normal(size=(64, 64)))} for _ in range(2)]
  checkpoints = Checkpoints(tmp_path, lower_is_better=False)
  for step, state in enumerate(states):
    checkpoints.save(step, state, 0.5)
  checkpoints.close()
  damage(largest_file(tmp_path / "1" / "state"))
  again = Checkpoints(tmp_path, lower_is_better=False)
  with pytest.raises(DamagedError, match="checkpoint 1"):
    again.restore_step(1, states[0])
  step, state = again.restore(states[0])
  assert step == 0
  np.testing.assert_array_equal(state["w"], states[0]["w"])
  assert again.steps() == [0]
  again.close()


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
  """A folder with the checkpoints 1 and 2."""
  folder = tmp_path_factory.mktemp("two")
  checkpoints = Checkpoints(folder, lower_is_better=False)
  for step in (1, 2):
    checkpoints.save(step, state_of(step), 0.5)
  checkpoints.close()
  return folder


@pytest.fixture
def opened(two_steps, tmp_path):
  """Those checkpoints, to do harm to."""
  shutil.copytree(two_steps, tmp_path / "here")
  checkpoints = Checkpoints(tmp_path / "here", lower_is_better=False)
  yield checkpoints, tmp_path / "here"
  checkpoints.close()


@pytest.mark.parametrize(
  "error",
  [
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EMFILE, "Too many open files"),
    MemoryError("no memory"),
    RuntimeError("Event loop is closed"),
    KeyError("another version of Orbax"),
  ],
  ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_read_is_kept(opened, monkeypatch, error):
  checkpoints, _ = opened
  real, errors = checkpoints._manager.restore, [error]

  def restore(*arguments, **options):
    if errors:  # It passes.
      raise errors.pop()
    return real(*arguments, **options)

  monkeypatch.setattr(checkpoints._manager, "restore", restore)
  with pytest.raises(InputError, match="not known to be damaged, and is kept"):
    checkpoints.restore(state_of(0))
  assert checkpoints.steps() == [2, 1]


def test_a_disk_that_fails_while_files_are_compared_is_no_damage(
  opened, monkeypatch
):
  checkpoints, folder = opened
  flip_bytes(largest_file(folder / "2" / "state"))

  def fail(path):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))

  monkeypatch.setattr(module, "_digest_of_file", fail)
  with pytest.raises(InputError, match=r"cannot be read: .* It is kept"):
    checkpoints.restore(state_of(0))
  assert checkpoints.steps() == [2, 1]


@pytest.mark.slow
def test_a_state_of_another_shape_is_no_damage(opened):
  checkpoints, _ = opened
  more_classes = {"params": {"w": jnp.zeros((65, 64))}, "count": jnp.int32(0)}
  with pytest.raises(InputError, match=r"'w'.*64\) there.*\(65, 64\) now"):
    checkpoints.restore(more_classes)
  # Orbax casts to another type in silence.
  other_type = {"params": {"w": jnp.zeros((64, 64))}, "count": jnp.float32(0)}
  with pytest.raises(InputError, match="whole, and is of another kind"):
    checkpoints.restore(other_type)
  assert checkpoints.steps() == [2, 1]


@pytest.mark.parametrize("lost", ["state", "record", "record/metadata"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_checkpoint_that_lacks_a_part_is_damaged(opened, lost, listed):
  checkpoints, folder = opened
  path = folder / "2" / lost
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  if not listed:
    (folder / "2" / "files.json").unlink()
  step, state = checkpoints.restore(state_of(0))
  assert step == 1
  assert digest_of(state) == digest_of(state_of(1))
  assert checkpoints.steps() == [1]


def test_without_a_whole_checkpoint_nothing_is_deleted(opened):
  checkpoints, folder = opened
  for step in (1, 2):
    flip_bytes(largest_file(folder / str(step) / "state"))
  with pytest.raises(
    InputError, match=r"2 is damaged: .* 1 is damaged: .* dele"
  ):
    checkpoints.restore(state_of(0))
  assert checkpoints.steps() == [2, 1]


def test_nan_is_never_the_best_score(tmp_path):
  for lower_is_better in (False, True):
    folder = tmp_path / str(lower_is_better)
    checkpoints = Checkpoints(folder, lower_is_better=lower_is_better)
    for step, score in enumerate((0.5, *3 * [float("nan")]), start=1):
      checkpoints.save(step, {"count": jnp.int32(step)}, score)
    assert checkpoints.steps() == [4, 3, 1]
    assert checkpoints.record(4)["score"] is None
    checkpoints.close()
    text = (folder / "4" / "record" / "metadata").read_text()
    json.loads(text, parse_constant=pytest.fail)


def test_typed_keys_are_saved(tmp_path):
  state = {
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(1)),
  }
  other = state | {"key": jax.random.key(4)}
  raw = state | {"key": jax.random.key_data(state["key"])}
  assert len({digest_of(s) for s in (state, other, raw)}) == 3
  checkpoints = Checkpoints(tmp_path, lower_is_better=False)
  checkpoints.save(1, state, 0.5)
  assert digest_of(checkpoints.restore_step(1, other)) == digest_of(state)
  checkpoints.close()


def test_an_array_that_other_processes_hold_is_refused(monkeypatch):
  array = jnp.zeros(3)
  spread = property(lambda _: False)
  monkeypatch.setattr(type(array), "is_fully_addressable", spread)
  with pytest.raises(InputError, match=r"\['w'\] is spread over processes"):
    digest_of({"w": array})


def test_only_some_steps_are_kept(tmp_path):
  checkpoints = Checkpoints(tmp_path, lower_is_better=False)
  for step, score in ((1, 0.9), (2, 0.1), (3, 0.2)):
    checkpoints.save(step, state_of(step), score)
  assert checkpoints.steps() == [3, 2, 1]
  checkpoints.keep_only({1, 3, None})
  assert checkpoints.steps() == [3, 1]
  checkpoints.close()
