"""DET and training curves, one color for each loss; and animations."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.stats import norm

from metric_learning import InputError, figures
from metric_learning.figures import style
from metric_learning.figures.moving import moving_maps
from metric_learning.training import run_files
from tests.studies import scored_study


def test_det_has_both_errors_as_normal_deviates(make_space):
  space = make_space(spread=3.0, classes=4, images=12)
  distances = pdist(space.embeddings.astype(float))
  same = pdist(space.labels[:, None]) == 0
  (axes,) = figures.det_curves([space]).axes
  line, mark = axes.lines[:2]
  thresholds = np.sort(distances)
  far = norm.ppf(np.mean(distances[~same] <= thresholds[:, None], axis=1))
  frr = norm.ppf(np.mean(distances[same] > thresholds[:, None], axis=1))
  all_points = np.stack([far, frr], axis=1)
  drawn = np.stack(line.get_data(), axis=1)
  assert len(drawn) > 50
  nearest = np.abs(drawn[:, None] - all_points).sum(axis=2).min(axis=1)
  assert nearest.max() < 1e-5
  ((x,), (y,)) = mark.get_data()
  assert x == y  # The equal error rate.
  assert np.abs(drawn - [x, y]).sum(axis=1).min() < 0.3


def test_without_both_kinds_of_pairs_there_is_no_det(make_space):
  space = make_space()
  alone = space._replace(labels=np.zeros_like(space.labels))
  assert figures.det_curves([alone]) is None


def test_a_loss_has_one_color_in_every_picture_of_lines(make_space):
  spaces = [
    make_space(f"{loss}, {metric}", seed, loss=loss)
    for loss in ("triplet", "supcon")
    for seed, metric in enumerate(("l1", "l2"))
  ]
  for draw in (figures.roc_curves, figures.det_curves):
    lines = draw(spaces).axes[0].lines[:8:2]
    first, second, third, fourth = [line.get_color() for line in lines]
    assert first == second != third == fourth
    assert len({line.get_marker() for line in lines}) == 4
    dashes = [line.get_linestyle() for line in lines]
    assert dashes[:2] == dashes[2:] and dashes[0] != dashes[1]


def test_training_curves_are_what_the_log_says(real_study):
  study = scored_study(real_study.reported)
  figure = figures.training_curves(study)
  titles = [axes.get_title().replace("\xa0", " ") for axes in figure.axes]
  assert titles[0] == "loss, in its own units"
  assert "effective rank, validation" in titles
  runs = [
    min(c.chosen.runs, key=lambda run: run.replicate) for c in study.cells
  ]
  for name, axes in zip(
    ("train/loss", "train/active_fraction"), figure.axes, strict=False
  ):
    logs = [run_files.read_metrics(run.folder) for run in runs]
    series = [[(r["step"], r[name]) for r in log if name in r] for log in logs]
    series = [points for points in series if points]
    assert len(axes.lines) == len(series) > 1
    for line, points in zip(axes.lines, series, strict=True):
      np.testing.assert_allclose(np.stack(line.get_data(), axis=1), points)
  legend = [text.get_text() for text in figure.legends[0].get_texts()]
  assert legend[0] == "contrastive, l1" and len(legend) == len(study.cells)


def test_forces_are_the_slopes_of_what_a_pair_costs():
  costs, forces = figures.pair_potentials().axes, figures.pair_forces().axes
  for cost, force in zip(costs, forces, strict=True):
    for line, slope in zip(cost.lines[:2], force.lines[:2], strict=True):
      d, value = line.get_data()
      by_hand = np.abs(np.gradient(np.asarray(value), d))
      found = np.asarray(slope.get_data()[1])
      smooth = slice(40, 380)
      error = np.abs(found - by_hand)[smooth] / (1 + by_hand[smooth])
      assert np.quantile(error, 0.98) < 0.02  # A kink is between two points.


def test_a_picture_moves_through_all_frames(make_space, tmp_path):
  frames = [
    [make_space("one", seed), make_space("two", seed + 1)] for seed in range(3)
  ]
  words = [f"after {i} steps" for i in range(3)]
  path = moving_maps(tmp_path / "x.webp", frames, words)
  with Image.open(path) as image:
    assert image.n_frames == 3
    seen = []
    for frame in range(3):
      image.seek(frame)
      seen.append(np.asarray(image.convert("L")).copy())
  assert not np.array_equal(seen[0], seen[2])
  with pytest.raises(InputError, match="embedding_dim=2"):
    moving_maps(path, [[make_space(dim=3)]], ["one"])


def test_the_words_of_a_map_are_its_qualities(make_space):
  figure = figures.embedding_maps([make_space("one", dim=3)], "test")
  assert "one: trustworthiness " in style.describe(figure)
  below = figure.axes[0].get_xlabel().replace("\n", ", ")
  assert f"one: {below}." in style.describe(figure)
