"""Two metrics at equal numbers: the values of a curve, by NumPy."""

import csv
import itertools

import numpy as np
import pytest

from metric_learning import InputError
from metric_learning.figures.difference_curves import curves_of_differences
from metric_learning.study import multiple, tables
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.difference_curves import difference_curves
from metric_learning.study.multiple import simultaneous_t
from metric_learning.study.tuning import check
from metric_learning.training.config import override
from tests.studies import change, scored_study
from tests.study.searches import CONFIG
from tests.study.written_tables import table_of

METRICS, MARGINS, RATES, SEEDS = ("l2", "l1"), (0.5, 1.0), (1e-3, 1e-2), 7
EQUAL_NUMBERS = {
  "study__choose": False,
  "study__reference": {"metric.name": "l2"},
  "margin_unit": "initial_mean",
}
SELECT = "own/map_at_r"


def written(write_study, **options):
  """A study, its test scores [metric, margin, rate, seed], and validation."""
  rng = np.random.default_rng(0)
  shape = len(METRICS), len(MARGINS), len(RATES), SEEDS
  test = 0.5 + 0.02 * rng.normal(size=shape)
  test[1] += np.array([0.1, 0.0])[:, None, None]
  validation = 0.4 + 0.02 * rng.normal(size=shape)
  places = list(itertools.product(*map(range, shape)))
  scored = [
    (
      {
        "loss.name": "contrastive",
        "metric.name": METRICS[m],
        "loss.margin": MARGINS[c],
        "optimizer.learning_rate": RATES[r],
        "seed": seed,
      },
      test[m, c, r, seed],
    )
    for m, c, r, seed in places
  ]
  folder = write_study(scored, **EQUAL_NUMBERS, **options)
  for (overrides, _), place in zip(scored, places, strict=True):
    (path,) = folder.glob(
      f"runs/*{overrides['metric.name']},loss.margin={overrides['loss.margin']},"
      f"*rate={overrides['optimizer.learning_rate']},"
      f"seed={overrides['seed']}/result.json"
    )
    if not options.get("diverged"):
      change(path, validation_selected={SELECT: validation[place]})
  return folder, test, validation


def test_each_number_makes_a_cell_and_meets_its_equal(write_study):
  folder, test, _ = written(write_study)
  study = scored_study(folder)
  assert len(study.cells) == len(METRICS) * len(MARGINS) * len(RATES)
  compared = compare_cells(study)
  found = {
    (one.name["loss.margin"], one.name["optimizer.learning_rate"]): one
    for one in compared
  }
  assert found.keys() == {*itertools.product(MARGINS, RATES)}
  for (c, margin), (r, rate) in itertools.product(
    enumerate(MARGINS), enumerate(RATES)
  ):
    one = found[margin, rate]
    assert one.reference == {**one.name, "metric.name": "l2"}
    wanted = np.mean(test[1, c, r] - test[0, c, r])
    assert one.judged.difference.mean == pytest.approx(wanted)


def test_curves_at_equal_rates_and_at_own_ones(write_study):
  folder, test, validation = written(write_study)
  equal, own = difference_curves(scored_study(folder))
  assert (equal.reading, own.reading) == ("equal", "own")
  assert own.field == "loss.margin"
  assert own.name == {"loss.name": "contrastive", "metric.name": "l1"}
  best = validation.argmax(axis=2)
  at_best = np.take_along_axis(test, best[:, :, None], axis=2)[:, :, 0]
  differences = {"equal": test.mean(axis=2), "own": at_best}
  table = [d[1, c] - d[0, c] for d in differences.values() for c in (0, 1)]
  corrected = multiple.step_down_max(np.array(table))
  for curve in (equal, own):
    scores = differences[curve.reading]
    factor = simultaneous_t(scores[1] - scores[0])
    for c, point in enumerate(curve.points):
      judged, x = point.judged, scores[1, c] - scores[0, c]
      assert point.value == MARGINS[c]
      assert point.scores == pytest.approx(scores[::-1, c].mean(axis=1))
      assert judged.difference.mean == pytest.approx(x.mean())
      half = factor * x.std(ddof=1) / SEEDS**0.5
      assert judged.difference.half_width == pytest.approx(half)
      place = 2 * (curve is own) + c
      assert judged.corrected == pytest.approx(corrected[place])
  for c, point in enumerate(own.points):
    for m, rates in zip((1, 0), point.rates, strict=True):
      assert [rates.get(rate, 0) for rate in RATES] == [
        np.sum(best[m, c] == r) for r in range(2)
      ]
  # A margin at which L1 is better by .1, and one at which nothing differs.
  assert [point.judged.verdict for point in equal.points] == [
    "better",
    "unresolved",
  ]


def test_a_lost_run_leaves_its_point_untested(write_study):
  # A seed of L1 at margin .5 and the second rate: scores are all that is there.
  lost = (len(METRICS) - 1) * len(MARGINS) * len(RATES) * SEEDS + SEEDS + 3
  folder, *_ = written(write_study, diverged=[lost])
  equal, own = difference_curves(scored_study(folder))
  assert equal.points[0].judged.verdict == "not tested: a score is missing"
  assert np.isnan(equal.points[0].judged.difference.half_width)
  assert equal.points[1].judged.is_tested
  # A side that chooses its rate has another one.
  assert own.points[0].judged.is_tested
  (rates, _) = own.points[0].rates
  assert sum(rates.values()) == SEEDS


def test_what_chooses_has_no_curve(real_study):
  study = scored_study(real_study.reported)
  assert difference_curves(study) == []
  assert curves_of_differences(study) is None


def test_tuning_chooses_and_says_so():
  config = override(CONFIG, {"study.choose": False})
  with pytest.raises(InputError, match=r"equal numbers.*experiments\.sweep"):
    check(config, [])


@pytest.mark.slow
def test_curves_reach_files_and_figure(write_study):
  folder, test, _ = written(write_study)
  study = scored_study(folder)
  assert tables.write_tables(study)[0].name == "curves.md"
  text = (folder / "curves.md").read_text()
  lines = [line for line in text.splitlines() if "| margin " in line]
  assert [line.split(" | ")[3] for line in lines] == [
    "margin 0.5 d̄",
    "margin 1 d̄",
  ]
  assert "corrected for all 4 points" in text and f"n = {SEEDS}" in text
  # Numbers of a cell are no choice.
  head = table_of((folder / "table.md").read_text())
  assert "contrastive, l1, margin 0.5, learning_rate 0.001" in head
  with (folder / "curves.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [(row["rates"], float(row["value"])) for row in rows] == [
    ("equal", 0.5),
    ("equal", 1.0),
    ("own", 0.5),
    ("own", 1.0),
  ]
  mean = (test[1, 0] - test[0, 0]).mean()
  assert float(rows[0]["difference"]) == pytest.approx(mean)
  (axis,) = curves_of_differences(study).axes
  drawn = [line for line in axis.lines if len(line.get_xdata()) == 2]
  drawn = [line for line in drawn if line.get_color() != "#000000"]
  curves = difference_curves(study)
  for line, curve in zip(drawn, curves, strict=True):
    means = [point.judged.difference.mean for point in curve.points]
    np.testing.assert_allclose(line.get_ydata(), means)
  assert axis.get_xlabel() == "margin (d̄)"


# --- Intervals that hold together -------------------------------------------


def test_the_factor_by_enumeration():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(3, 7)) + rng.normal(size=7)
  centered = x - x.mean(axis=1, keepdims=True)
  largest = []
  for pattern in itertools.product((1, -1), repeat=7):
    flipped = centered * np.array(pattern)
    error = flipped.std(axis=1, ddof=1) / 7**0.5
    largest.append(np.max(np.abs(flipped.mean(axis=1)) / error))
  place = int(np.ceil(0.95 * (len(largest) - 1)))
  wanted = np.sort(largest)[place]
  # Half of the patterns, since the others are their negatives.
  found = simultaneous_t(x)
  assert found == pytest.approx(wanted, rel=0.02)
  assert np.mean(np.array(largest) <= found + 1e-9) >= 0.95


def test_the_factor_of_too_few_units_is_unknown():
  x = np.random.default_rng(2).normal(size=(2, 6))
  assert np.isnan(simultaneous_t(x[:, :5])) and np.isfinite(simultaneous_t(x))


def test_intervals_cover_all_points_together():
  """Of 300 curves of five dependent points, within three standard errors."""
  rng = np.random.default_rng(3)
  covered = 0
  for _ in range(300):
    x = rng.normal(size=(5, 10)) + rng.normal(size=10)
    error = x.std(axis=1, ddof=1) / 10**0.5
    covered += np.all(np.abs(x.mean(axis=1)) <= simultaneous_t(x) * error)
  assert covered / 300 > 0.95 - 3 * (0.05 * 0.95 / 300) ** 0.5
