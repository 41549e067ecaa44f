"""Processes that start fast: forks of one that has imported everything."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
  [
    "experiments.cli",
    "metric_learning.figures",
    "metric_learning.study",
    "metric_learning.study.tuning",
    "sklearn.datasets",
  ]
)


def fork(script, arguments, folder, prepare):
  """Runs `python -m experiments.<script>` in a forked process."""
  os.chdir(ROOT)
  for number, name in ((1, "out"), (2, "err")):
    os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
  if prepare:
    prepare()
  sys.argv = [f"experiments/{script}.py", *arguments]
  runpy.run_module(f"experiments.{script}", run_name="__main__", alter_sys=True)
