"""Processes that start fast: forks of one that has imported what they take."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
  [
    "experiments.cli",
    "metric_learning.figures",
    "metric_learning.study",
    "metric_learning.study.tuning",
  ]
)
