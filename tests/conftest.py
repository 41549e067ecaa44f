"""What holds for all tests."""

import gc
import os

from tests.quick import QUICK_FLAGS

# Compiling is most of what they do: optimise little, and each program in one
# piece, here and in the processes that they start. Read when jax is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)

import jax
import pytest

# Tracing makes many objects, few of them garbage: look for it less often.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_disable_most_optimizations", True)

# They hold no doctests, and have one name.
collect_ignore_glob = ["*conftest.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Tests of one loss, or of one file, run in one process.

  It compiles the programs and makes the studies that they share only once.
  """
  for item in items:
    shared = getattr(item, "callspec", None)
    loss = shared.params.get("loss") if shared else None
    item.add_marker(pytest.mark.xdist_group(loss or item.path.name))


@pytest.fixture(scope="session")
def real_study(tmp_path_factory):
  """The one study that is trained for all tests; see `tests.studies`."""
  import filelock

  from tests.studies import RealStudy

  root = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    root = root.parent  # That of all workers, of which one trains it.
  study, made = RealStudy(root / "real_study"), root / "real_study.made"
  with filelock.FileLock(root / "real_study.lock"):
    if not made.exists():
      study.make()
      made.touch()
  return study


@pytest.fixture
def write_run(real_study):
  """A function that writes a run derived from the trained one."""
  return real_study.write_run


@pytest.fixture
def write_study(real_study, tmp_path):
  """A function that writes a study derived from the trained one."""
  return lambda scored, name="study", **options: real_study.write_study(
    tmp_path / name, scored, **options
  )
