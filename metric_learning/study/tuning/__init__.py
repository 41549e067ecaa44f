"""Tuning with Optuna: the same number of trials for every cell of a sweep.

Every cell has several independent searches. A search is one study in an Optuna
storage, which holds its state: all trials, 0 to trials - 1, are created with
the study, and no others are added. The best trials run again on other folds;
each has a file for its state. A process that works on a trial holds a lock in
the folder of the study, which the system releases when the process ends for any
reason. A process that finds a started trial with a free lock resumes it, with
the same numbers and run folders. So no trial is lost or counted twice, whatever
the storage is; but all processes of a study must share its folder.

(The heartbeats of Optuna work for databases only, take effect after minutes,
and create a new trial for each retry.)
"""

from metric_learning.study.tuning.checks import SAMPLERS, check
from metric_learning.study.tuning.choice import TUNING, final_specs
from metric_learning.study.tuning.trials import SEARCH, search

__all__ = ["SAMPLERS", "SEARCH", "TUNING", "check", "final_specs", "search"]
