"""The soak itself: a few kills of a run, and that it sees what differs."""

import random

import pytest

from tests import soak


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path):
  counts, wrong = soak.soak(tmp_path, 0, seed=3, only="train", rounds=1)
  assert not wrong
  assert counts["train", "", "ended as the undisturbed one"] == 1
  text = soak.page(counts, wrong, 0, 3)
  assert "| train |" in text and "0 fell short" in text


def test_what_falls_short_is_seen():
  kill = soak.Harm("SIGKILL", 0.1, 9)
  assert not soak.fell_short(-9, "", kill)
  assert not soak.fell_short(0, "", kill)
  assert "traceback: X" in soak.fell_short(1, "Traceback:\nX", kill)
  assert "status 1" in soak.fell_short(1, "", kill)
  assert "refused: error" in soak.fell_short(2, "error", kill)
  full = soak.Harm("errno", fault=soak.Fault("write", "", 28))
  assert not soak.fell_short(2, "error", full)


def test_all_kinds_of_harm_come():
  rng = random.Random(0)
  kinds = {soak.harm(rng, 1.0).kind for _ in range(200)}
  assert len(kinds) == 6
