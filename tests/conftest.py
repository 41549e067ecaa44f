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


# What `make quick` leaves out beside what is marked by hand: tests that start
# processes, a server or a notebook, draw figures, take what was trained or
# drawn for all, or repeat for each loss what four of them show.
SLOW_PLACES = ("notebooks", "experiments", "figures", "test_memory.py")
SLOW_FIXTURES = {"real_study", "drawn", "storage"}
QUICK_LOSSES = ("contrastive", "triplet", "infonce", "arcface")


def is_slow(item):
  """Whether a test is left out by `make quick`."""
  parts = item.path.relative_to(item.config.rootpath).parts
  loss = loss_of(item)
  return (
    item.get_closest_marker("slow") is not None
    or not SLOW_FIXTURES.isdisjoint(item.fixturenames)
    or any(part in SLOW_PLACES for part in parts)
    or ("losses" in parts and loss not in (None, *QUICK_LOSSES))
  )


def loss_of(item):
  """The loss that a test is of, None for most."""
  shared = getattr(item, "callspec", None)
  return shared.params.get("loss") if shared else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks what is slow; tests of one loss, or of one file, run in one process.

  It compiles the programs and makes the studies that they share only once. What
  is slow begins first, so that no process is left with it at the end.
  """
  for item in items:
    item.add_marker(pytest.mark.xdist_group(loss_of(item) or item.path.name))
    if is_slow(item):
      item.add_marker(pytest.mark.slow)
  items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
