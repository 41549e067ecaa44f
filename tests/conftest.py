import jax
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Tests of one loss, or of one file, run in one process.

  It compiles the programs and makes the studies that they share only once.
  """
  for item in items:
    shared = getattr(item, "callspec", None)
    loss = shared.params.get("loss") if shared else None
    item.add_marker(pytest.mark.xdist_group(loss or item.path.name))


@pytest.fixture(scope="module")
def compile_fast():
  """For tests whose time is that of compiling: programs that are slow."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
