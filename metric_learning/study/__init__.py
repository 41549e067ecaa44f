"""Studies of many runs: sweeps, tuning, baselines, statistics and tables."""

from metric_learning.study.launchers import start_launcher
from metric_learning.study.results import read_study
from metric_learning.study.runner import (
  check_population,
  only_here,
  run_study,
)
from metric_learning.study.scoring import score_chosen
from metric_learning.study.sweeps import Sweep, first_seeds, make_specs, sweep
from metric_learning.study.tables import write_tables

__all__ = [
  "Sweep",
  "check_population",
  "first_seeds",
  "make_specs",
  "only_here",
  "read_study",
  "run_study",
  "score_chosen",
  "start_launcher",
  "sweep",
  "write_tables",
]
