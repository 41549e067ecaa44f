"""Tuning curves: means with intervals for each number; the choice is marked."""

import numpy as np
import pytest
from scipy import stats

from metric_learning.figures import tuning_curves
from metric_learning.study import read_study

TEMPERATURE = "loss.temperature"


def scores(margin, metric, seed):
  return 0.5 - (margin - 0.2) ** 2 + 0.1 * (metric == "l2") + 0.01 * seed**2


def triplet_rows(margins=(0.1, 0.2, 0.4), seeds=(0, 1, 2)):
  return [
    (
      {
        "loss.name": "triplet",
        "metric.name": metric,
        "loss.margin": m,
        "seed": s,
      },
      scores(m, metric, s),
    )
    for metric in ("l2", "l1")
    for m in margins
    for s in seeds
  ]


def curves_of(axes):
  """The line of each metric: l1 is drawn before l2."""
  return [container.lines for container in axes.containers]


def rings(axes):
  return [line for line in axes.lines if line.get_markersize() == 9]


def test_points_are_means_and_bars_are_intervals_over_seeds(write_study):
  figure = tuning_curves(read_study(write_study(triplet_rows())))
  (axes,) = figure.axes
  assert axes.get_title() == "triplet"
  for metric, curve in zip(("l1", "l2"), curves_of(axes), strict=True):
    line, caps, (bars,) = curve
    assert list(line.get_xdata()) == [0.1, 0.2, 0.4]
    seeds = [[scores(m, metric, s) for s in range(3)] for m in (0.1, 0.2, 0.4)]
    np.testing.assert_allclose(line.get_ydata(), np.mean(seeds, axis=1))
    low, high = stats.t.interval(
      0.95, 2, np.mean(seeds, axis=1), stats.sem(seeds, axis=1)
    )
    np.testing.assert_allclose(caps[0].get_ydata(), low)
    np.testing.assert_allclose(caps[1].get_ydata(), high)
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, np.stack([low, high], axis=1))
  names = [text.get_text() for text in figure.legends[0].get_texts()]
  assert names == ["l1", "l2", "chosen"]


def test_metrics_are_told_apart_as_they_were_asked_for(write_study):
  metrics = (
    {"metric.name": "l2"},
    {"metric.name": "mahalanobis"},
    {"metric.name": "lp", "metric.p": 3.0},
  )
  rows = [
    ({"loss.name": "triplet", **metric, "loss.margin": margin}, score)
    for metric, score in zip(metrics, (0.1, 0.2, 0.3), strict=True)
    for margin in (0.1, 0.2)
  ]
  study = read_study(write_study(rows))
  # A run of a learned metric, or of one with options, compares in another.
  spaces = [cell.chosen.runs[0].result["metric"] for cell in study.cells]
  assert spaces == ["l2", "l2", ["lp", {"p": 3}]]
  figure = tuning_curves(study)
  named = [text.get_text() for text in figure.legends[0].get_texts()]
  assert named == ["l2", "mahalanobis", "lp, p 3", "chosen"]
  heights = [line.get_ydata()[0] for line, *_ in curves_of(figure.axes[0])]
  np.testing.assert_allclose(heights, (0.1, 0.2, 0.3))


def test_the_chosen_value_is_ringed(write_study):
  (axes,) = tuning_curves(read_study(write_study(triplet_rows()))).axes
  at = sorted(
    tuple(float(x) for (x,) in ring.get_data()) for ring in rings(axes)
  )
  means = [np.mean([scores(0.2, m, s) for s in range(3)]) for m in ("l1", "l2")]
  np.testing.assert_allclose(at, [(0.2, mean) for mean in means])


def test_lines_stand_apart_by_points_and_not_by_values(write_study):
  figure = tuning_curves(read_study(write_study(triplet_rows())))
  figure.draw_without_rendering()
  (axes,) = figure.axes
  (one, *_), (other, *_) = curves_of(axes)
  left = one.get_transform().transform(one.get_xydata())[:, 0]
  right = other.get_transform().transform(other.get_xydata())[:, 0]
  np.testing.assert_allclose((right - left) * 72 / figure.dpi, 3)


def test_every_mark_is_inside_its_panel(write_study):
  (axes,) = tuning_curves(read_study(write_study(triplet_rows()))).axes
  low, high = axes.get_ylim()
  left, right = axes.get_xlim()
  assert left < 0.1 and right > 0.4
  for _, (bottom, top), _ in curves_of(axes):
    assert low < bottom.get_ydata().min() and top.get_ydata().max() < high


@pytest.mark.parametrize(
  "margins, scale", [((0.1, 0.3, 0.5), "log"), ((0.1, 0.2, 0.3), "linear")]
)
def test_a_wide_grid_has_a_log_axis(write_study, margins, scale):
  rows = triplet_rows(margins, seeds=(0,))
  (axes,) = tuning_curves(read_study(write_study(rows))).axes
  assert axes.get_xscale() == scale
  assert axes.get_xticks().tolist() == [*margins]
  labels = [text.get_text() for text in axes.get_xticklabels()]
  assert labels == [f"{m:g}" for m in margins]
  assert axes.get_xlabel() == "margin"


def test_a_scaled_margin_says_its_unit(write_study):
  rows = [
    ({"loss.name": "triplet", "loss.margin": m, rate: r}, m + r)
    for rate in ["optimizer.learning_rate"]
    for m in (0.1, 0.2)
    for r in (0.01, 0.02)
  ]
  first, second = tuning_curves(
    read_study(write_study(rows, margin_unit="initial_mean"))
  ).axes
  assert first.get_xlabel() == "margin / d̄"
  assert second.get_xlabel() == "learning rate"


def test_of_two_tuned_fields_the_other_is_as_chosen(write_study):
  found = {
    (0.1, 0.01): 0.1,
    (0.1, 0.02): 0.2,
    (0.3, 0.02): 0.9,
    (0.3, 0.01): 0.4,
  }
  rows = [
    (
      {"metric.name": "l1", TEMPERATURE: t, "optimizer.learning_rate": rate},
      score,
    )
    for (t, rate), score in found.items()
  ]
  by_temperature, by_rate = tuning_curves(read_study(write_study(rows))).axes
  ((line, *_),) = curves_of(by_temperature)
  np.testing.assert_allclose(line.get_xydata(), [(0.1, 0.2), (0.3, 0.9)])
  ((line, *_),) = curves_of(by_rate)
  np.testing.assert_allclose(line.get_xydata(), [(0.01, 0.4), (0.02, 0.9)])


def test_each_loss_has_its_panel(write_study):
  rows = [
    ({"loss.name": name, "metric.name": "l1", field: value}, value)
    for name, field in (("triplet", "loss.margin"), ("supcon", TEMPERATURE))
    for value in (0.1, 0.2)
  ]
  figure = tuning_curves(read_study(write_study(rows)))
  assert [a.get_title() for a in figure.axes] == ["triplet", "supcon"]
  assert [a.get_xlabel() for a in figure.axes] == ["margin", "temperature"]
  assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_a_value_that_diverged_is_a_cross_and_no_point(write_study):
  rows = [({"metric.name": "l1", TEMPERATURE: t}, t) for t in (0.1, 0.2, 0.4)]
  (axes,) = tuning_curves(read_study(write_study(rows, diverged=[2]))).axes
  ((line, *_),) = curves_of(axes)
  np.testing.assert_allclose(line.get_xydata(), [(0.1, 0.1), (0.2, 0.2)])
  crosses = [mark for mark in axes.lines if mark.get_marker() == "x"]
  assert [mark.get_xdata()[0] for mark in crosses] == [0.4]
  assert axes.get_ylim()[0] > 0.05  # the cross is on the axis, not at 0


def test_one_run_has_a_point_without_a_bar(write_study):
  rows = [({"metric.name": "l1", TEMPERATURE: t}, t) for t in (0.1, 0.2)]
  (axes,) = tuning_curves(read_study(write_study(rows))).axes
  ((line, caps, _),) = curves_of(axes)
  np.testing.assert_allclose(caps[0].get_ydata(), line.get_ydata())
  np.testing.assert_allclose(caps[1].get_ydata(), line.get_ydata())


def test_nothing_tuned_is_no_figure(write_study):
  rows = [
    ({"metric.name": "l1", TEMPERATURE: 0.1, "seed": s}, 0.5) for s in (0, 1)
  ]
  assert tuning_curves(read_study(write_study(rows))) is None
