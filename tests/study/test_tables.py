"""The contents of a table, and the notes beside it."""

import csv
import json

import numpy as np
import pytest

from metric_learning.data.provenance import Provenance
from metric_learning.study import make_specs, tables
from metric_learning.study.ranges import RATE
from metric_learning.study.runner import data_of
from metric_learning.training import base_config, override, run_files
from tests.studies import change, scored_study
from tests.study.written_tables import NOISE, cells, lines_of, table_of


def test_a_setting_that_lost_a_seed_has_no_validation_score(write_study):
  scored = cells(l2=[0.5, 0.6], l1=[0.5, 0.6])
  folder = write_study(scored, diverged=[3])
  lines = lines_of(folder)
  assert float(lines["contrastive, l2"]["validation"]) == pytest.approx(0.55)
  for end in ("", " low", " high"):
    assert lines["contrastive, l1"][f"validation{end}"] == ""


def test_a_score_that_is_missing_is_the_reason(write_study):
  folder = write_study(cells(l2=0.5 + NOISE, l1=[float("nan")] * 10))
  text = tables.to_markdown(scored_study(folder))
  line = table_of(text, 1)["contrastive, l1"]
  assert line["verdict"] == "not tested: a score is missing"
  assert "cannot support" not in text


def stale_config(run):
  change(run / "config.json", seed=77)


def stale_result(run):
  change(run / "result.json", digest="0" * 12)


def stale_row(run):
  path = run.parents[1] / "study.json"
  study = json.loads(path.read_text())
  (row,) = [row for row in study["rows"] if row["name"] == run.name]
  row["config"]["train"]["steps"] = 99
  path.write_text(json.dumps(study))


@pytest.mark.parametrize("spoil", [stale_config, stale_result, stale_row])
def test_runs_that_no_longer_match_are_named_and_left_out(write_study, spoil):
  scored = cells(l2=[0.1, 0.2, 0.3], l1=[0.4, 0.5, 0.9])
  folder = write_study(scored)
  name = "loss.name=contrastive,metric.name=l1,seed=2"
  assert scored_study(folder).stale == []
  spoil(folder / "runs" / name)
  study = scored_study(folder)
  assert study.stale == [name]
  line = lines_of(folder)["contrastive, l1"]
  assert float(line["own/map_at_r"]) == pytest.approx(0.45)
  assert line["stale"] == "1"
  text = (folder / "table.md").read_text()
  assert "| contrastive, l1 (STALE: 1) |" in text
  assert "STALE: 1 runs do not match" in text
  traced = json.loads((folder / "trace.json").read_text())
  assert traced["loss.name=contrastive,metric.name=l1"]["stale"] == [name]


def test_a_cell_of_stale_runs_does_not_end_the_report(write_study):
  folder = write_study(cells(l2=[0.1], l1=[0.4]))
  for path in folder.glob("runs/*/config.json"):
    path.unlink()
  assert lines_of(folder)["contrastive, l1"]["chosen"] == "no usable run"
  text = (folder / "table.md").read_text()
  assert "no usable run | stale | stale |" in text
  assert "failed" not in text


def test_every_line_can_be_traced(write_study):
  folder = write_study(cells(l2=[0.1, 0.2], l1=[0.3, 0.4]))
  line = lines_of(folder)["contrastive, l1"]
  cell = "loss.name=contrastive,metric.name=l1"
  traced = json.loads((folder / "trace.json").read_text())[cell]
  assert traced["name"] == "contrastive, l1" and "trials" not in traced
  names = [f"{cell},seed={seed}" for seed in (0, 1)]
  assert line["runs"].split() == names
  for name, found, own in zip(
    names, traced["runs"], line["digests"].split(), strict=True
  ):
    result = json.loads((folder / "runs" / name / "result.json").read_text())
    assert found["folder"] == f"runs/{name}"
    assert found["config digest"] == own == result["digest"]
    assert found["commit"] == line["commits"] == "0123456789ab"


def test_a_table_says_what_made_its_features(write_study, tmp_path):
  known = Provenance(
    *(
      "resnet18",
      "gem",
      "float32",
      "r18.pth",
      "0f" * 6,
      [32, 32],
      "",
      "cub100",
    ),
    *("ab" * 6, ["official", 0, 0], 0, {}, 0, "unknown"),
  )
  np.savez(
    tmp_path / "own.npz",
    features=np.random.default_rng(0).normal(size=(40, 3)),
    labels=np.repeat(np.arange(10), 4),
    provenance=known.as_array(),
  )
  own = {"data.name": "features", "data.data_dir": str(tmp_path / "own.npz")}
  own |= {"data.split": "classes", "model.name": "linear"}
  found = data_of(make_specs(override(base_config(), own), [{"seed": 0}]))
  folder = write_study(cells(l2=[0.5], l1=[0.6]))
  assert "resnet18" not in tables.to_markdown(scored_study(folder))
  change(folder / "study.json", data=found)
  study = scored_study(folder)
  said = "features of cub100 (abababababab) at 32×32 by resnet18, gem pool"
  assert said in tables.to_markdown(study)
  assert "by resnet18, gem pool" in tables.to_latex(study)


def test_cells_that_are_the_same_in_words_are_traced_apart(write_study):
  scored = [({"metric.name": "l2", "seed": 0}, 0.5)]
  scored += [({"metric.name": "l2", "margin_unit": "initial_mean"}, 0.5)]
  folder = write_study(scored)
  tables.write_tables(scored_study(folder))
  traced = json.loads((folder / "trace.json").read_text())
  assert [cell["name"] for cell in traced.values()] == ["l2", "l2"]
  folders = {cell["runs"][0]["folder"] for cell in traced.values()}
  assert len(folders) == 2


def test_baselines_and_trials_can_be_traced(real_study, write_study):
  scored = [({"metric.name": "l2", "loss.name": "triplet", "seed": 0}, 0.5)]
  folder = write_study(scored)
  kept = real_study.tuned_once(
    cell={"metric.name": "l2", "loss.name": "triplet"}, folder="trials/kept"
  )
  lost = real_study.tuned_once(
    cell={"metric.name": "l2", "data.image_size": [4, 4]},
    folder="trials/lost",
    chosen={},
  )
  run_files.write_json(folder / "tuning.json", [kept, lost])
  pixels = real_study.baseline("raw pixels", 0.1, commit="fedcba987654")
  run_files.write_json(folder / "baselines.json", [pixels])
  tables.write_tables(scored_study(folder))
  traced = json.loads((folder / "trace.json").read_text())
  assert traced["raw pixels"] == {"commits": ["fedcba987654"]}
  found = {
    line["name"]: line["trials"] for line in traced.values() if "trials" in line
  }
  assert found == {"triplet, l2": "trials/kept", "l2, 4×4": "trials/lost"}


def test_the_last_checkpoint_stands_beside_the_selected_one(
  real_study, write_study
):
  folder = write_study(cells(l2=[0.5]))
  (run,) = folder.glob("runs/*")
  run_files.write_json(run / "test.json", real_study.scores(0.5, last=0.25))
  head, _, line = tables.to_markdown(scored_study(folder)).splitlines()[:3]
  values = dict(zip(head.split("|"), line.split("|"), strict=True))
  assert values[" MAP@R own "] == " 0.500 "
  assert values[" MAP@R own (last) "] == " 0.250 "
  assert values[" trials "] == values[" seeds "] == " 1 "
  assert values[" collapsed "] == " 0 of 1 "
  assert values[" active "] == " 0.250 "
  assert values[" s/run "] == " 1.5 "


def test_a_table_says_what_was_trained_on_validation_classes(write_study):
  told = "trained on the validation classes too, so the last checkpoint is"
  for train_on in ("train", "train+validation"):
    folder = write_study(
      cells(l2=[0.5, 0.6]), train_on, data__train_on=train_on
    )
    tables.write_tables(scored_study(folder))
    seen = train_on != "train"
    assert (told in (folder / "table.md").read_text()) == seen
    with (folder / "table.csv").open() as file:
      (line,) = csv.DictReader(file)
    assert any("validation" in k and v for k, v in line.items()) != seen


def test_trials_and_edges_come_from_the_tuning(real_study, write_study):
  scored = [
    ({**overrides, "loss.margin": 2.0}, score)
    for overrides, score in cells(l2=[0.5, 0.6], l1=[0.5, 0.6])
  ]
  folder = write_study(scored)
  ranges = {"loss.margin": [0.0, 2.0, False], RATE: [1e-4, 1e-2, True]}
  tuning = [
    real_study.tuned_once(
      cell={"loss.name": "contrastive", "metric.name": "l1"},
      trials=12,
      on_edge=["loss.margin"],
      ranges=ranges,
    ),
    real_study.tuned_once(
      cell={"loss.name": "triplet", "metric.name": "l1"},
      trials=12,
      chosen={},
      failed=12,
      ranges={**ranges, "loss.beta": [0.0, 1.0, False]},
    ),
  ]
  (folder / "tuning.json").write_text(json.dumps(tuning))
  lines = lines_of(folder)
  assert lines["contrastive, l2"]["trials"] == "1"
  assert lines["contrastive, l1"]["trials"] == "12"
  assert lines["contrastive, l1"]["chosen"].endswith("(edge)")
  assert lines["triplet, l1"]["chosen"] == "every trial failed (12)"
  text = (folder / "table.md").read_text()
  assert "| triplet, l1 | every trial failed (12) | failed |" in text
  found = {name: line["searched"] for name, line in table_of(text).items()}
  assert found["contrastive, l2"] == "–"  # not in tuning.json
  assert found["contrastive, l1"] == lines["contrastive, l1"]["searched"]
  assert found["contrastive, l1"] == "1 + rate"
  assert found["triplet, l1"] == "2 + rate"
  assert "UNEQUAL SEARCH" in text
  assert "searched values of a cell is 1 + rate or 2 + rate" in text
  (folder / "tuning.json").write_text(json.dumps(tuning[:1]))
  assert "UNEQUAL" not in tables.to_markdown(scored_study(folder))


def test_a_searched_value_that_selects_code_is_in_the_table(write_study):
  scored = [
    ({"loss.name": "fastap", "loss.num_bins": 10, "seed": seed}, 0.5)
    for seed in (0, 1)
  ]
  folder = write_study(scored)
  assert lines_of(folder)["fastap"]["chosen"] == "num_bins 10"


def test_a_table_says_what_its_own_metric_is(real_study, write_study, tmp_path):
  folder = write_study(cells(l2=[0.5]))
  assert "baselines are compared" not in tables.to_markdown(
    scored_study(folder)
  )
  pixels = real_study.baseline("raw pixels", 0.1)
  run_files.write_json(folder / "baselines.json", [pixels])
  text = tables.to_markdown(scored_study(folder))
  assert "baselines are compared under L2" in text


def test_a_setting_that_was_chosen_over_folds_is_not_nested(write_study):
  """A class that validates in one fold may be tested in another."""
  margins = [
    (
      {"loss.name": "contrastive", "loss.margin": margin, "data.fold": fold},
      0.5,
    )
    for margin in (0.5, 1.0)
    for fold in (0, 1)
  ]
  told = "NOT NESTED: one setting was chosen for all folds"
  study = scored_study(write_study(margins))
  assert told in tables.to_markdown(study)
  assert told in tables.to_latex(study)
  # With one fold, or with one setting, each run has a validation of its own.
  for name, kept in (("fold", margins[::2]), ("setting", margins[:2])):
    study = scored_study(write_study(kept, name))
    assert "NESTED" not in tables.to_markdown(study)


def test_folds_have_a_table_of_their_own(real_study, write_study):
  values = {(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.4, (2, 0): 0.6}
  scored = [
    ({"metric.name": "l2", "data.fold": fold, "seed": seed}, value)
    for (fold, seed), value in values.items()
  ]
  scored.append(({"metric.name": "l1", "data.fold": 1, "seed": 0}, 0.25))
  folder = write_study(scored)
  baselines = [
    real_study.baseline("untrained mlp", value / 2, fold=fold, seed=seed)
    for (fold, seed), value in values.items()
  ]
  run_files.write_json(folder / "baselines.json", baselines)
  text = tables.to_markdown(scored_study(folder))
  title, _, rest = text.partition("MAP@R own by fold (mean over seeds)")
  assert title and rest
  found = table_of(rest)
  # Folds .2, .4, .6: mean .4, s = .2, s/√3 = .1155; half of that untrained.
  assert list(found["l2"].values()) == [
    "l2",
    "0.200",
    "0.400",
    "0.600",
    "0.400 ± 0.115",
  ]
  line = list(found["untrained mlp"].values())
  assert line[1:] == ["0.100", "0.200", "0.300", "0.200 ± 0.058"]
  assert list(found["l1"].values())[1:] == ["–", "0.250", "–", "0.250"]
  # The t-interval of the main table: t(.975, 2) · .1155 = .497, and half.
  main = table_of(text)
  assert main["l2"]["MAP@R own"] == "0.400 ± 0.497"
  assert main["untrained mlp"]["MAP@R own"] == "0.200 ± 0.248"
