"""Test classes are scored in one step; printing a study evaluates nothing."""

import builtins
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from metric_learning import InputError, evaluation
from metric_learning.data import loaded
from metric_learning.figures import draw_study, tuning_curves
from metric_learning.study import (
  only_here,
  read_study,
  score_chosen,
  scoring,
  tables,
)
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.table_lines import table_lines
from metric_learning.training import run_files
from tests.studies import scored_study


def forbidden(*_, **__):
  pytest.fail("formatting may not do this")


@pytest.fixture
def read_only(monkeypatch):
  """From here on, nothing may be evaluated, and no file of a run changed."""

  def freeze():
    for name in ("evaluate", "evaluate_pairs", "per_query"):
      monkeypatch.setattr(evaluation, name, forbidden)
    for name in ("retrieval", "retrieval_per_query", "verification"):
      monkeypatch.setattr(evaluation.scores, name, forbidden)
    for name in ("write_json", "write_arrays", "read_json", "read_arrays"):
      monkeypatch.setattr(run_files, name, forbidden)
    monkeypatch.setattr(scoring, "score_run", forbidden)
    monkeypatch.setattr(builtins, "open", forbidden)

  return freeze


def test_formatting_evaluates_nothing_and_touches_no_run(real_study, read_only):
  study = scored_study(real_study.reported)
  expected = (real_study.reported / "table.md").read_text()
  read_only()
  assert tables.to_markdown(study) == expected
  assert tables.to_csv(study) and tables.to_latex(study) and tables.trace(study)
  assert compare_cells(study) and table_lines(study)
  assert tuning_curves(study) is not None


@pytest.mark.parametrize(
  "shown",
  [
    *(tables.to_markdown, tables.to_csv, tables.to_latex),
    *(tables.write_tables, compare_cells, draw_study),
  ],
)
def test_a_study_that_is_not_scored_is_one_clear_error(shown, real_study):
  study = read_study(real_study.reported)
  with pytest.raises(InputError, match="is not scored on test classes: pass"):
    shown(study)


def test_the_chosen_setting_stays_one_of_its_cell(real_study):
  for cell in scored_study(real_study.reported).cells:
    assert any(setting is cell.chosen for setting in cell.settings)
    for setting in cell.settings:
      for run in setting.runs:
        assert (run.test is None) == (setting is not cell.chosen)


def test_what_is_scored_is_kept_and_not_scored_again(real_study, monkeypatch):
  first = scored_study(real_study.reported)
  monkeypatch.setattr(evaluation, "evaluate", forbidden)
  again = score_chosen(read_study(real_study.reported))
  for one, other in zip(first.cells, again.cells, strict=True):
    for a, b in zip(one.chosen.runs, other.chosen.runs, strict=True):
      assert a.tested.selected == b.tested.selected
      for column, values in a.tested.queries.items():
        np.testing.assert_array_equal(values, b.tested.queries[column])


def test_what_a_killed_process_wrote_in_part_is_deleted(real_study, tmp_path):
  folder = tmp_path / "study"
  shutil.copytree(real_study.reported, folder)
  run = read_study(folder).cells[0].chosen.runs[0].folder
  parts = [folder / ".table.csv-x.part", run / ".test.json-x.part"]
  for part in parts:
    part.touch()
  with only_here(folder):
    score_chosen(read_study(folder))
  assert not any(part.exists() for part in parts)


def test_a_damaged_file_of_scores_is_named(real_study, tmp_path):
  folder = shutil.copytree(real_study.reported, tmp_path / "study")
  run = read_study(folder).cells[0].chosen.runs[0]
  (run.folder / scoring.TEST).write_text("{")
  with pytest.raises(InputError, match=r"test\.json cannot be read"):
    scored_study(folder)


# --- Data ---------------------------------------------------------------------


def test_data_that_moved_is_one_error_that_names_its_folder(
  real_study, tmp_path, monkeypatch
):
  folder = shutil.copytree(real_study.folder, tmp_path / "study")

  def moved(config):
    raise InputError("no such folder.")

  monkeypatch.setattr(loaded, "_WHOLE", {})
  monkeypatch.setattr(loaded, "load", moved)
  message = r"data of .* no such folder\. .*config\.data\.data_dir='' of digits"
  with pytest.raises(InputError, match=message):
    scored_study(folder)
  # What is embedded already needs no data.
  assert scored_study(real_study.reported).cells


@pytest.mark.parametrize(
  "name", ["table_lines", "comparisons", "tables", "formats", "results"]
)
def test_what_formats_imports_nothing_that_scores_or_embeds(name):
  module = importlib.import_module(f"metric_learning.study.{name}")
  text = Path(module.__file__).read_text()
  for room in ("study.scoring", "training.recorder", "training.embedding"):
    assert f"metric_learning.{room}" not in text
  for function in (
    "score_run",
    "evaluate",
    "per_query",
    "retrieval",
    "compute(",
  ):
    assert f"evaluation.{function}" not in text and "score_run" not in text
