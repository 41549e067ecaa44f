"""The files of runs and studies become files of figures."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist

from metric_learning import InputError, figures
from metric_learning.figures import draw_study, read_space
from metric_learning.training import run_files
from tests.studies import scored_study
from tests.tiny import tiny_config

TEMPERATURE = "loss.temperature"


@pytest.fixture
def drawn(monkeypatch):
  """Returns the embeddings and the part that are drawn, not their figures."""
  seen = []

  def draw(spaces, part):
    seen.extend((space.title, space.embeddings, part) for space in spaces)

  # Other pictures are not looked at: they take seconds.
  only = {"maps": figures.Drawing(draw, "spaces")}
  monkeypatch.setattr(figures, "FIGURES", only)
  return seen


def arrays_of(folder, name=run_files.EMBEDDINGS):
  return run_files.read_arrays(folder / name)


def test_a_space_is_what_the_files_of_a_run_say(run_folder):
  arrays = arrays_of(run_folder)
  for part in ("validation", "test"):
    space = read_space(run_folder, part)
    assert space.title == "contrastive, l1"
    assert space.metric == "l1"
    np.testing.assert_array_equal(
      space.embeddings, arrays[f"{part}_embeddings"]
    )
    np.testing.assert_array_equal(space.labels, arrays[f"{part}_labels"])
    assert space.margins == [1.4] and space.gaps == ()  # absolute
    assert space.class_names is None  # Not kept by this run.


def test_the_threshold_is_the_best_on_validation_pairs(run_folder):
  arrays = arrays_of(run_folder)
  distances = pdist(arrays["validation_embeddings"], "cityblock")
  same = pdist(arrays["validation_labels"][:, None]) == 0

  ends = np.sort(distances)
  midpoints = (ends[1:] + ends[:-1]) / 2
  right = np.mean((distances <= midpoints[:, None]) == same, axis=1)
  assert right.max() < 1  # the classes overlap
  best = midpoints[right.argmax()]
  for part in ("validation", "test"):
    assert read_space(run_folder, part).threshold == pytest.approx(best)


def test_the_margin_of_a_triplet_is_a_gap_and_a_temperature_is_no_margin(
  write_run, tmp_path
):
  config = tiny_config(loss__name="triplet", loss__margin=0.25)
  space = read_space(write_run(tmp_path / "triplet", config))
  assert (space.margins, space.gaps) == ((), [0.5])
  space = read_space(write_run(tmp_path / "default", tiny_config()))
  assert (space.margins, space.gaps) == ((), [])


def test_the_selected_checkpoint_is_shown(run_folder):
  other = {k: v + 1 for k, v in arrays_of(run_folder).items()}
  run_files.write_arrays(run_folder / run_files.SELECTED_EMBEDDINGS, other)
  np.testing.assert_array_equal(
    read_space(run_folder).embeddings, other["validation_embeddings"]
  )


def test_names_of_classes_are_read_where_they_are_kept(
  write_run, run_folder, tmp_path
):
  named = write_run(tmp_path / "x", tiny_config(), class_names=("x", "y", "z"))
  assert read_space(named, "test").name_of(1) == "y"
  assert read_space(run_folder, "test").name_of(1) == "class 1"


@pytest.mark.parametrize("name", [run_files.RESULT, run_files.EMBEDDINGS])
def test_an_unfinished_run_is_refused(run_folder, name):
  (run_folder / name).unlink()
  with pytest.raises(InputError, match="no finished run"):
    read_space(run_folder)


def test_an_unknown_part_is_refused(run_folder):
  with pytest.raises(InputError, match="unknown part 'tets'; did you mean"):
    read_space(run_folder, "tets")


def test_a_figure_is_added_by_its_function_and_one_entry(
  write_study, monkeypatch
):
  seen = []

  def sizes(spaces, part):
    seen.append((part, [len(space.labels) for space in spaces]))
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot(seen[0][1])
    return figure

  only = {
    "sizes": figures.Drawing(sizes, "spaces"),
    "cells": figures.Drawing(lambda study: seen.append(study), "study"),
  }
  monkeypatch.setattr(figures, "FIGURES", only)
  study = scored_study(write_study([({"metric.name": "l1"}, 0.5)]))
  paths = draw_study(study)
  assert [path.name for path in paths] == ["sizes.png", "sizes.svg"]
  assert seen == [("test", [24]), study]
  draw_study(study, "validation")
  assert seen[2][0] == "validation"


def test_finished_runs_are_found_in_order(write_run, tmp_path):
  with pytest.raises(InputError, match="make compare"):
    figures.finished_runs(tmp_path)
  for name in ("b", "a", "unfinished"):
    write_run(tmp_path / "study" / "runs" / name, tiny_config())
  (tmp_path / "study" / "runs" / "unfinished" / run_files.RESULT).unlink()
  write_run(tmp_path / "diverged", tiny_config(), diverged=True)
  found = figures.finished_runs(tmp_path)
  assert [folder.name for folder in found] == ["a", "b"]


def test_a_study_is_drawn_into_its_folder(write_study):
  scored = [
    ({"metric.name": m, TEMPERATURE: t}, t)
    for m in ("l1", "l2")
    for t in (0.1, 0.2)
  ]
  folder = write_study(scored)
  paths = draw_study(scored_study(folder))
  names = (
    "maps",
    "histograms",
    "roc",
    "det",
    "identification",
    "curves",
  )
  assert paths == [
    folder / "figures" / f"{name}.{suffix}"
    for name in names
    for suffix in ("png", "svg")
  ]
  assert all(path.stat().st_size > 1000 for path in paths)


def test_a_figure_for_print_has_its_fonts_and_says_what_it_shows(
  run_folder, tmp_path
):
  figure = figures.roc_curves([read_space(run_folder)], "test")
  pdf, svg = figures.save(figure, tmp_path / "roc", ["pdf", "svg"])
  assert b"/FontFile2" in pdf.read_bytes()  # TrueType, in the file
  assert b"/Type3" not in pdf.read_bytes()
  words = "<dc:description>ROC on test pairs; a large marker is where FAR ="
  assert words in svg.read_text()
  assert "contrastive, l1 (EER " in svg.read_text().split("</metadata>")[0]


def test_a_cell_shows_its_chosen_setting_and_its_first_replicate(
  write_study, drawn
):
  scored = [
    ({"metric.name": m, TEMPERATURE: t, "seed": s}, t if m == "l1" else 1 - t)
    for m in ("l1", "l2")
    for t in (0.1, 0.2)
    for s in (3, 2)
  ]
  folder = write_study(scored)
  draw_study(scored_study(folder))
  assert [(title, part) for title, _, part in drawn] == [
    ("l1", "test"),
    ("l2", "test"),
  ]
  for (_, points, _), chosen in zip(drawn, ("l1", "l2"), strict=True):
    temperature = 0.2 if chosen == "l1" else 0.1
    name = f"metric.name={chosen},loss.temperature={temperature},seed=2"
    arrays = arrays_of(folder / "runs" / name)
    np.testing.assert_array_equal(points, arrays["test_embeddings"])


def test_a_cell_without_a_finished_run_is_left_out(write_study, drawn):
  scored = [({"metric.name": m}, 0.5) for m in ("l1", "l2", "cosine")]
  folder = write_study(scored, diverged=[1], missing=[2])
  draw_study(scored_study(folder))
  assert [title for title, *_ in drawn] == ["l1"]


def test_a_study_that_only_diverged_has_its_potentials(write_study):
  folder = write_study([({"loss.name": "contrastive"}, 0.5)], diverged=[0])
  paths = draw_study(scored_study(folder))
  assert [path.name for path in paths] == ["potentials.png", "potentials.svg"]


def test_potentials_are_those_of_the_losses_of_the_study(write_study):
  losses = ("supcon", "pair_bce", "contrastive")
  study = write_study([({"loss.name": loss}, 0.5) for loss in losses])
  axes = figures.potentials_of(scored_study(study)).axes
  assert [a.get_title() for a in axes] == ["contrastive", "pair_bce"]
  assert [a.get_xlabel() for a in axes] == ["distance"] * 2
  other = write_study([({"loss.name": "supcon"}, 0.5)], "other")
  assert figures.potentials_of(scored_study(other)) is None


def test_of_many_cells_the_best_are_shown_in_their_order(write_study, drawn):
  scored = [
    ({"augment.shift": i / 10}, (i * 3 % 10) / 10) for i in range(1, 11)
  ]
  draw_study(scored_study(write_study(scored)))
  worst = sorted(scored, key=lambda row: row[1])[:2]
  kept = [row for row in scored if row not in worst]
  assert [title for title, *_ in drawn] == [
    f"shift {overrides['augment.shift']}" for overrides, _ in kept
  ]


def test_the_best_of_an_error_rate_is_the_lowest(write_study, drawn):
  scored = [({"augment.shift": i / 10}, i / 10) for i in range(1, 11)]
  draw_study(scored_study(write_study(scored, eval__select="own/eer")))
  assert [t for t, *_ in drawn] == [f"shift {i / 10}" for i in range(1, 9)]


def test_a_study_of_one_cell_is_named_by_loss_and_metric(write_study, drawn):
  draw_study(scored_study(write_study([({"seed": 0}, 0.5)])))
  assert [title for title, *_ in drawn] == ["infonce_per_pair, cosine"]
