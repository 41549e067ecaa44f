"""A study and its replication: agreement, and flips."""

import pytest

from experiments import cli
from metric_learning import InputError
from metric_learning.study.comparisons import in_pairs
from metric_learning.study.replication import replicated, replication_page
from tests.studies import scored_study
from tests.study.written_tables import NOISE, table_of

SAME, UP, DOWN = 0.5 + NOISE, 0.6 + 1.1 * NOISE, 0.4 + 1.1 * NOISE
UNSURE = 0.5 - 20 * (NOISE - NOISE.mean())
METRICS = ("l2", "l1", "cosine", "squared_l2", "linf")


def studied(write_study, name, first_seed, *values, **options):
  """A study with one cell per metric, and ten seeds from the first on."""
  scored = [
    (
      {
        "loss.name": "contrastive",
        "metric.name": metric,
        "seed": first_seed + k,
      },
      score,
    )
    for metric, scores in zip(METRICS, values, strict=False)
    for k, score in enumerate(scores)
  ]
  return scored_study(write_study(scored, name=name, **options))


def test_verdicts_of_two_studies(write_study):
  first = studied(write_study, "first", 0, SAME, UP, UP, DOWN, UP)
  second = studied(write_study, "second", 1000, SAME, UP, DOWN, UNSURE, SAME)
  both = {
    one.first.name["metric.name"]: one for one in replicated(first, second)
  }
  assert {k: one.verdicts for k, one in both.items()} == {
    "l1": ("better", "better"),
    "cosine": ("better", "worse"),
    "squared_l2": ("worse", "unresolved"),
    "linf": ("better", "no difference"),
  }
  assert [k for k, one in both.items() if one.agrees] == ["l1", "squared_l2"]
  assert [k for k, one in both.items() if one.flips] == ["cosine"]
  page = replication_page(list(both.values()), (first, second))
  assert "2 of 4 verdicts agree (50%)" in page
  assert "Both decided 3, and the same way 1 of these." in page
  assert "or back: 1." in page
  assert (
    "first: first, seeds 0 to 9; second: second, seeds 1000 to 1009" in page
  )
  said = table_of(page)
  assert said["contrastive, cosine"]["agree"] == "FLIPS"
  assert said["contrastive, linf"]["agree"] == "no"
  assert said["contrastive, l1"]["first"].startswith("+0.1")


def test_cells_of_one_study_alone_and_what_else_differs(write_study):
  first = studied(write_study, "first", 0, SAME, UP, DOWN)
  second = studied(write_study, "second", 1000, SAME, UP, train__steps=12)
  both = replicated(first, second)
  assert [one.first.name["metric.name"] for one in both] == ["l1"]
  page = replication_page(both, (first, second))
  assert "train.steps (6 there, 12 now)" in page and "seed (" not in page


def test_what_was_not_tested_is_no_agreement(write_study):
  first = studied(write_study, "first", 0, SAME[:4], UP[:4])
  second = studied(write_study, "second", 1000, SAME, UP)
  page = replication_page(replicated(first, second), (first, second))
  assert "0 of 0 verdicts agree:" in page
  assert "Not tested in one study or both: 1." in page


def test_the_same_seeds_are_no_replication(write_study):
  first = studied(write_study, "first", 0, SAME, UP)
  second = studied(write_study, "second", 9, SAME, UP)
  with pytest.raises(
    InputError, match=r"share seeds, such as 9: a replication"
  ):
    replicated(first, second)
  other = studied(write_study, "other", 1000, SAME)
  with pytest.raises(InputError, match="no comparison in common"):
    replicated(first, other)


def test_a_study_is_read_by_pairs(write_study):
  study = studied(write_study, "first", 0, SAME, UP, DOWN)
  pair = in_pairs(study, "metric.name", "l2", "l1")
  assert [cell.name["metric.name"] for cell in pair.cells] == ["l2", "l1"]
  assert pair.folder == study.folder / "metric.name=l2,l1"
  found = cli.scored(study.folder, "metric.name=l2,l1")
  assert found.compared["reference"] == {"metric.name": "l1"}
  with pytest.raises(InputError, match=r"'l3'; did you mean"):
    in_pairs(study, "metric.name", "l3", "l2")
  with pytest.raises(
    InputError, match=r"--pair=metric\.name=l1: give a field and two"
  ):
    cli.scored(study.folder, "metric.name=l1")


@pytest.mark.slow
def test_a_pair_is_reported_in_a_folder_of_its_own(write_study, capsys):
  study = studied(write_study, "first", 0, SAME, UP, DOWN)
  cli.report(study.folder, pair="metric.name=l1,l2")
  folder = study.folder / "metric.name=l1,l2"
  assert (folder / "table.md").read_text() in capsys.readouterr().out
  text = (folder / "table.md").read_text()
  assert "the family of 1 by" in text and "cosine |" not in text.split("p (")[1]
  assert (folder / "figures" / "differences.png").exists()
  assert not (study.folder / "table.md").exists()
