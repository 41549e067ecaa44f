"""Tables, comparisons, traces and figures of a trained study."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from metric_learning.data import load
from metric_learning.figures import read_space, tuning_curves
from metric_learning.study import read_study, tables
from metric_learning.study.baselines import BASELINES
from metric_learning.study.table_lines import table_lines, without_values
from metric_learning.training import run_files, train
from metric_learning.training.config import override
from tests.studies import CONFIG, HINGE, SOFTMAX, scored_study

README = Path(__file__).parents[2] / "README.md"
NAMES = [f"{loss}, {m}" for m in ("l1", "l2") for loss in (HINGE, SOFTMAX)]
# What is not trained has none of these.
OF_TRAINING = {
  *("chosen on validation", "MAP@R own (last)", "active", "collapsed"),
  *("trials", "searched", "s/run"),
}


def tables_of(text):
  """Each Markdown table in a text: its lines by name, each a dict by head."""
  found = []
  for block in text.split("\n\n"):
    if block.lstrip().startswith("| "):
      head, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in block.strip().splitlines()
      ]
      found.append({row[0]: dict(zip(head, row, strict=True)) for row in rows})
  return found


def means_nothing(name, head):
  """Whether a cell of the table may be empty."""
  if head == "active":
    return not name.startswith(HINGE)
  if head == "seeds":
    return "pixels" in name
  return head in OF_TRAINING and name not in NAMES


def test_every_column_is_filled_wherever_it_means_something(real_study):
  text = (real_study.reported / "table.md").read_text()
  main, compared = tables_of(text)
  baselines = ["raw pixels", "PCA-4 of pixels", "untrained mlp"]
  assert sorted(main) == sorted([*baselines, *NAMES])
  for name, line in main.items():
    for head, cell in list(line.items())[1:]:
      assert (cell in ("", "–")) == means_nothing(name, head), (name, head)
  assert len(compared) == 3
  for line in compared.values():
    empty = {head for head, cell in line.items() if cell in ("", "–")}
    # Two seeds test nothing.
    assert empty == {"p", "p (family)", "p (equal)"}


def test_what_no_heading_says_stands_under_the_tables(real_study):
  text = (real_study.reported / "table.md").read_text()
  under_main, under_compared = text.split("\n\n")[1::2]
  for column in ("active:", "trials:", "eff. rank:", "own:"):
    assert f"; {column} " in under_main
  splits = load(CONFIG.data)
  for part in ("train", "validation", "test"):
    items = getattr(splits, part)
    sizes = f"{len(items.class_names)} classes, {len(items.labels)} images"
    assert f"; {part}: {sizes} of 8×8×1; " in under_main
  # This study was not tuned: no line has anything to say there.
  assert "searched" not in (real_study.reported / "table.tex").read_text()
  assert "searched" not in text
  assert "n is the number of pairs" in under_compared


def test_columns_that_are_left_out_are_said(real_study):
  study = scored_study(real_study.reported)
  columns = [
    "own/recall_at_1",
    "own/identification_dir_at_far_0.01",
    "clustering/ami",
  ]
  config = {**study.config, "eval": {"columns": columns}}
  found = without_values(study._replace(config=config), ["R@1 own"])
  scores = study.cells[0].chosen.runs[0].tested.selected
  count = scores["own/identification_num_unknown"]
  assert found == [
    "no line has a value of DIR at FAR 1 % (FAR 0.01 needs 1000 unknown probes"
    f" (10 accepted ones), and there are {count:.0f}), AMI"
  ]


def test_the_table_of_the_readme_has_the_columns_that_are_printed(real_study):
  printed = tables_of((real_study.reported / "table.md").read_text())
  heads = {
    head for table in printed for line in table.values() for head in line
  }
  shown = tables_of(README.read_text())
  (main,) = [table for table in shown if "raw pixels" in table]
  assert {*main["raw pixels"]} <= heads


def test_the_active_share_is_that_of_the_last_step(real_study):
  study = scored_study(real_study.reported)
  cell = study.cells[0]
  values = []
  for run in cell.chosen.runs:
    last = run_files.read_metrics(run.folder)[-1]
    (written,) = [
      record
      for record in run_files.read_metrics(run.folder)
      if "train/loss" in record and record["step"] == last["step"]
    ]
    values.append(written["train/active_fraction"])
  (line,) = [x for x in table_lines(study) if x["name"] == f"{HINGE}, l1"]
  assert 0 < line["active fraction"] < 1
  assert line["active fraction"] == pytest.approx(np.mean(values))


def test_of_several_objectives_the_first_says_what_is_active(
  real_study, tmp_path
):
  folder = shutil.copytree(real_study.reported, tmp_path / "study")
  run = read_study(folder).cells[0].chosen.runs[0]
  config = override(run.spec.config, {f"also.{SOFTMAX}.weight": 0.5})
  result = train(config, tmp_path / "run", progress=False)
  # Files of runs of one objective, with what this run says of its last step.
  for path in folder.glob(f"runs/*{HINGE}*l1*/{run_files.RESULT}"):
    kept = run_files.read_json(path)
    run_files.write_json(path, {**kept, "train": result["train"]})
  (line,) = [
    x for x in table_lines(scored_study(folder)) if x["name"] == f"{HINGE}, l1"
  ]
  assert line["active fraction"] == result["train"]["train/0/active_fraction"]


# --- What is read is what is written ----------------------------------------


class Asked(dict):
  """A record that notes which of its keys are read."""

  def __init__(self, record, place, asked):
    """Takes a record, its contents, and the place for notes."""
    self._place, self._asked = place, asked
    super().__init__(
      {k: noted(v, (*place, k), asked) for k, v in record.items()}
    )

  def _note(self, key):
    place = (*self._place, key)
    self._asked[place] = self._asked.get(place, False) or key in {*self}

  def __getitem__(self, key):
    self._note(key)
    return super().__getitem__(key)

  def __contains__(self, key):
    self._note(key)
    return super().__contains__(key)

  def get(self, key, default=None):
    self._note(key)
    return super().get(key, default)


def noted(value, place, asked):
  """The value, with every dict in it as `Asked`."""
  if isinstance(value, dict):
    return Asked(value, place, asked)
  if isinstance(value, list):
    return [noted(one, (*place, "each"), asked) for one in value]
  return value


def test_every_key_that_is_read_is_written(real_study, tmp_path, monkeypatch):
  """A key that nobody writes would give an empty column, and no error."""
  folder = shutil.copytree(real_study.reported, tmp_path / "study")
  asked, read = {}, run_files.read_json

  def read_noted(path):
    return noted(read(path), (path.name,), asked)

  monkeypatch.setattr(run_files, "read_json", read_noted)
  study = scored_study(folder)
  tables.write_tables(study)
  tuning_curves(study)
  for cell in study.cells:
    for run in cell.chosen.runs[:1]:
      read_space(run.folder, "test")
  never = {place for place, exists in asked.items() if not exists}
  first, *_ = read(folder / "study.json")["data"]
  assert never == {
    ("result.json", "diverged"),  # No run did: see test_study.py.
    ("result.json", "train", "train/0/active_fraction"),  # Tested above.
    # No mean over queries, of which alone classes are resampled.
    (BASELINES, "each", "class_interval", "own/eer"),
    (BASELINES, "each", "class_interval", "own/identification_rank_1"),
    # A field that no row of this sweep sets.
    ("study.json", "cells", "each", "margin_unit"),
    # Of features; see tests/inference/test_features.py.
    ("study.json", "data", first, "provenance"),
  }
  known = {place[:2] for place in asked}
  assert {
    ("result.json", "train"),
    ("result.json", "validation_selected"),
    ("test.json", "selected"),
    (BASELINES, "each"),
    ("study.json", "cells"),
  } <= known
