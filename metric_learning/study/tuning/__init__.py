"""Tuning: for every cell of a sweep the same number of trials, by Optuna.

Every cell has several independent searches. A search is one study in an Optuna
storage, which is the state: all its trials are put there when the study is
made, and numbers 0 to trials - 1 are all that there ever are. Its best trials
run again on other folds; the state of that is a file for each of them. A
process that works on one holds a lock in the folder of the study; the system
drops it when the process ends, however it ends. Whoever finds a trial begun and
its lock free goes on with it: same numbers, same run folders. So none is lost
and none counts twice, whatever the storage is; but all that work on a study
share its folder.

(Optuna's own way, heartbeats and a callback, exists for databases only, takes
effect after minutes, and makes a new trial of each that it retries.)
"""

from metric_learning.study.tuning.checks import SAMPLERS, check
from metric_learning.study.tuning.choice import TUNING, final_specs
from metric_learning.study.tuning.trials import SEARCH, search

__all__ = ["SAMPLERS", "SEARCH", "TUNING", "check", "final_specs", "search"]
