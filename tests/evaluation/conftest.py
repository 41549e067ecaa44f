"""What the tests of evaluation share."""

import jaxtyping
import pytest

from metric_learning.evaluation import tiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  """Tiles of 64 x 64: most of a larger one would be padding."""
  monkeypatch.setattr(tiles, "_CPU_TILE", 64)


@pytest.fixture
def untyped():
  """Types are not checked, as users run it: what is wrong reaches the code."""
  jaxtyping.config.update("jaxtyping_disable", True)
  yield
  jaxtyping.config.update("jaxtyping_disable", False)
