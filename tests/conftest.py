"""What holds for all tests."""

import gc
import os

# Compiling is most of what they do: optimise little, and each program in one
# piece, here and in the processes that they start. Read when jax is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")

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
