"""The list of breakages matches the present code."""

from pathlib import Path

from tests.breakages import BREAKAGES, times_found


def test_every_breakage_breaks_one_place():
  root = Path(__file__).parents[1]
  stale = [b for b in BREAKAGES if times_found(root, b) != 1]
  assert not stale
