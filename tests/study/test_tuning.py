"""Tuning: the same search for all cells, and trials that fail."""

import functools
import json
from unittest import mock

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from metric_learning import InputError
from metric_learning.data import feeds
from metric_learning.study import (
  make_specs,
  run_study,
  tables,
  tuning,
)
from metric_learning.study.compared_with import cells_of
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.ranges import RATE
from metric_learning.training import NotFiniteError, run_files, step
from metric_learning.training.checkpoints import Checkpoints
from metric_learning.training.config import override
from tests.studies import scored_study
from tests.study.searches import (
  CONFIG,
  ONE,
  fake_train,
  near,
  result_of,
  search,
  trials_of,
)

TWO = ({"metric.name": "l1"}, {"metric.name": "l2"})


@pytest.mark.slow
def test_tuned_and_run_as_an_ordinary_study(tmp_path, monkeypatch):
  # Earlier checkpoints look better, to see that nothing is chosen by them
  # where validation classes are trained on.
  record = Checkpoints.record
  earlier = lambda self, step: {**record(self, step), "score": -step}
  monkeypatch.setattr(Checkpoints, "record", earlier)
  config = override(
    CONFIG,
    {
      "margin_unit": "initial_mean",
      "tune.trials": 2,
      "tune.final_on": "train+validation",
      "model.hidden": (17,),  # compiled by no other test
    },
  )
  folder = tmp_path / "study"
  before = {*step._PROGRAMS}
  chosen = tuning.search(config, make_specs(config, ONE), folder)
  # All trials and folds of a cell share one program, compiled for one shape.
  (key,) = {*step._PROGRAMS} - before
  one = step.compiled(step._PROGRAMS[key].step, feeds.gather_resident, None)
  assert one._cache_size() == 1

  left = {path.name for path in folder.glob("trials/*/00/*-fold*/*")}
  assert run_files.RESULT in left and "checkpoints" not in left
  assert not {name for name in left if name.endswith(".npz")}
  trials = sorted(path.name for path in folder.glob("trials/*/00/*-fold*"))
  assert trials == [f"{t:03}-fold{f}" for t in range(2) for f in range(2)]
  means = []
  for trial in range(2):
    runs = [
      folder / f"trials/metric.name=l2/00/{trial:03}-fold{f}" for f in range(2)
    ]
    results = [run_files.read_json(run / run_files.RESULT) for run in runs]
    faked = result_of(0.0)
    for result in results:
      assert faked.keys() <= result.keys()
      selected = faked["validation_selected"].keys()
      assert selected <= result["validation_selected"].keys()
    scores = [r["validation_selected"]["own/map_at_r"] for r in results]
    means.append(np.mean(scores))
  assert chosen[0]["validation"] == pytest.approx(max(means))
  assert json.loads((folder / tuning.TUNING).read_text()) == chosen

  whole, rows = tuning.final_specs(config, chosen)
  assert [row.config.seed for row in rows] == [1, 2]
  run_study(whole, rows, folder)
  study = scored_study(folder)
  (cell,) = study.cells
  assert cell.name == ONE[0]
  assert [run.search for run in cell.chosen.runs] == [0, 0]
  assert [run.result["selected_step"] for run in cell.chosen.runs] == [2, 2]
  assert study.missing == 0
  text = tables.to_markdown(study)
  head, line = text.splitlines()[0], text.splitlines()[5]
  told = dict(zip(head.split(" | "), line.split(" | "), strict=True))
  assert told["trials"] == "2" and told["searched"] == "1 + rate"
  assert told["searches"] == "1" and told["seeds"] == "1 × 2"
  traced = tables.trace(study)["metric.name=l2"]["trials"]
  assert traced == "trials/metric.name=l2"


@pytest.mark.slow
def test_a_search_is_the_same_again_and_another_for_each_cell(tmp_path):
  for sampler in ("tpe", "random"):
    config = override(CONFIG, {"tune.sampler": sampler, "tune.searches": 2})
    params = []
    for name in ("one", "two"):
      folder = tmp_path / f"{sampler}_{name}"
      search(folder, TWO, config=config)
      for cell in ("metric.name=l1", "metric.name=l2"):
        for number in range(2):
          trials = trials_of(folder, cell=cell, number=number)
          params.append([trial.params for trial in trials])
    assert params[:4] == params[4:]
    drawn = [tuple(some.values()) for found in params[:4] for some in found[1:]]
    # All but the first, which is the default of every cell and search.
    assert len(set(drawn)) == len(drawn) == 20
    assert all(0.0 <= some["loss.margin"] <= 2.0 for some in params[0])


def test_a_factor_is_tuned(tmp_path):
  field = "optimizer.head.factor"
  config = override(CONFIG, {f"tune.ranges.{field}": (0.1, 10.0, True)})
  best_at_4 = lambda one: -abs(one.optimizer.head.factor - 4)
  train = fake_train(best_at_4)
  (cell,) = search(tmp_path / "study", config=config, train=train)
  trials = [trial.params[field] for trial in trials_of(tmp_path / "study")]
  assert len(trials) == 6
  assert trials[0] == 1
  assert all(0.1 <= factor <= 10 for factor in trials)
  nearest = min(trials, key=lambda factor: abs(factor - 4))
  assert cell["chosen"][field] == pytest.approx(nearest, rel=1e-3)


def test_it_starts_at_the_defaults_if_all_are_in_their_ranges(tmp_path):
  search(tmp_path / "study")
  first = trials_of(tmp_path / "study")[0]
  assert first.params == {"loss.margin": 1.0, RATE: 3e-3}
  config = override(CONFIG, {"tune.ranges.margin": (0.1, 0.5, False)})
  search(tmp_path / "other", config=config)
  trials = trials_of(tmp_path / "other")
  assert all(t.params[RATE] != 3e-3 for t in trials) and len(trials) == 6
  config = override(CONFIG, {"tune.ranges.learning_rate": (4e-3, 3e-2, True)})
  search(tmp_path / "third", config=config)
  trials = trials_of(tmp_path / "third")
  assert all(t.params["loss.margin"] != 1.0 for t in trials)


def test_a_grid_has_its_bounds_and_an_optimum_there_is_flagged(tmp_path):
  config = override(CONFIG, {"tune.sampler": "grid"})
  high = lambda one: one.loss.margin - one.optimizer.learning_rate
  (cell,) = search(tmp_path / "study", config=config, train=fake_train(high))
  params = [trial.params for trial in trials_of(tmp_path / "study")]
  assert {some["loss.margin"] for some in params} == {0.0, 1.0, 2.0}
  assert {some[RATE] for some in params} == {1e-4, 3e-2}
  assert cell["chosen"]["loss.margin"] == 2.0
  assert cell["on_edge"] == ["loss.margin", RATE]
  assert cell["ranges"]["loss.margin"] == [0.0, 2.0, False]
  middle = fake_train(lambda one: -abs(one.loss.margin - 1.0))
  (cell,) = search(tmp_path / "other", config=config, train=middle)
  assert cell["on_edge"] == [RATE]  # Of two values of a rate both are bounds.


def diverging(when):
  def score(config):
    if when(config):
      raise NotFiniteError("not finite at step 7: loss")
    return near(config)

  return fake_train(score)


def test_a_trial_that_diverges_is_spent(tmp_path):
  train = diverging(lambda config: config.loss.margin > 0.9)
  (cell,) = search(tmp_path / "study", train=train)
  trials = trials_of(tmp_path / "study")
  failed = [t for t in trials if t.params["loss.margin"] > 0.9]
  assert [t for t in trials if t.state == TrialState.FAIL] == failed
  assert cell["trials"] == 6
  assert cell["failed"] == len(failed) > 0
  assert set(cell["reasons"].values()) == {"not finite at step 7: loss"}
  assert cell["chosen"]["loss.margin"] <= 0.9


def test_a_cell_whose_trials_all_fail_does_not_end_the_study(tmp_path, caplog):
  train = diverging(lambda config: config.metric.name == "l1")
  caplog.set_level("WARNING", "metric_learning")
  first, second = search(tmp_path / "study", TWO, train=train)
  assert (first["chosen"], first["validation"]) == ({}, None)
  assert first["failed"] == 6
  assert "metric.name=l1, search 0: no trial was finished" in caplog.text
  assert second["chosen"]
  _, rows = tuning.final_specs(CONFIG, [first, second])
  assert {row.config.metric.name for row in rows} == {"l2"}
  with pytest.raises(InputError, match="no trial of any cell was finished"):
    tuning.final_specs(CONFIG, [first])


@pytest.mark.slow
def test_a_study_whose_reference_failed_compares_nothing(tmp_path):
  train = diverging(lambda config: config.metric.name == "l1")
  config = override(CONFIG, {"study.reference": {"metric.name": "l1"}})
  folder, rows = tmp_path / "study", make_specs(config, TWO)
  chosen = search(folder, TWO, config=config, train=train)
  run_study(*tuning.final_specs(config, chosen), folder, cells=cells_of(rows))
  study = scored_study(folder)
  assert study.names == list(TWO)
  (compared,) = compare_cells(study)
  assert compared.reference == {"metric.name": "l1"}
  assert compared.judged.verdict.startswith("not tested")


def test_of_an_error_rate_the_least_is_chosen(tmp_path):
  config = override(CONFIG, {"eval.select": "own/eer"})

  def train(config, workdir, **_):
    workdir.mkdir(exist_ok=True)
    return result_of(abs(config.loss.margin - 0.7), "own/eer")

  (cell,) = search(tmp_path / "study", config=config, train=train)
  trials = trials_of(tmp_path / "study")
  assert cell["validation"] == min(trial.value for trial in trials)
  margin = cell["chosen"]["loss.margin"]
  assert abs(margin - 0.7) == pytest.approx(cell["validation"], abs=1e-3)


def test_pruned_trials_are_spent(tmp_path):
  config = override(CONFIG, {"tune.prune": True})
  seen = []
  train = fake_train(near, lambda workdir: seen.append(workdir.name))
  (cell,) = search(tmp_path / "study", config=config, train=train)
  trials = trials_of(tmp_path / "study")
  pruned = [t.number for t in trials if t.state == TrialState.PRUNED]
  # Below the median of those before it, after the first two.
  firsts = [t.intermediate_values[0] for t in trials]
  for trial in trials:
    n = trial.number
    whole = [firsts[k] for k in range(n) if k not in pruned]
    below = n >= 2 and firsts[n] < np.median(firsts[:n])
    assert (n in pruned) == below, (firsts, whole)
    assert (f"{n:03}-fold1" in seen) != (n in pruned)
  assert cell["trials"] == 6
  assert cell["pruned"] == len(pruned) > 0


@pytest.mark.parametrize(
  ("select", "worse", "better"),
  [("own/map_at_r", 0.3, 0.7), ("own/eer", 0.7, 0.3)],
)
def test_pruned_is_what_is_on_the_worse_side_of_the_median(
  select, worse, better, monkeypatch
):
  others = [
    create_trial(state=TrialState.COMPLETE, value=x, intermediate_values={0: x})
    for x in (0.4, 0.5, 0.6)
  ]
  monkeypatch.setattr(tuning.trials, "trials_in", lambda *_: others)
  cell = mock.Mock(config=override(CONFIG, {"eval.select": select}))
  search_of_it = mock.Mock(spec=tuning.searches.Search, cell=cell)
  is_worse = functools.partial(tuning.trials._is_worse, search_of_it, None, 0)
  assert is_worse(worse) and not is_worse(better)
  monkeypatch.setattr(tuning.trials, "trials_in", lambda *_: others[:1])
  assert not is_worse(worse)  # Too few to say.


def test_an_easy_first_fold_does_not_save_a_trial(tmp_path):
  fields = {"tune.prune": True, "tune.folds": 3, "tune.trials": 3}
  config = override(CONFIG, fields)
  # Running means .9 and .5, and of the last trial .91 and .3.
  scores = {0: (0.9, 0.1, 0.5), 1: (0.9, 0.1, 0.5), 2: (0.91, -0.31, 0.5)}
  seen = []

  def train(config, workdir, **_):
    number, fold = int(workdir.name[:3]), config.data.validation_fold
    seen.append(workdir.name)
    workdir.mkdir(exist_ok=True)
    return result_of(scores[number][fold])

  (cell,) = search(tmp_path / "study", config=config, train=train)
  assert cell["pruned"] == 1
  assert "001-fold2" in seen
  assert "002-fold1" in seen
  assert "002-fold2" not in seen


def test_a_trial_that_passed_a_fold_is_not_pruned_there_after_a_kill(
  tmp_path, monkeypatch
):
  config = override(CONFIG, {"tune.prune": True, "tune.trials": 1})

  def die(workdir):
    if workdir.name == "000-fold1":
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    search(tmp_path / "study", config=config, train=fake_train(near, die))
  # Others were better in the meantime.
  monkeypatch.setattr(tuning.trials, "_is_worse", lambda *_: True)
  (cell,) = search(tmp_path / "study", config=config)
  assert cell["pruned"] == 0
