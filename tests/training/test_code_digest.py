"""The digest of the code covers what can change a number, and nothing else."""

import ast
import shutil
from pathlib import Path

import pytest

import metric_learning
from metric_learning.training import run_files

PACKAGE = Path(metric_learning.__file__).parent


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
  """A copy of the sources."""
  folder = tmp_path_factory.mktemp("code") / "metric_learning"
  only_sources = shutil.ignore_patterns("__pycache__")
  return shutil.copytree(PACKAGE, folder, ignore=only_sources)


@pytest.mark.parametrize(
  ("name", "counts"),
  [
    ("losses/pairs.py", True),
    ("distances/tiled.py", True),
    ("study/tuning/trials.py", True),
    ("study/baselines.py", True),
    ("study/scoring.py", True),
    ("training/new.py", True),
    ("figures/style.py", False),
    ("figures/new.py", False),
    ("study/tables.py", False),
    ("study/statistics.py", False),
  ],
)
def test_only_a_change_that_can_reach_a_number_counts(copied, name, counts):
  before = run_files.digest_of_code(copied)
  assert before == run_files.code()
  path = copied / name
  kept = path.read_text() if path.exists() else None
  path.write_text((kept or "") + "# mended\n")
  try:
    assert (run_files.digest_of_code(copied) != before) == counts
  finally:
    path.unlink() if kept is None else path.write_text(kept)


def imported_by(path):
  """The modules of this package that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      yield node.module
      yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


def test_what_is_left_out_is_imported_by_no_run():
  for name in run_files.READS_RUNS:
    assert (PACKAGE / name).exists(), name
  out = {
    ".".join(("metric_learning", *Path(name).with_suffix("").parts))
    for name in run_files.READS_RUNS
  }
  for path in PACKAGE.rglob("*.py"):
    name = path.relative_to(PACKAGE)
    # That of the study only gives names to what is in its files.
    if not run_files.reads_runs(name) and name != Path("study/__init__.py"):
      assert not {*imported_by(path)} & out, name
