"""Which cells may be the best, and the page of several studies."""

import itertools

import numpy as np
import pytest

from metric_learning.errors import InputError
from metric_learning.losses import LOSSES
from metric_learning.study import catalogue, standard_sweeps
from metric_learning.study.best import may_be_best
from tests.studies import scored_study
from tests.study.written_tables import searched, table_of


def by_definition(scores):
  """All pairs and 2ⁿ patterns, without step-down: never keeps fewer cells."""
  m, n = scores.shape
  pairs = list(itertools.combinations(range(m), 2))
  x = np.array([scores[i] - scores[j] for i, j in pairs])
  size = lambda values: np.abs(values.sum(1)) / np.sqrt((values**2).sum(1))
  largest = np.array(
    [size(x * s).max() for s in itertools.product((1, -1), repeat=n)]
  )
  remain = [True] * m
  for (i, j), own in zip(pairs, size(x), strict=True):
    if np.mean(largest >= own - 1e-9) <= 0.05:
      remain[i if scores[i].mean() < scores[j].mean() else j] = False
  return remain


def test_a_cell_is_out_where_some_cell_is_shown_to_be_better():
  rng = np.random.default_rng(0)
  noise = rng.normal(0, 0.02, 10)
  own = rng.normal(0, 0.01, (5, 10))
  own -= own.mean(axis=1, keepdims=True)
  scores = np.array([0.5, 0.501, 0.3, 0.499, 0.1])[:, None] + noise + own
  found = may_be_best(scores)
  assert (
    found.tolist()
    == by_definition(scores)
    == [True] * 2 + [*(False, True, False)]
  )


def test_without_a_difference_a_best_cell_is_rarely_out():
  rng = np.random.default_rng(1)
  wrong = [not may_be_best(rng.normal(size=(6, 8))).all() for _ in range(200)]
  assert np.mean(wrong) < 0.1  # at most .05, and two deviations of 200 draws


def test_a_cell_with_a_missing_unit_beats_none_and_is_not_out():
  scores = np.tile([0.1, 0.9, 0.5], (8, 1)).T + 0.001 * np.arange(8)
  scores[1, 3] = np.nan
  assert may_be_best(scores).tolist() == [False, True, True]


def test_with_five_units_none_is_out():
  assert may_be_best(np.array([[0.1] * 5, [0.9] * 5])).all()


def test_the_page_says_who_is_beaten_and_what_l1_changes(
  write_study, real_study
):
  study = scored_study(searched(write_study, real_study))
  text = catalogue.page({"birds": study, "cars": study})
  over, metrics, birds, _ = (table_of(text, n) for n in range(4))
  assert over == {
    "contrastive, l1": {"": "contrastive, l1", "birds": "✓", "cars": "✓"}
  }
  assert "1 of 2 cells are beaten on every set" in text
  assert metrics.keys() == {"contrastive, l1"}
  assert metrics["contrastive, l1"]["birds"].startswith("+0.1")
  assert metrics["contrastive, l1"]["birds"].endswith(" better")
  assert list(birds) == ["contrastive, l1", "contrastive, l2"]
  assert birds["contrastive, l1"]["not beaten"] == "✓"
  assert birds["contrastive, l2"]["not beaten"] == ""
  assert birds["contrastive, l2"]["against contrastive, l2"] == "–"


def test_a_cell_that_lost_a_search_is_not_called_the_best(
  write_study, real_study
):
  folder = searched(write_study, real_study, lost=[2])
  text = catalogue.page({"birds": scored_study(folder)})
  assert "2 of 2 cells are beaten on every set" not in text
  assert "contrastive, l1" not in table_of(text)


def test_every_loss_is_in_the_catalogue_under_each_compared_metric():
  rows = list(standard_sweeps.catalogue())
  assert len(rows) == len({tuple(row.items()) for row in rows})
  for name, loss in LOSSES.items():
    found = {r.get("metric.name") for r in rows if r["loss.name"] == name}
    compared = {"l1", "l2", "cosine"} & set(loss.metrics)
    if loss.two_views:
      assert not found
      continue
    assert found == (compared or set(loss.metrics[:1]) or {None})


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ([], "name the studies"),
    (["runs/birds"], r"runs/birds has no title: .*=birds=runs/birds"),
    (["birds=a", "birds=b"], "two studies have the title birds"),
  ],
)
def test_what_names_no_studies_is_refused(given, message):
  with pytest.raises(InputError, match=message):
    catalogue.titled(given)


def test_titles_and_folders():
  assert catalogue.titled(["birds=runs/a=b"]) == {"birds": "runs/a=b"}
