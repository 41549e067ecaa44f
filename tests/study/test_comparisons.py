"""Comparisons of cells with their references: pairs and verdicts."""

import csv

import pytest

from metric_learning import InputError
from metric_learning.study import make_specs, run_study, sweep, tables
from metric_learning.study.compared_with import pairs_with_reference
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.sweeps import check_reference
from metric_learning.training import run_files
from metric_learning.training.config import as_dict, digest, override
from tests.studies import COLUMNS, change, scored_study
from tests.study.written_tables import NOISE, cells, lines_of, table_of
from tests.tiny import tiny_config


def judged(folder):
  return {
    c.name["metric.name"]: c.judged for c in compare_cells(scored_study(folder))
  }


NAMES = [
  {"loss.name": loss, "metric.name": metric}
  for loss in ("triplet", "margin")
  for metric in ("l2", "l1")
]


def test_all_cells_are_compared_with_the_first_unless_one_is_named():
  first = [(name, NAMES[0]) for name in NAMES[1:]]
  assert pairs_with_reference(NAMES, {}) == first
  named = pairs_with_reference(
    NAMES, {"loss.name": "margin", "metric.name": "l1"}
  )
  assert named == [(name, NAMES[3]) for name in NAMES[:3]]


def test_a_field_compares_twins():
  found = pairs_with_reference(NAMES, {"metric.name": "l2"})
  assert found == [(NAMES[1], NAMES[0]), (NAMES[3], NAMES[2])]


def test_values_are_compared_as_numbers_and_tuples_as_their_records():
  names = [
    {"data.image_size": size, "loss.margin": margin}
    for size in ([4, 4], [8, 8])
    for margin in (0.5, 1.0)
  ]
  reference = {"data.image_size": (8, 8), "loss.margin": 1}
  found = pairs_with_reference(names, reference)
  assert found == [(name, names[3]) for name in names[:3]]
  with pytest.raises(InputError, match=r"'4×8'.*Known: 4×4, 8×8"):
    pairs_with_reference(names, {"data.image_size": (4, 8)})


def test_a_reference_that_is_a_text_is_told_the_new_form():
  said = r"reference=\{'metric.name': 'l2'\}; .*reference.metric.name=l2"
  with pytest.raises(InputError, match=said):
    check_reference("metric.name=l2")
  user = lambda function: getattr(function, "__wrapped__", function)
  with pytest.raises(InputError, match=said):
    user(sweep)(reference="metric.name=l2")
  with pytest.raises(InputError, match=said):
    user(pairs_with_reference)(NAMES, "metric.name=l2")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"study.reference.metrik": "l2"}, r"'metrik'; did you mean 'metric.name'"),
    ({"study.reference.metric.name": "l3"}, r"'l3'; did you mean"),
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
    config, {"study.delta": 0.5, "study.reference.metric.name": "l1"}
  )
  assert digest(other) == digest(config)
  assert as_dict(other) == as_dict(config)


def test_what_was_named_before_the_runs_stays(write_study):
  folder = write_study(cells(l2=[0.5], l1=[0.4]))
  config = tiny_config(eval__columns=COLUMNS, study__delta=0.05)
  rows = make_specs(config, [o for o, _ in cells(l2=[0.5], l1=[0.4])])
  with pytest.raises(InputError, match=r"study.delta \(0.01 there"):
    run_study(config, rows, folder)


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
      squared_l2=same + 0.02 * (NOISE - NOISE.mean()),
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
  assert found["l1"].p == found["l1"].corrected == 2 / 2**10
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
  assert "for the family of 4 by the step-down maximum test" in text
  assert (
    "a difference of at least 0.01, corrected by Holm over the family" in text
  )


def test_of_an_error_rate_less_is_better(write_study):
  scored = cells(l2=0.5 + NOISE, l1=0.6 + 1.1 * NOISE)
  folder = write_study(scored)
  assert judged(folder)["l1"].verdict == "better"
  change(
    folder / "study.json",
    study={"reference": {}, "columns": ["own/eer"], "delta": 0.01},
  )
  assert judged(folder)["l1"].verdict == "worse"


def test_seeds_that_are_too_few_get_intervals_and_no_verdict(write_study):
  scored = cells(l2=[0.1, 0.2, 0.3], l1=[0.4, 0.5, 0.6], cosine=[0.4, 0.5, 0.6])
  folder = write_study(scored)
  text = tables.to_markdown(scored_study(folder))
  assert text.count("| +0.300 ± 0.000 |") == 2
  assert text.count("| – | – | – | not tested |") == 2
  assert "3 seeds cannot be tested: their smallest p is 2/2^3 = 0.25" in text
  assert "a test needs 6 seeds" in text
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
  reference = {"loss.positive_margin": 0.0}
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


def test_a_cell_whose_every_run_failed_says_so_and_counts(write_study):
  same = 0.5 + NOISE
  scored = cells(l2=same, l1=same + 0.1, cosine=same)
  folder = write_study(scored, diverged=range(20, 30))
  line = lines_of(folder)["contrastive, cosine"]
  assert line["chosen"] == "every run diverged"
  assert line["n"] == "0" and line["own/map_at_r"] == ""
  found = judged(folder)
  assert found["cosine"].verdict == "not tested: no runs"
  assert found["l1"].corrected == 2 / 2**10
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
  assert ("never called better" in text) == verdict.startswith("unresolved")


def test_a_run_without_a_score_is_not_called_diverged(write_study):
  folder = write_study(cells(l2=0.5 + NOISE, l1=0.6 + NOISE), diverged=[13])
  for path in folder.glob("runs/*metric.name=l1,seed=[57]/result.json"):
    nothing = dict.fromkeys(run_files.read_json(path)["validation_selected"])
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
  assert "cannot be tested" not in text and "intervals only" not in text


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
  assert "for the family of 2 by the step-down maximum test" in text
  assert "cannot be tested" not in text
  assert table_of(text, 1)["contrastive, cosine"]["n"] == "3 of 10 seeds"


def test_what_is_not_tested_has_no_p_in_any_file(write_study):
  folder = write_study(cells(l2=[0.1] * 3, l1=[0.4] * 3))
  tables.write_tables(scored_study(folder))
  with (folder / "comparisons.csv").open() as file:
    (line,) = csv.DictReader(file)
  assert (line["p"], line["p (family)"], line["p (equal)"]) == ("", "", "")
  assert line["verdict"] == "not tested"
  assert line["n"] == "3"


def test_cells_are_compared_at_the_selected_checkpoint(real_study, write_study):
  folder = write_study(cells(l2=[0.5] * 3, l1=[0.6] * 3))
  for path in folder.glob("runs/*metric.name=l1*/test.json"):
    run_files.write_json(path, real_study.scores(0.6, last=0.9))
  assert judged(folder)["l1"].difference.mean == pytest.approx(0.1)


def test_a_study_whose_reference_was_a_text_is_of_other_code(write_study):
  folder = write_study(cells(l2=[0.5], l1=[0.4]))
  study = {"reference": "metric.name=l2", "columns": [], "delta": 0.01}
  change(folder / "study.json", study=study)
  with pytest.raises(InputError, match="written by another version"):
    scored_study(folder)
