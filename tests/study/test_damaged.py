"""Damaged records of a study, names of runs, and warnings of runs."""

import json
import shutil

import pytest

from metric_learning import InputError
from metric_learning.study import (
  make_specs,
  read_study,
  score_chosen,
  tables,
  tuning,
)
from metric_learning.study.baselines import BASELINES
from metric_learning.study.runner import STUDY
from metric_learning.study.scoring import TEST
from metric_learning.study.sweeps import spec_name
from metric_learning.training import base_config, run_files
from tests import faults
from tests.studies import change


def reported(folder):
  """The text of a study's report."""
  return tables.to_markdown(score_chosen(read_study(folder)))


@pytest.fixture
def small(write_study):
  return write_study([({"seed": seed}, 0.5 + seed / 10) for seed in (0, 1)])


RUN = "runs/seed=1"
READ = (
  *(STUDY, BASELINES, f"{RUN}/{TEST}"),
  *(f"{RUN}/{run_files.RESULT}", f"{RUN}/{run_files.CONFIG}"),
)


@pytest.mark.parametrize("damage", faults.DAMAGES)
@pytest.mark.parametrize("name", READ)
def test_a_report_refuses_a_damaged_record_by_name(name, damage, small):
  faults.DAMAGES[damage](small / name)
  if damage == "removed" and name.endswith((TEST, run_files.CONFIG)):
    # Scored again, or a run that says so.
    assert ("STALE" in reported(small)) == name.endswith(run_files.CONFIG)
    return
  if damage == "removed" and name.endswith(run_files.RESULT):
    assert "UNFINISHED: 1 runs" in reported(small)
    return
  with pytest.raises(InputError) as error:
    reported(small)
  said = str(error.value)
  assert len(said.splitlines()) == 1
  if (name, damage) != (STUDY, "removed"):
    assert f"{small / name} cannot be read: " in said


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "a list", "null"])
def test_damaged_arrays_are_refused_by_name(damage, small):
  (small / RUN / TEST).unlink()
  name = small / RUN / run_files.EMBEDDINGS
  faults.DAMAGES[damage](name)
  with pytest.raises(InputError, match=r"npz cannot be read: .* Delete it"):
    reported(small)


def changed_row(study, **values):
  study["rows"][1]["config"] |= values
  return study


@pytest.mark.parametrize(
  ("values", "said"),
  [
    ({"loss": {"name": "evil"}}, "unknown loss 'evil'"),
    ({"loss": {}}, r"rows\[1\]\.config\.loss lacks name"),
    ({"model": None}, r"rows\[1\]\.config\.model is null, and must be an obj"),
  ],
)
def test_a_row_of_another_kind_is_refused(values, said, small):
  path = small / STUDY
  path.write_text(
    json.dumps(changed_row(json.loads(path.read_text()), **values))
  )
  with pytest.raises(InputError, match=said):
    reported(small)


def test_a_score_that_is_a_text_is_refused(small):
  path = small / RUN / run_files.RESULT
  scores = run_files.read_json(path)["validation_selected"]
  change(path, validation_selected={**scores, "own/map_at_r": "0.99"})
  with pytest.raises(InputError, match=r"own/map_at_r is a text, and must"):
    reported(small)


def test_tuning_that_is_damaged_is_refused(real_study, small):
  entry = {k: v for k, v in real_study.tuned().items() if k != "ranges"}
  (small / tuning.TUNING).write_text(json.dumps([entry]))
  with pytest.raises(InputError, match=r"tuning\.json .*lacks ranges.*Delete"):
    reported(small)


def test_a_table_that_is_a_folder_loses_nothing(small):
  (small / "table.md").mkdir()
  (small / "table.md" / "mine").touch()
  with pytest.raises(IsADirectoryError, match=r"table\.md"):
    tables.write_tables(score_chosen(read_study(small)))
  assert not list(small.glob("*.part"))


def test_a_run_that_trains_nothing_is_flagged_in_its_line(small):
  before = reported(small)
  assert "WARNED" not in before
  warning = "the gradient is 0 since step 2: the run trains nothing"
  change(small / RUN / run_files.RESULT, warnings=[warning])
  after = reported(small)
  (line,) = [x for x in after.splitlines() if "(WARNED: 1 of 2)" in x]
  assert line.startswith("| ")
  assert f"WARNED: seed=1: {warning}" in after


# --- Names of runs ----------------------------------------------------------


@pytest.mark.parametrize(
  "value",
  ["../../etc", "/etc/passwd", "..", "a\nb", "é" * 300, "\u4e2d" * 140, "\0"],
)
def test_a_name_is_one_short_folder(value, tmp_path):
  name = spec_name({"imports": value})
  assert len(name.encode()) <= 150
  folder = tmp_path / name
  folder.mkdir()
  assert [*tmp_path.iterdir()] == [folder]
  assert name != spec_name({"imports": value + "x"})


def test_a_row_without_overrides_has_a_folder_of_its_own():
  assert spec_name({}) not in ("", ".", "..")


def test_names_that_differ_in_capitals_alone_are_refused():
  rows = [{"data.data_dir": name} for name in ("Mine", "mine")]
  with pytest.raises(InputError, match="on a file system that ignores case"):
    make_specs(base_config().lock(), rows)


def test_a_swapped_record_is_of_another_run(small):
  one, other = (small / f"runs/seed={seed}" for seed in (0, 1))
  shutil.copyfile(one / run_files.RESULT, other / run_files.RESULT)
  assert "STALE" in reported(small)
