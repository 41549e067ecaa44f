"""Checkpoints: exact, verified, and fallen back from."""

import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.training.checkpoints import Checkpoints, digest_of


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
  with pytest.raises(InputError, match="checkpoint 1"):
    again.restore_step(1, states[0])
  step, state = again.restore(states[0])
  assert step == 0
  np.testing.assert_array_equal(state["w"], states[0]["w"])
  assert again.steps() == [0]
  again.close()
