import jax
import pytest


@pytest.fixture
def x64():
  """Uses float64 inside one test."""
  with jax.enable_x64(True):
    yield
