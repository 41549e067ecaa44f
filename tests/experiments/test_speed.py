"""The benchmark against rivals: its page, its lines, its flags."""

import json
from pathlib import Path

import pytest

from experiments.benchmarks.speed import suites, turns
from experiments.benchmarks.speed.page import page, shown
from experiments.benchmarks.speed.sides import Case

SETTINGS = suites.Settings(
  n=64,
  classes=8,
  dim=16,
  repeats=1,
  only=(),
  blocked=(32,),
  auto=(64,),
  rows=16,
  members=(2,),
  grouped=True,
)


def test_the_page_of_the_results_is_that_of_their_numbers():
  numbers = Path("results/benchmarks.json")
  text = page(json.loads(numbers.read_text()), str(numbers))
  assert text == Path("results/benchmarks.md").read_text()


def test_a_small_batch_has_eight_items_in_each_class():
  assert SETTINGS.size() == {"n": 64, "classes": 8, "dim": 16}
  assert SETTINGS.size(100) == SETTINGS.size()
  assert SETTINGS.size(32) == {"n": 32, "classes": 4, "dim": 16}


def test_a_line_has_the_ratio_and_how_far_the_values_are_apart():
  line = suites._line(
    *("l1", "torch.cdist", SETTINGS.size()),
    {"seconds": 0.002, "value": 1.1, "extra": 3e6},
    {"seconds": 0.003, "value": 1.0, "extra": 2e9},
  )
  assert line["ratio"] == pytest.approx(1.5)
  assert line["apart"] == pytest.approx(0.1)
  assert shown(line).split("  ")[-2:] == ["ratio 1.50", "apart 1e-01"]
  assert "theirs 3.0 ms, 2.00 GB" in shown(line)
  failed = suites._line("l1", "none", SETTINGS.size(), {}, {"failed": "none"})
  assert "ratio" not in failed and "apart" not in failed


@pytest.mark.parametrize(
  ("suite", "table", "names"),
  [
    ("memory", "memory", ["supcon"]),
    ("memory", "auto", ["supcon"]),
    ("population", "population", ["conv4", "conv4, grouped"]),
    ("loop", "loop", ["conv4"]),
    ("losses", "losses", ["supcon"]),
  ],
)
def test_a_suite_yields_the_lines_that_are_wanted(
  suite, table, names, monkeypatch
):
  seen = []

  def measured(repeats, *cases):
    seen.extend(case for case in cases if case is not None)
    assert repeats == 1
    return [{"seconds": 1.0, "extra": 1} for _ in cases]

  monkeypatch.setattr(suites, "in_turn", measured)
  only = "conv4" if names[0] == "conv4" else "supcon"
  wanted = SETTINGS._replace(only=(only,))
  lines = list(suites.SUITES[suite][table](wanted))
  assert [line["name"] for line in lines] == names
  assert {case.kind for case in seen} <= set(turns.BUILDERS)
  # Each is a line of its table.
  said = {"processor": "", "cores": 1, "versions": {}, "dim": 16, "repeats": 1}
  kept = {str(i): line | {"commit": "x"} for i, line in enumerate(lines)}
  text = page({"machine": said, "suites": {table: kept}}, "file")
  assert all(f"\n| {name} | " in text for name in names)


def test_our_side_of_a_loss_is_a_number():
  call = turns.BUILDERS["ours"](Case("ours", "supcon", 16, 4, 8))
  assert call() == call() > 0


def test_a_size_is_a_whole_number(run):
  done = run("--blocked=64,many", "--suite=memory", script="benchmarks.speed")
  assert done.returncode == 2
  assert done.stderr.startswith("error: --blocked=64,many: whole numbers")


def test_an_unknown_suite_lists_the_suites(run):
  done = run("--suite=sped", script="benchmarks.speed")
  assert done.returncode == 2
  for words in ("error: ", "sped", "distances", "population"):
    assert words in done.stderr
