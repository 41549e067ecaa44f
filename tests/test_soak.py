"""The soak itself: a few kills of a run; it detects what differs."""

import random

import pytest

from tests import soak


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path):
  counts, wrong = soak.soak(tmp_path, 0, seed=3, only="train", rounds=1)
  assert not wrong
  assert counts["train", soak.SAME] == 1 and counts.kills("train")
  text = soak.page(counts, wrong, 0, 3)
  assert "| train |" in text and "0 failures" in text


def test_what_falls_short_is_seen():
  kill = soak.Harm("SIGKILL", 0.1, 9)
  torn = soak.Harm("killed", fault=soak.Fault(None, "", None))
  full = soak.Harm("error of the disk", fault=soak.Fault("write", "", 28))

  def reason(does, status, said="", met="!"):
    return soak.fell_short(soak.End(status, said, met), does)

  for does, status in ((kill, -9), (kill, 0), (torn, -9), (full, 0)):
    assert not reason(does, status)
  assert not reason(full, 2, "error: the disk is full")
  assert not reason(torn, 0, met="")
  assert "traceback: Traceback:\nX" in reason(kill, 1, "Traceback:\nX")
  assert "status 1" in reason(kill, 1)
  assert "status 0" in reason(torn, 0)
  assert "status 2" in reason(kill, 2, "error")
  assert "status 2" in reason(full, 2, "error", met="")
  assert "no one message" in reason(full, 2, "error\nand more")


def test_all_kinds_of_harm_come():
  rng = random.Random(0)
  kinds = {
    soak.harm(rng, soak.Measure(1.0, 5, 20), ".npz").kind for _ in range(200)
  }
  assert kinds == soak.KINDS.keys()


@pytest.mark.slow
def test_a_run_whose_only_checkpoint_is_torn_is_started_over(
  tmp_path, monkeypatch
):
  fault = soak.Fault(None, ".safetensors", None, nth=4, half=True)
  power = soak.Harm("killed inside a save", fault=fault)
  monkeypatch.setattr(soak, "harm", lambda *_: power)
  counts, measure = soak.Count(), soak.Measure(1.0, 5, 20)
  wrong, harms = soak.disturbed(
    "train", tmp_path / "train", random.Random(0), measure, counts
  )
  assert not wrong and (power, -9) in harms
  assert counts["train", soak.STARTED_OVER] > 0
