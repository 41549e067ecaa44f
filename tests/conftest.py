"""Settings and fixtures of all tests."""

import collections
import gc
import os

from tests.quick import QUICK_FLAGS

# Compiling is most of what they do: optimize little, and each program in one
# piece, here and in the processes that they start. Read when jax is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)

import jax
import pytest

# Tracing makes many objects, few of them garbage: look for it less often.
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_disable_most_optimizations", True)

# They hold no doctests; those have one name, these are for other processes.
collect_ignore_glob = [
  "*conftest.py",
  "on_eight_devices.py",
  "train_on_devices.py",
  "as_a_user.py",
  "light.py",
]


# `make quick` leaves out what is marked slow. By hand that is what takes longer
# than a second. Marked here are tests that start processes or a notebook, draw
# figures, measure memory, or take what was trained or drawn for all; files in
# which nearly each test trains or compiles a network; tests of other losses
# than two; and of other tests what follows their first case.
SLOW_PLACES = (
  *("notebooks", "experiments", "figures", "inference", "report"),
  *(
    "test_memory.py",
    "test_trunks.py",
    "test_weights.py",
    "test_pretrained.py",
  ),
  *("test_chunks.py", "test_embedding.py", "test_optimizers.py"),
  *("test_relation_studies.py", "test_selection.py", "test_devices.py"),
  *("test_over_positives.py", "test_tuning_storage.py", "test_vit.py"),
  *("test_searches.py", "test_learning.py", "test_relations.py"),
  *("test_augment.py", "test_launchers.py"),
)
SLOW_FIXTURES = {"real_study", "drawn", "storage"}
QUICK_LOSSES = ("contrastive", "arcface")
QUICK_CASES = 1


def loss_of(item):
  """The loss that a test is about; None for most tests."""
  shared = getattr(item, "callspec", None)
  return shared.params.get("loss") if shared else None


def is_slow(item, case):
  """Whether `make quick` leaves out a test, or this case of a test."""
  parts, loss = item.path.relative_to(item.config.rootpath).parts, loss_of(item)
  return (
    not SLOW_FIXTURES.isdisjoint(item.fixturenames)
    or any(part in SLOW_PLACES for part in parts)
    or (case >= QUICK_CASES if loss is None else loss not in QUICK_LOSSES)
  )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks slow tests; tests of one loss, or of one file, run in one process.

  Files that share something expensive name their own group. Its process
  compiles shared programs and makes shared studies only once. Slow tests begin
  first, so that no process is left with one at the end.
  """
  cases = collections.Counter()
  for item in items:
    if not item.get_closest_marker("xdist_group"):
      item.add_marker(pytest.mark.xdist_group(loss_of(item) or item.path.name))
    test = item.nodeid.partition("[")[0]
    if is_slow(item, cases[test]):
      item.add_marker(pytest.mark.slow)
    cases[test] += 1
  items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def real_study(tmp_path_factory):
  """The only study that is trained for all tests; see `tests.studies`."""
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
