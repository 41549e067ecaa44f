"""A study: its rows are checked first, trained once, and resumed."""

import dataclasses
import re
import time

import numpy as np
import pytest

from metric_learning import InputError, data
from metric_learning.data import loaded
from metric_learning.evaluation import score_questions
from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  tables,
)
from metric_learning.study.sweeps import cell_of, tuned_of
from metric_learning.training import run_files
from metric_learning.training.config import override
from tests.forks import FORKS
from tests.studies import (
  CONFIG,
  DIVERGED,
  real_sweep,
  scored_study,
)
from tests.study.study_files import BY_QUERY, results_of
from tests.tiny import tiny_config

# Files of this group train the same tiny network, compiled once.
pytestmark = pytest.mark.xdist_group("trained studies")


def test_cells_and_tuned_fields_follow_from_the_overrides():
  row = make_specs(CONFIG, real_sweep())[0]
  assert cell_of(row) == {"loss.name": "contrastive", "metric.name": "l1"}
  assert tuned_of(row) == {"loss.margin": 0.5}


def test_a_bad_row_is_named_before_anything_runs():
  rows = [
    {"loss.name": "triplet"},
    {"loss.name": "triplet", "metric.name": "dot"},
  ]
  with pytest.raises(
    InputError, match=r"row loss.name=triplet,metric.name=dot"
  ):
    make_specs(CONFIG, rows)
  with pytest.raises(InputError, match=r"row seed=1: it occurs twice"):
    make_specs(CONFIG, [{"seed": 1}, {"seed": 1}])


def assert_listed(error, *lines):
  first, *rest = str(error.value).splitlines()
  assert first == f"{len(lines)} errors in the rows:"
  for line, said in zip(rest, lines, strict=True):
    assert line.startswith(f"  {said}")


def test_all_that_is_wrong_with_the_rows_is_said_at_once():
  rows = [
    {"sed": 1, "metrc": "l1"},
    {"seed": 2},
    {"miner.name": None},
    {"seed": 2},
    {"metric.name": "l3"},
    {"metric.name": "l3", "seed": 3},
    {"train.steps": 0},
  ]
  with pytest.raises(InputError) as error:
    make_specs(CONFIG, rows)
  assert_listed(
    error,
    "row sed=1,metrc=l1: unknown config field 'sed'",
    "row sed=1,metrc=l1: unknown config field 'metrc'",
    "row miner.name=None: config.miner.name=None",
    "row seed=2: it occurs twice",
    "row metric.name=l3 and 1 more: unknown metric",
    "row train.steps=0: config.train.steps",
  )


def test_data_that_cannot_be_used_are_refused_before_anything_runs(
  tmp_path, monkeypatch
):
  # So that the test part has more pairs than are kept.
  monkeypatch.setattr(score_questions, "MAX_PAIRS", 10)
  rows = [
    {"seed": 0},
    {"batch.classes_per_batch": 11},
    {"data.name": "digit"},
    {"data.name": "digit", "seed": 1},
    {"eval.columns": ("own/map_at_r", "own/eer")},
    {"reduction.name": "mean", "reduction.class_weights": (1.0, 2.0)},
  ]
  config = override(CONFIG, {"eval.columns": BY_QUERY})
  with pytest.raises(InputError) as error:
    run_study(config, make_specs(config, rows), tmp_path / "study")
  assert_listed(
    error,
    "row batch.classes_per_batch=11: ",
    "row data.name=digit and 1 more: unknown data",
    "row eval.columns=",
    "row reduction.name=mean,reduction.class_weights=_1.0,_2.0_-",
  )
  assert "class_weights of" in str(error.value)
  assert "digits has no own/eer, which config.eval.col" in str(error.value)
  assert not (tmp_path / "study").exists()


def test_a_cell_that_cannot_choose_among_its_settings_is_refused(tmp_path):
  both = {"metric.name": "l2", "data.train_on": "train+validation"}
  rows = [
    {"metric.name": "l1", "loss.temperature": 0.5},
    {"metric.name": "l1"},
    {**both, "loss.temperature": 0.5},
    {**both, "loss.temperature": 0.5, "seed": 1},
    {**both, "loss.temperature": 1.0},
    {**both, "metric.name": "l1", "loss.temperature": 1.0},
  ]
  with pytest.raises(InputError) as error:
    run_study(CONFIG, make_specs(CONFIG, rows), tmp_path / "study")
  assert_listed(
    error,
    "row metric.name=l1,loss.temperature=0.5 and 1 more: these rows are one"
    " cell",
    "row metric.name=l2,data.train_on=train+validation,loss.temperature=0.5"
    " and 1 more: numbers are chosen on validation classes, which",
  )
  assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_only_what_is_missing_is_done(study):
  lost = results_of(study)[3]
  lost.unlink()
  before = {p: p.stat().st_mtime_ns for p in results_of(study)}
  run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  after = {p: p.stat().st_mtime_ns for p in results_of(study)}
  assert after.pop(lost)
  assert after == before


LONG = tiny_config(
  train__steps=800,
  train__eval_every=800,
  train__save_every=800,
  train__log_every=8,
)


def long_study(folder):
  seeds = [{"seed": seed} for seed in range(4)]
  run_study(LONG, make_specs(LONG, seeds), folder)


@pytest.mark.slow
def test_killed_and_started_twice_only_does_what_is_unfinished(tmp_path):
  """`kill -9` in the second of four runs; then two processes share the rest."""
  folder = tmp_path / "study"
  process = FORKS.Process(target=long_study, args=(folder,))
  process.start()
  unfinished = lambda: [
    path.parent
    for path in folder.glob("runs/*/metrics.jsonl")
    if not (path.parent / run_files.RESULT).exists() and path.stat().st_size
  ]
  while process.is_alive():
    if len(results_of(folder)) == 1 and unfinished():
      break
    time.sleep(0.005)
  process.kill()
  process.join()
  done = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*")}
  (cut,) = unfinished()
  (whole,) = (path.parent for path in results_of(folder))
  both = [FORKS.Process(target=long_study, args=(folder,)) for _ in range(2)]
  for process in both:
    process.start()
  for process in both:
    process.join()
  assert [process.exitcode for process in both] == [0, 0]
  assert len(results_of(folder)) == 4
  for log in folder.glob("runs/*/train.log"):
    begun = 2 if log.parent == cut else 1
    assert log.read_text().count("from step") == begun
    assert log.read_text().count(" finished\n") == 1
  for path, written in done.items():
    if path.parent == whole and path.is_file():
      assert path.stat().st_mtime_ns == written
  assert len(run_files.read_metrics(cut)) == len(run_files.read_metrics(whole))


def test_a_folder_of_another_study_is_refused(study, monkeypatch):
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(InputError, match=r"another study: .*seed=0.*None now"):
    run_study(CONFIG, rows, study)
  monkeypatch.setattr(run_files, "code", lambda: "abc")
  with pytest.raises(InputError, match=r"code \(.*'abc' now\).* of commit"):
    run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  with pytest.raises(InputError, match="holds no study"):
    read_study(study / "runs")


def test_a_study_on_other_data_is_refused(study, monkeypatch):
  """Before the first run, even if all existing runs are finished."""
  load = data.load

  def with_fewer_tested(config):
    splits = load(config)
    fewer = data.select(splits.test, np.arange(300))
    return dataclasses.replace(splits, test=fewer)

  monkeypatch.setattr(loaded, "_WHOLE", {})
  monkeypatch.setattr(loaded, "load", with_fewer_tested)
  message = r"another study: data\..*\.test .*360 images .*there.*300 images"
  with pytest.raises(InputError, match=message):
    run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  # One record, though all rows load it.
  (parts,) = run_files.read_json(study / "study.json")["data"].values()
  assert parts == load(CONFIG.data).identity


@pytest.mark.slow
def test_a_diverged_run_is_recorded_and_not_chosen(tmp_path):
  config = tiny_config(
    loss__name="contrastive_inverse", normalize="none", optimizer__name="sgd"
  )

  def rates():
    for rate in (1e-3, 1e30):
      yield {"optimizer.learning_rate": rate, "seed": 0}

  folder = tmp_path / "study"
  run_study(config, make_specs(config, rates()), folder)
  (cell,) = read_study(folder).cells
  assert cell.diverged == 1
  assert cell.chosen.tuned == {"optimizer.learning_rate": 1e-3}
  left = [run_files.read_json(path) for path in results_of(folder)]
  (lost,) = [result for result in left if "train" not in result]
  assert lost.keys() == DIVERGED.keys()


def test_an_unfinished_study_says_so(study):
  results_of(study)[0].unlink()
  assert "UNFINISHED: 1 runs" in tables.to_markdown(scored_study(study))


def test_latex_is_escaped(study):
  results_of(study)[0].unlink()
  text = tables.to_latex(scored_study(study))
  # What a reader of the table must know is printed under it.
  (note,) = [line for line in text.splitlines() if "UNFINISHED: 1 runs" in line]
  assert note.startswith(r"{\footnotesize ")
  assert not re.search(r"(?<!\\)[%#^]|[^\\]_|[^ -~\n]", text)
  table = text[: text.index(r"\end{tabular}")]
  assert r"$\pm$" in table
  assert "±" not in table
  assert table.count(r"\\") == 1 + 3 + 4
