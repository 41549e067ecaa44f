"""Fixtures of the tests of evaluation."""

import jaxtyping
import pytest

from metric_learning.evaluation import tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  """Tiles of 64 x 64: larger ones would be mostly padding."""
  monkeypatch.setattr(tiles, "_CPU_TILE", 64)


@pytest.fixture
def untyped():
  """Disables type checks, as for a user: bad input reaches the code."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)
