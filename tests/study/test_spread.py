"""Spread by source; several searches in tables and figures."""

import itertools

import numpy as np
import pytest

from metric_learning import evaluation
from metric_learning.figures import verdicts
from metric_learning.study import read_study, runs, scoring, tables, tuning
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.runner import STUDY
from metric_learning.study.spread import (
  budget_curve,
  components,
  expected_best,
  spread_of,
)
from metric_learning.training import run_files
from tests.studies import scored_study
from tests.study.written_tables import SEARCHES, cells, searched, table_of

RNG = np.random.default_rng(3)


def test_components_are_those_that_were_drawn():
  drawn = RNG.normal(0, 2.0, (4000, 1)) + RNG.normal(0, 1.0, (4000, 3))
  between, within = components(dict(enumerate(drawn.tolist())))
  assert between == pytest.approx(2.0, rel=0.04)
  assert within == pytest.approx(1.0, rel=0.04)


def test_components_by_hand():
  # Means 2, 2: s² = 0, less than the 2 / 2 that the values within add.
  assert components({0: [1.0, 3.0], 1: [1.0, 3.0]}) == (0.0, 2**0.5)
  between, within = components({0: [1.0], 1: [3.0]})
  assert between == pytest.approx(2**0.5) and np.isnan(within)
  assert np.isnan(components({0: [1.0, 3.0]})[0])


@pytest.mark.parametrize("lower", [False, True])
def test_the_expected_best_is_that_of_all_sets_of_trials(lower):
  scores = [0.3, 0.9, 0.1, 0.5, 0.5]
  best = min if lower else max
  wanted = [
    np.mean([best(some) for some in itertools.combinations(scores, k)])
    for k in range(1, 6)
  ]
  np.testing.assert_allclose(expected_best(scores, lower), wanted)
  assert expected_best([]).shape == (0,)


def test_a_search_counts_once_with_the_mean_of_its_runs(
  write_study, real_study
):
  study = scored_study(searched(write_study, real_study))
  (one,) = compare_cells(study)
  l2, l1 = study.cells
  score = lambda run: run.tested.selected["own/map_at_r"]
  means = [
    np.array([score(run) for run in cell.chosen.runs]).reshape(-1, 2).mean(1)
    for cell in (l1, l2)
  ]
  assert one.judged.difference.n == SEARCHES
  assert one.judged.difference.mean == pytest.approx(
    np.mean(means[0] - means[1])
  )
  assert one.judged.verdict == "better"
  assert one.judged.corrected == 2 / 2**SEARCHES
  assert [run.search for run in l1.chosen.runs] == [
    0,
    0,
    1,
    1,
    2,
    2,
    3,
    3,
    4,
    4,
    5,
    5,
  ]


def test_what_the_tables_say_of_searches(write_study, real_study):
  folder = searched(write_study, real_study)
  run_files.write_json(
    folder / tuning.SEARCH,
    {
      "config": run_files.read_json(folder / STUDY)["config"]
      | {
        "tune": {
          **{"searches": 6, "trials": 3, "folds": 2, "final_seeds": 2},
          **{"finalists": 2, "repeats": 1},
        },
      },
      "rows": {},
    },
  )
  text = tables.to_markdown(scored_study(folder))
  line = table_of(text)["contrastive, l1"]
  assert (line["searches"], line["trials"], line["seeds"]) == (
    "6",
    "3",
    "6 × 2",
  )
  assert line["chosen on validation"].endswith(
    "[1, 1] (1 on edge), learning_rate 0.03 [0.03, 0.03] (4 on edge)"
  )
  # 3 · 2 trials, 2 · 1 · 2 again, 2 at last, of six searches.
  assert "2 final runs: 72 runs" in text
  assert "the searches of a cell trained for 6.0 to 6.0 minutes" in text
  assert "± is a 95 % t-interval over searches" in text
  assert "over seeds; ±" not in text and "paired by search" in text
  spread = table_of(text, 2)["contrastive, l1"]
  found = spread_of(scored_study(folder).cells[1], "own/map_at_r")
  assert spread["search"].startswith(f"{found.search:.4f} (")
  # Over folds: deviations .1414 and 0, the root of their mean square.
  assert spread["validation fold"] == "0.1000"
  assert sum(found.shares.values()) == pytest.approx(1)


def test_a_search_that_chose_nothing_counts_against_its_cell(
  write_study, real_study
):
  study = scored_study(searched(write_study, real_study, lost=[4]))
  assert len(study.cells[1].searches) == SEARCHES
  (one,) = compare_cells(study)
  assert one.judged.difference.n == SEARCHES - 1
  assert one.judged.verdict == "not tested"  # Five are too few.
  assert study.cells[1].chosen.unchosen == 1


def test_halves_are_scored_with_their_gallery(write_study, real_study):
  """The oracle removes classes before it scores anything."""
  folder = searched(write_study, real_study)
  cell = scored_study(folder).cells[0]
  own = [run for run in cell.chosen.runs if run.tested.halves]
  assert SEARCHES > runs.HALVED_SEARCHES
  assert [run.search for run in own] == list(range(runs.HALVED_SEARCHES))
  run = own[1]
  arrays = run_files.read_arrays(run.folder / run_files.EMBEDDINGS)
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  halves = scoring._halves(np.unique(labels))
  assert len(halves) == scoring.NUM_HALVES
  wanted = []
  for half in halves:
    keep = np.isin(labels, half)
    scores = evaluation.evaluate(
      points[keep], labels[keep], run.result["metric"], asked=["own/map_at_r"]
    )
    wanted.append(scores["own/map_at_r"])
  np.testing.assert_allclose(run.tested.halves["own/map_at_r"], wanted)
  # Kept: not scored again.
  again = read_study(folder).cells[0].chosen.runs[2]
  np.testing.assert_array_equal(
    scoring.in_halves(again, ["own/map_at_r"])["own/map_at_r"],
    run.tested.halves["own/map_at_r"],
  )


@pytest.mark.slow
def test_figures_of_searches(write_study, real_study):
  study = scored_study(searched(write_study, real_study))
  forest = verdicts.differences(study)
  (axis,) = forest.axes
  (one,) = compare_cells(study)
  interval = one.judged.difference
  assert list(axis.lines[0].get_xdata()) == [interval.low, interval.high]
  assert [x.get_text() for x in axis.get_yticklabels()] == [
    "contrastive, l1 − l2"
  ]
  bars = verdicts.spread_by_source(study).axes[0].patches
  spread = [spread_of(cell, "own/map_at_r") for cell in study.cells]
  np.testing.assert_allclose(
    [bar.get_width() for bar in bars[:4]],
    [one.search**2 for one in spread] + [one.seed**2 for one in spread],
  )
  line = verdicts.budget_curves(study).axes[0].lines[0]
  # Of .1 and .3: .2 at one trial, .3 at two; what failed is no trial.
  np.testing.assert_allclose(line.get_ydata(), [0.2, 0.3])
  np.testing.assert_allclose(line.get_ydata(), budget_curve(study.cells[0]))


def test_without_searches_there_is_no_table_of_spread(write_study):
  study = scored_study(write_study(cells(l2=[0.1, 0.2], l1=[0.2, 0.3])))
  assert "validation fold" not in tables.to_markdown(study)
  assert verdicts.spread_by_source(study) is None
  assert verdicts.budget_curves(study) is None
