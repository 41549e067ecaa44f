"""The status of a study over all its runs, in lines and on a terminal."""

import logging
import sys
import time

from metric_learning.study import tally
from metric_learning.study.tally import Counts, Tally

log = logging.getLogger("metric_learning.told")


def test_words_count_all_and_know_the_time_left_once_one_is_done(monkeypatch):
  now = iter([100.0, 110.0, 110.0])
  monkeypatch.setattr(time, "perf_counter", lambda: next(now))
  counts = [Counts(1, 0, 0), Counts(3, 1, 1)]
  told = Tally(8, lambda: counts.pop(0))
  assert str(told) == "1/8 done, 0 failed"
  # Two took ten seconds, and five are left.
  assert told.looked() == "3/8 done, 1 failed, 0:25 left"


def test_a_terminal_has_one_line_below_those_of_runs(monkeypatch, capsys):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
  monkeypatch.setattr(tally, "_ANEW", 0.01)
  counts = iter([Counts(0, 0, 0), Counts(1, 0, 0)])
  told = Tally(2, lambda: next(counts), lambda: 1)
  handler = logging.StreamHandler(sys.stderr)
  logging.getLogger("metric_learning").addHandler(handler)
  try:
    with told.shown():
      time.sleep(0.05)
      log.warning("one is done")
      told.looked()
      time.sleep(0.05)
  finally:
    logging.getLogger("metric_learning").removeHandler(handler)
  said = capsys.readouterr()
  said = said.out + said.err
  assert "0/2 done, 0 failed, 1 running" in said
  assert "1/2 done, 0 failed, 0:00 left, 1 running" in said
  assert "one is done\n" in said


def test_elsewhere_a_line_is_written_if_no_run_ends_for_a_while(
  monkeypatch, caplog
):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
  monkeypatch.setattr(tally, "SILENT", 0.05)
  caplog.set_level(logging.INFO, "metric_learning")
  told = Tally(3, lambda: Counts(0, 2, 0))
  with told.shown():
    end = time.perf_counter() + 30
    while len(caplog.records) < 2 and time.perf_counter() < end:
      time.sleep(0.01)
  lines = [record.getMessage() for record in caplog.records]
  assert len(lines) > 1 and set(lines) == {"0/3 done, 0 failed, 2 running"}
  caplog.clear()
  monkeypatch.setattr(tally, "SILENT", 2.0)
  told.looked()
  with told.shown():  # Lines of runs are signs of life too.
    for _ in range(14):
      told.looked()
      time.sleep(0.2)
  assert caplog.records == []
