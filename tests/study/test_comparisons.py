"""Cells against a reference, from the files of a study to the verdict."""

import csv
import json

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from metric_learning import InputError, evaluation
from metric_learning.study import make_specs, read_study, run_study, tables
from metric_learning.study.compared_with import pairs_with_reference
from metric_learning.study.comparisons import class_interval, compare_cells
from metric_learning.study.ranges import RATE
from metric_learning.study.scoring import QUERIES, score_run
from metric_learning.training import records
from metric_learning.training.config import as_dict, digest, override
from tests.studies import COLUMNS, change, scored_study
from tests.tiny import tiny_config

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.01, 10)


def cells(**by_metric):
  """Rows of the contrastive loss under each metric, one for each score."""
  return [
    ({"loss.name": "contrastive", "metric.name": metric, "seed": seed}, score)
    for metric, values in by_metric.items()
    for seed, score in enumerate(values)
  ]


def judged(folder):
  return {
    c.name["metric.name"]: c.judged for c in compare_cells(scored_study(folder))
  }


def table_of(text, number=0):
  """The lines of a Markdown table by name, each a dict by its heads."""
  tables_in = [t for t in text.split("\n\n") if t.lstrip().startswith("| ")]
  head, _, *rows = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in tables_in[number].strip().splitlines()
  ]
  return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def lines_of(folder):
  """The lines of table.csv by name."""
  tables.write_tables(scored_study(folder))
  with (folder / "table.csv").open() as file:
    return {line["name"]: line for line in csv.DictReader(file)}


# --- Who is compared with whom ----------------------------------------------

NAMES = [
  {"loss.name": loss, "metric.name": metric}
  for loss in ("triplet", "margin")
  for metric in ("l2", "l1")
]


def test_all_cells_are_compared_with_the_first_unless_one_is_named():
  first = [(name, NAMES[0]) for name in NAMES[1:]]
  assert pairs_with_reference(NAMES, "") == first
  named = pairs_with_reference(NAMES, "loss.name=margin,metric.name=l1")
  assert named == [(name, NAMES[3]) for name in NAMES[:3]]


def test_a_field_compares_twins():
  found = pairs_with_reference(NAMES, "metric.name=l2")
  assert found == [(NAMES[1], NAMES[0]), (NAMES[3], NAMES[2])]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"study.reference": "metrik=l2"}, r"'metrik'; did you mean 'metric.name'"),
    ({"study.reference": "metric.name=l3"}, r"'l3'; did you mean"),
    ({"study.columns": ("own/map",)}, r"'own/map'; did you mean 'own/map_at_r"),
    ({"study.delta": 0.0}, r"config.study.delta must be positive, got 0.0"),
  ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
  fields, message, tmp_path
):
  config = override(tiny_config(), fields)
  rows = make_specs(config, [{"metric.name": m} for m in ("l1", "l2")])
  with pytest.raises(InputError, match=message):
    run_study(config, rows, tmp_path / "study")
  assert not (tmp_path / "study").exists()


def test_what_is_compared_is_no_part_of_a_run():
  config = tiny_config()
  other = override(
    config, {"study.delta": 0.5, "study.reference": "metric.name=l1"}
  )
  assert digest(other) == digest(config)
  assert as_dict(other) == as_dict(config)


def test_what_was_named_before_the_runs_stays(write_study):
  folder = write_study(cells(l2=[0.5], l1=[0.4]))
  config = tiny_config(eval__columns=COLUMNS, study__delta=0.05)
  rows = make_specs(config, [o for o, _ in cells(l2=[0.5], l1=[0.4])])
  with pytest.raises(InputError, match=r"study.delta \(0.01 there"):
    run_study(config, rows, folder)


# --- Differences ------------------------------------------------------------


def test_differences_are_paired_by_seed(write_study):
  scored = cells(l2=[0.1, 0.5, 0.3], l1=[0.2, 0.7, 0.9])
  folder = write_study(scored, missing=[2])
  difference = judged(folder)["l1"].difference
  # Seed 2 of l2 is missing: .1 and .2 are left.
  assert difference.n == 2
  assert difference.mean == pytest.approx(0.15)


def test_seeds_of_one_fold_count_once(write_study):
  values = {0: (0.1, 0.3), 1: (0.5, 0.7), 2: (0.2, 0.2)}
  scored = [
    (
      {"metric.name": metric, "data.fold": fold, "seed": seed},
      value + (fold * 0.1 + 0.1) * (metric == "l1"),
    )
    for metric in ("l2", "l1")
    for fold, seeds in values.items()
    for seed, value in enumerate(seeds)
  ]
  folder = write_study(scored)
  difference = judged(folder)["l1"].difference
  # By fold .1, .2, .3: s = .1, t(.975, 2) = 4.302653.
  assert difference.n == 3
  assert difference.mean == pytest.approx(0.2)
  assert difference.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5)
  assert "paired by fold" in tables.to_markdown(scored_study(folder))


@pytest.mark.slow
def test_verdicts_reach_the_tables(write_study):
  same = 0.5 + NOISE
  folder = write_study(
    cells(
      l2=same,
      l1=same + 0.1 + 0.1 * NOISE,
      cosine=same - 0.1 + 0.1 * NOISE,
      squared_l2=same + 0.1 * (NOISE - NOISE.mean()),
      linf=same + 20 * (NOISE - NOISE.mean()),
    ),
  )
  wanted = {
    "l1": "better",
    "cosine": "worse",
    "squared_l2": "no difference",
    "linf": "unresolved",
  }
  found = judged(folder)
  assert {name: one.verdict for name, one in found.items()} == wanted
  assert found["l1"].p == 2 / 2**10 and found["l1"].holm == 4 * 2 / 2**10
  tables.write_tables(scored_study(folder))
  text = (folder / "table.md").read_text()
  latex = (folder / "table.tex").read_text()
  with (folder / "comparisons.csv").open() as file:
    lines = {line["name"]: line for line in csv.DictReader(file)}
  for metric, verdict in wanted.items():
    line = lines[f"contrastive, {metric}"]
    assert (line["reference"], line["verdict"]) == ("contrastive, l2", verdict)
    assert f"| {verdict} |" in text and f"& {verdict} " in latex
  assert float(lines["contrastive, l1"]["difference"]) == pytest.approx(
    0.1 + 0.1 * NOISE.mean()
  )
  assert "by Holm over the family of 4" in text
  assert "inside ±0.01" in text


def test_of_an_error_rate_less_is_better(write_study):
  scored = cells(l2=0.5 + NOISE, l1=0.6 + 1.1 * NOISE)
  folder = write_study(scored)
  assert judged(folder)["l1"].verdict == "better"
  change(
    folder / "study.json",
    study={"reference": "", "columns": ["own/eer"], "delta": 0.01},
  )
  assert judged(folder)["l1"].verdict == "worse"


def test_seeds_that_are_too_few_get_intervals_and_no_verdict(write_study):
  scored = cells(l2=[0.1, 0.2, 0.3], l1=[0.4, 0.5, 0.6], cosine=[0.4, 0.5, 0.6])
  folder = write_study(scored)
  text = tables.to_markdown(scored_study(folder))
  assert text.count("| +0.300 ± 0.000 |") == 2
  assert text.count("| – | – | not tested |") == 2
  assert "3 seeds cannot support a family of 2" in text
  # 2 · 2/2ⁿ <= .05: 4/64 is too much, 4/128 is not.
  assert "7 seeds would do" in text
  assert "better" not in text.lower()


def test_a_number_that_the_reference_names_is_compared_and_not_chosen(
  write_study,
):
  # By positive and negative margin; the seeds add the same to each.
  means = {(0.0, 1.0): 0.2, (0.0, 2.0): 0.3, (0.5, 1.0): 0.6, (0.5, 2.0): 0.1}
  scored = [
    (
      {
        "loss.name": "contrastive_linear",
        "loss.negative_margin": negative,
        "loss.positive_margin": positive,
        "seed": seed,
      },
      mean + noise,
    )
    for (positive, negative), mean in means.items()
    for seed, noise in enumerate(NOISE)
  ]
  reference = "loss.positive_margin=0.0"
  folder = write_study(scored, study__reference=reference)
  (one,) = compare_cells(scored_study(folder))
  assert one.name["loss.positive_margin"] == 0.5
  assert one.reference["loss.positive_margin"] == 0.0
  # Each at its own best negative margin: .6 and .3.
  assert one.judged.difference.mean == pytest.approx(0.3)
  assert one.judged.verdict == "better"
  chosen = {name: x["chosen"] for name, x in lines_of(folder).items()}
  assert chosen["contrastive_linear, positive_margin 0.5"].startswith(
    "negative_margin 1"
  )


# --- Cells that cannot be used ----------------------------------------------


def test_a_cell_whose_every_run_failed_says_so_and_counts(write_study):
  same = 0.5 + NOISE
  scored = cells(l2=same, l1=same + 0.1, cosine=same)
  folder = write_study(scored, diverged=range(20, 30))
  line = lines_of(folder)["contrastive, cosine"]
  assert line["chosen"] == "every run diverged"
  assert line["n"] == "0" and line["own/map_at_r"] == ""
  found = judged(folder)
  assert found["cosine"].verdict == "not tested: no runs"
  assert found["l1"].holm == 2 * 2 / 2**10
  text = (folder / "table.md").read_text()
  assert "every run diverged | failed | failed" in text


def test_a_run_that_diverged_is_counted(write_study):
  scored = cells(l2=0.5 + NOISE, l1=0.5 + NOISE)
  folder = write_study(scored, diverged=[13])
  text = tables.to_markdown(scored_study(folder))
  assert "| contrastive, l1 (1 diverged) |" in text
  assert judged(folder)["l1"].difference.n == 9


WORSE_CASES = {
  # Runs of l2 (the reference) and l1 that diverged, the difference: verdict.
  "own": ((), (3, 7), 0.1, "unresolved: 2 of 10 runs diverged"),
  "own, equal": ((), (3,), 0.0, "unresolved: 1 of 10 runs diverged"),
  "own, worse": ((), (3, 7), -0.1, "worse"),
  "reference": (
    (4,),
    (),
    -0.1,
    "unresolved: 1 of 10 runs of the reference diverged",
  ),
  "reference, better": ((4,), (), 0.1, "better"),
  "both": (
    (4,),
    (3,),
    0.0,
    "unresolved: 1 of 10 runs diverged, 1 of 10 runs of the reference diverged",
  ),
  "too few": ((), range(4, 10), 0.1, "not tested"),
}


@pytest.mark.parametrize("case", WORSE_CASES)
def test_runs_that_diverged_count_against_their_cell(write_study, case):
  theirs, own, difference, verdict = WORSE_CASES[case]
  l1 = 0.5 + NOISE + difference + 0.001 * NOISE
  diverged = [*theirs, *(10 + seed for seed in own)]
  scored = cells(l2=0.5 + NOISE, l1=l1)
  folder = write_study(scored, diverged=diverged)
  found = judged(folder)["l1"]
  assert found.verdict == verdict
  text = tables.to_markdown(scored_study(folder))
  assert ("not called better" in text) == verdict.startswith("unresolved")


def test_a_run_without_a_score_is_not_called_diverged(write_study):
  folder = write_study(cells(l2=0.5 + NOISE, l1=0.6 + NOISE), diverged=[13])
  for path in folder.glob("runs/*metric.name=l1,seed=[57]/result.json"):
    nothing = dict.fromkeys(records.read_json(path)["validation_selected"])
    change(path, selected_step=None, validation_selected=nothing)
  assert judged(folder)["l1"].verdict == (
    "unresolved: 1 of 10 runs diverged, 2 of 10 runs without a score"
  )
  text = tables.to_markdown(scored_study(folder))
  assert "A run that diverged, or whose validation score is NaN, has" in text
  assert "l1 (1 diverged) (2 without a score)" in text


def test_of_how_many_pairs_a_comparison_is_stands_in_its_row(write_study):
  same = 0.5 + NOISE
  folder = write_study(
    cells(l2=same, l1=same + 0.1, cosine=same + 0.1),
    missing=[20],
  )
  tables.write_tables(scored_study(folder))
  text = (folder / "table.md").read_text()
  found = table_of(text, 1)
  assert found["contrastive, l1"]["n"] == "10"
  assert found["contrastive, cosine"]["n"] == "9 of 10 seeds"
  assert "& 9 of 10 seeds &" in (folder / "table.tex").read_text()
  # 2 · 2/2⁹ is under .05, and something was tested anyway.
  assert "cannot support" not in text and "intervals alone" not in text


def test_a_comparison_with_too_few_seeds_does_not_speak_for_the_others(
  write_study,
):
  same = 0.5 + NOISE
  folder = write_study(
    cells(l2=same, l1=same + 0.1 + 0.1 * NOISE, cosine=same),
    missing=range(23, 30),
  )
  found = judged(folder)
  assert found["l1"].verdict == "better"
  assert found["cosine"].verdict == "not tested"
  text = tables.to_markdown(scored_study(folder))
  assert "by Holm over the family of 2" in text
  assert "cannot support" not in text
  assert table_of(text, 1)["contrastive, cosine"]["n"] == "3 of 10 seeds"


def test_what_is_not_tested_has_no_p_in_any_file(write_study):
  folder = write_study(cells(l2=[0.1] * 3, l1=[0.4] * 3))
  tables.write_tables(scored_study(folder))
  with (folder / "comparisons.csv").open() as file:
    (line,) = csv.DictReader(file)
  assert (line["p"], line["p (Holm)"]) == ("", "")
  assert line["verdict"] == "not tested"
  assert line["n"] == "3"


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
  assert "STALE: 1 runs no longer match" in text
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


# --- What a table says beside -----------------------------------------------


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
  kept = real_study.tuned(
    cell={"metric.name": "l2", "loss.name": "triplet"}, folder="trials/kept"
  )
  lost = real_study.tuned(
    cell={"metric.name": "l2", "data.image_size": [4, 4]},
    folder="trials/lost",
    chosen={},
  )
  records.write_json(folder / "tuning.json", [kept, lost])
  pixels = real_study.baseline("raw pixels", 0.1, commit="fedcba987654")
  records.write_json(folder / "baselines.json", [pixels])
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
  records.write_json(run / "test.json", real_study.scores(0.5, last=0.25))
  head, _, line = tables.to_markdown(scored_study(folder)).splitlines()[:3]
  values = dict(zip(head.split("|"), line.split("|"), strict=True))
  assert values[" MAP@R own "] == " 0.500 "
  assert values[" MAP@R own (last) "] == " 0.250 "
  assert values[" trials "] == values[" seeds "] == " 1 "
  assert values[" collapsed "] == " 0 of 1 "
  assert values[" active "] == " 0.250 "
  assert values[" s/run "] == " 1.5 "


def test_a_table_says_what_was_trained_on_validation_classes(write_study):
  told = "trained on the validation classes too: the last checkpoint is the"
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
    real_study.tuned(
      cell={"loss.name": "contrastive", "metric.name": "l1"},
      trials=12,
      on_edge=["loss.margin"],
      ranges=ranges,
    ),
    real_study.tuned(
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
  assert "the search is not equal" in text
  assert "searched for a cell are 1 + rate or 2 + rate" in text
  (folder / "tuning.json").write_text(json.dumps(tuning[:1]))
  assert "not equal" not in tables.to_markdown(scored_study(folder))


def test_a_searched_value_that_selects_code_is_in_the_table(write_study):
  scored = [
    ({"loss.name": "fastap", "loss.num_bins": 10, "seed": seed}, 0.5)
    for seed in (0, 1)
  ]
  folder = write_study(scored)
  assert lines_of(folder)["fastap"]["chosen"] == "num_bins 10"


def test_a_table_says_what_its_own_metric_is(real_study, write_study, tmp_path):
  folder = write_study(cells(l2=[0.5]))
  assert "of the baselines" not in tables.to_markdown(scored_study(folder))
  pixels = real_study.baseline("raw pixels", 0.1)
  records.write_json(folder / "baselines.json", [pixels])
  text = tables.to_markdown(scored_study(folder))
  assert "the own metric of the baselines is L2" in text


def test_a_setting_that_was_chosen_over_folds_is_not_nested(write_study):
  """Whoever validates in a fold may be tested in another."""
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


# --- Test classes -----------------------------------------------------------


ABC = ("a", "b", "c")


def hits(run):
  """Of each query, whether the nearest other point is of its class."""
  arrays = np.load(run / "embeddings.npz")
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  near = NearestNeighbors(n_neighbors=2, metric="cityblock").fit(points)
  return labels[near.kneighbors(points)[1][:, 1]] == labels, labels


def test_classes_are_resampled_for_all_runs_at_once(write_study):
  rows = [
    ({"loss.name": loss, "metric.name": "l1", "seed": seed}, 0.5)
    for loss in ("contrastive", "triplet")
    for seed in (0, 1)
  ]
  folder = write_study(rows, class_names=ABC)
  change(
    folder / "study.json",
    study={"reference": "", "columns": ["own/recall_at_1"], "delta": 0.01},
  )
  study = scored_study(folder)
  found = [
    [hits(run.folder) for run in cell.chosen.runs] for cell in study.cells
  ]
  means = [np.mean([values for values, _ in runs], axis=0) for runs in found]
  labels = found[0][0][1]
  (one,) = compare_cells(study)
  wanted = evaluation.class_bootstrap(means[1] - means[0], labels)
  assert one.over_classes == pytest.approx(wanted)
  assert wanted[0] < wanted[1]
  own = class_interval(study.cells[0].chosen.runs, "own/recall_at_1")
  assert own == pytest.approx(evaluation.class_bootstrap(means[0], labels))
  assert len(list(folder.glob(f"runs/*/{QUERIES}"))) == 4
  low, high = own
  assert f"[{low:.3f}, {high:.3f}]" in tables.to_markdown(study)


def test_classes_of_all_folds_are_resampled(write_study):
  rows = [
    (
      {"metric.name": "l1", "loss.name": loss, "data.fold": fold, "seed": seed},
      0.5,
    )
    for loss in ("contrastive", "triplet")
    for fold in (0, 1)
    for seed in (0, 1)
  ]
  folder = write_study(rows, class_names=ABC)
  for path in folder.glob("runs/*fold=1*/embeddings.npz"):
    arrays = dict(np.load(path))
    arrays["test_class_names"] = np.array(["a", "longer", "e"])
    np.savez(path, **arrays)
  change(
    folder / "study.json",
    study={"reference": "", "columns": ["own/recall_at_1"], "delta": 0.01},
  )
  study = scored_study(folder)
  means = []
  for cell in study.cells:
    found = {0: [], 1: []}
    for run in cell.chosen.runs:
      found[run.spec.config.data.fold].append(hits(run.folder)[0])
    means.append(np.concatenate([np.mean(x, axis=0) for x in found.values()]))
  labels = hits(study.cells[0].chosen.runs[0].folder)[1]
  # Both folds test the class "a", the others are their own: 5 classes.
  labels = np.concatenate([labels, np.array([0, 3, 4])[labels]])
  own = class_interval(study.cells[0].chosen.runs, "own/recall_at_1")
  # The seed of the bootstrap draws by the order of the names: a b c e longer.
  labels = np.array([0, 1, 2, 4, 3])[labels]
  assert own == pytest.approx(evaluation.class_bootstrap(means[0], labels))
  (one,) = compare_cells(study)
  wanted = evaluation.class_bootstrap(means[1] - means[0], labels)
  assert one.over_classes == pytest.approx(wanted)
  low, high = own
  assert f"[{low:.3f}, {high:.3f}]" in tables.to_markdown(study)


def test_runs_of_a_fold_that_differ_in_queries_have_no_common_interval(
  write_study,
):
  folder = write_study(cells(l2=[0.5, 0.5]), class_names=ABC)
  path = next(folder.glob("runs/*seed=1/embeddings.npz"))
  arrays = dict(np.load(path))
  arrays["test_class_names"] = np.array(["d", "e", "f"])
  np.savez(path, **arrays)
  (cell,) = scored_study(folder).cells
  assert class_interval(cell.chosen.runs, "own/map_at_r") is None
  assert class_interval(cell.chosen.runs[:1], "own/map_at_r") is not None
  assert class_interval(cell.chosen.runs[:1], "own/eer") is None


# --- The checkpoint and the metric ------------------------------------------


def test_cells_are_compared_at_the_selected_checkpoint(real_study, write_study):
  folder = write_study(cells(l2=[0.5] * 3, l1=[0.6] * 3))
  for path in folder.glob("runs/*metric.name=l1*/test.json"):
    records.write_json(path, real_study.scores(0.6, last=0.9))
  assert judged(folder)["l1"].difference.mean == pytest.approx(0.1)


def test_queries_are_those_of_the_selected_checkpoint(write_study):
  folder = write_study(cells(l1=[0.5]), class_names=ABC)
  (run,) = read_study(folder).cells[0].chosen.runs
  arrays = dict(np.load(run.folder / "embeddings.npz"))
  # At the selected checkpoint every point is on the mark of its class.
  marks = np.eye(3, 2, dtype=np.float32)[arrays["test_labels"]]
  selected = {**arrays, "test_embeddings": marks}
  np.savez(run.folder / records.SELECTED_EMBEDDINGS, **selected)
  (found,) = score_run(run, ["own/recall_at_1"]).tested.queries.values()
  assert np.mean(found) == 1
  assert np.mean(hits(run.folder)[0]) < 1


def test_queries_have_a_score_under_cosine_too(write_study):
  folder = write_study(cells(l1=[0.5]), class_names=ABC)
  (run,) = read_study(folder).cells[0].chosen.runs
  arrays = np.load(run.folder / "embeddings.npz")
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  near = NearestNeighbors(n_neighbors=4, metric="cosine").fit(points)
  found = labels[near.kneighbors(points)[1][:, 1:]] == labels[:, None]
  columns = ["cosine/recall_at_3", "own/recall_at_1", "cosine/recall_at_1"]
  tested = score_run(run, columns).tested
  values = tested.queries["cosine/recall_at_3"]
  np.testing.assert_array_equal(values, found.any(axis=1))
  assert set(tested.classes) == {"a", "b", "c"}
  # Under the own metric some other queries are hit.
  own = tested.queries["own/recall_at_1"]
  cosine = tested.queries["cosine/recall_at_1"]
  np.testing.assert_array_equal(cosine, found[:, 0])
  assert not np.array_equal(own, cosine)


# --- Folds ------------------------------------------------------------------


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
  records.write_json(folder / "baselines.json", baselines)
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
