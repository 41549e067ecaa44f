"""The choice on validation, and the scores on test classes."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from metric_learning import data, evaluation
from metric_learning.data.base import select
from metric_learning.study import (
  make_specs,
  read_study,
  tables,
)
from metric_learning.study.baselines import write_baselines
from metric_learning.study.results import (
  over_replicates,
)
from metric_learning.study.runs import Run
from metric_learning.study.scoring import TEST, score_run
from metric_learning.training import run_files, train
from metric_learning.training.config import digest, from_dict, override
from tests.studies import (
  CONFIG,
  HINGE,
  changed,
  scored_study,
)
from tests.study.study_files import BY_QUERY, results_of

# Files of this group train the same tiny network, compiled once.
pytestmark = pytest.mark.xdist_group("trained studies")


def rewrite_validation(folder, score_of):
  """Gives every run of the hinge loss a known validation score."""
  for path in folder.glob(f"runs/*{HINGE}*/{run_files.RESULT}"):
    result = json.loads(path.read_text())
    config = json.loads((path.parent / "config.json").read_text())
    result["validation_selected"]["own/map_at_r"] = score_of(config)
    path.write_text(json.dumps(result))


def tuned_cell(folder):
  """The cell with three margins."""
  (cell,) = [c for c in read_study(folder).cells if len(c.settings) == 3]
  return cell


def test_the_best_mean_on_validation_is_chosen(study):
  # The margin 1.0 has the best mean, 2.0 the best single run.
  scores = {
    (0.5, 0): 0.1,
    (0.5, 1): 0.2,
    (1.0, 0): 0.5,
    (1.0, 1): 0.5,
    (2.0, 0): 0.9,
    (2.0, 1): 0.0,
  }
  rewrite_validation(study, lambda c: scores[c["loss"]["margin"], c["seed"]])
  cell = tuned_cell(study)
  assert cell.chosen.tuned == {"loss.margin": 1.0}
  assert cell.chosen.validation.mean == 0.5
  assert cell.on_edge == []


def select_nothing(folder, where):
  """Removes the selected checkpoint from the runs of the hinge loss."""
  for path in folder.glob(f"runs/*{HINGE}*/{run_files.RESULT}"):
    if where(run_files.read_json(path.parent / run_files.CONFIG)):
      result = run_files.read_json(path)
      nothing = dict.fromkeys(result["validation_selected"], float("nan"))
      found = {"selected_step": None, "validation_selected": nothing}
      run_files.write_json(path, changed(result, found))


def test_a_setting_that_lost_a_score_is_not_chosen(study):
  rewrite_validation(study, lambda c: c["loss"]["margin"])
  select_nothing(study, lambda c: (c["loss"]["margin"], c["seed"]) == (2.0, 0))
  cell = tuned_cell(study)
  assert cell.chosen.tuned == {"loss.margin": 1.0}
  assert [setting.unscored for setting in cell.settings] == [0, 0, 1]
  assert not any(setting.diverged for setting in cell.settings)
  assert cell.unscored == 1


def test_nan_chooses_nothing_and_the_table_says_so(study):
  select_nothing(study, lambda config: True)
  cell = tuned_cell(study)
  assert cell.chosen.runs == []
  assert cell.chosen.tuned == {}
  lines = tables.to_markdown(scored_study(study)).splitlines()
  for metric, count in (("l1", 6), ("l2", 2)):
    line = next(x for x in lines if x.startswith(f"| {HINGE}, {metric} |"))
    texts = line.split(" | ")
    assert texts[1] == (
      f"not chosen: the validation score of {count} runs is NaN"
    )
    assert texts[2] == "not chosen"


def test_settings_that_each_lost_a_run_are_not_chosen_among(study):
  select_nothing(study, lambda config: config["seed"] == 0)
  cell = tuned_cell(study)
  assert cell.chosen.runs == []
  text = tables.to_markdown(scored_study(study))
  # One setting is not chosen among others: its other run is shown.
  assert text.count("not chosen: ") == 1
  assert f"| {HINGE}, l2 (1 without a score) |" in text


@pytest.mark.slow
def test_an_optimum_on_a_bound_is_flagged(study):
  rewrite_validation(study, lambda c: c["loss"]["margin"])
  assert tuned_cell(study).on_edge == ["loss.margin"]
  text = tables.to_markdown(scored_study(study))
  assert "margin 2 d̄" in text
  # The other cells had one value each, which is no edge.
  assert text.count("(edge)") == 1


def test_lower_is_better_for_error_rates(study):
  for path in study.glob("study.json"):
    text = path.read_text().replace('own/map_at_r"', 'own/eer"')
    whole = json.loads(text)
    for row in whole["rows"]:
      row["config"]["eval"]["select"] = "own/eer"
    path.write_text(json.dumps(whole))
  for path in results_of(study):
    result = json.loads(path.read_text())
    rows = json.loads((study / "study.json").read_text())["rows"]
    name = path.parent.name
    config = next(r["config"] for r in rows if r["name"] == name)
    result["validation_selected"]["own/eer"] = config["loss"].get("margin", 0.0)
    result["digest"] = digest(from_dict(config))
    path.write_text(json.dumps(result))
    (path.parent / "config.json").write_text(json.dumps(config))
  assert tuned_cell(study).chosen.tuned == {"loss.margin": 0.5}


@pytest.mark.slow
def test_only_chosen_runs_are_scored_on_test(real_study, tmp_path):
  study = shutil.copytree(real_study.folder, tmp_path / "study")
  files = (TEST, run_files.EMBEDDINGS)
  assert not any(list(study.glob(f"runs/*/{name}")) for name in files)
  tables.to_csv(scored_study(study))
  scored, embedded = (
    {p.parent.name for p in study.glob(f"runs/*/{name}")} for name in files
  )
  chosen = {
    run.spec.name
    for cell in read_study(study).cells
    for run in cell.chosen.runs
  }
  assert scored == embedded == chosen
  assert len(chosen) == 4 * 2  # cells, seeds


@pytest.mark.slow
def test_the_table_holds_what_the_embeddings_score(study):
  found = scored_study(study)
  cell = found.cells[0]
  values = []
  for run in cell.chosen.runs:
    arrays = np.load(run.folder / run_files.EMBEDDINGS)
    scores = evaluation.retrieval(
      arrays["test_embeddings"], arrays["test_labels"], metric="l1"
    )
    values.append(scores["recall_at_1"])
  lines = list(csv.DictReader(io.StringIO(tables.to_csv(found))))
  line = next(x for x in lines if x["name"] == "contrastive, l1")
  assert float(line["own/recall_at_1"]) == pytest.approx(np.mean(values))
  half = 12.706204736 * np.std(values, ddof=1) / np.sqrt(2)
  high = float(line["own/recall_at_1 high"])
  assert high == pytest.approx(np.mean(values) + half)


@pytest.mark.slow
def test_a_column_may_ask_for_a_slow_score(study):
  run = read_study(study).cells[0].chosen.runs[0]
  columns = ("clustering/ami", "own/few_shot_5_way_1_shot")
  config = override(run.spec.config, {"eval.columns": columns})
  asking = run._replace(spec=run.spec._replace(config=config))
  (run.folder / TEST).unlink()  # It was scored for other columns.
  scores = score_run(asking).tested.last
  arrays = np.load(run.folder / run_files.EMBEDDINGS)
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  found = evaluation.few_shot(points, labels, metric="l1")
  assert scores["own/few_shot_5_way_1_shot"] == found["accuracy"]
  found = evaluation.clustering(points, labels)
  assert scores["clustering/ami"] == pytest.approx(found["ami"])


def test_the_accuracy_threshold_is_learned_on_validation(study):
  run = read_study(study).cells[0].chosen.runs[0]
  scores = score_run(run).tested.selected
  arrays = np.load(run.folder / run_files.EMBEDDINGS)

  def pairs(part):
    return evaluation.pairs_of(
      arrays[f"{part}_embeddings"], arrays[f"{part}_labels"], "l1"
    )

  threshold = evaluation.best_threshold(*pairs("validation"))
  distances, same = pairs("test")
  assert scores["own/threshold"] == threshold
  accuracy = np.mean((distances <= threshold) == same)
  assert scores["own/accuracy"] == pytest.approx(accuracy)


def test_folds_count_once_each(tmp_path):
  found = [(0, 0.0), (0, 0.2), (1, 0.5), (2, 0.6)]
  runs = []
  for seed, (fold, value) in enumerate(found):
    (row,) = make_specs(CONFIG, [{"data.fold": fold, "seed": seed}])
    runs.append(Run(row, tmp_path, {"value": value}))
  interval = over_replicates(runs, lambda run: run.result["value"])
  # Fold means .1, .5, .6: mean .4, s = .2645751, t(.975, 2) = 4.302653.
  assert interval.n == 3
  assert interval.mean == pytest.approx(0.4)
  assert interval.half_width == pytest.approx(
    4.302653 * 0.2645751 / 3**0.5, rel=1e-5
  )


def with_gallery():
  """Digits whose test images are divided into queries and a gallery."""
  splits = data.load(CONFIG.data)
  places = np.arange(len(splits.test.labels))
  query, gallery = places[places % 3 == 0], places[places % 3 > 0]
  return data.Splits(
    splits.train,
    splits.validation,
    select(splits.test, query),
    splits.protocol,
    select(splits.test, gallery),
  )


@pytest.mark.slow
def test_queries_are_scored_against_the_gallery(tmp_path):
  # As in the study, so that its program is compiled already.
  fields = {"loss.name": HINGE, "metric.name": "l2", "eval.columns": BY_QUERY}
  (row,), splits = make_specs(CONFIG, [fields]), with_gallery()
  result = train(row.config, tmp_path / "run", splits=splits, progress=False)
  scores = score_run(Run(row, tmp_path / "run", result)).tested.selected
  files = sorted((tmp_path / "run").glob("embeddings*.npz"))
  arrays = run_files.read_arrays(
    files[-1]
  )  # the selected ones, if not the last
  assert len(arrays["gallery_labels"]) == len(splits.gallery.labels)
  wanted = nearest_is_of_the_class(
    arrays["test_embeddings"],
    splits.test.labels,
    arrays["gallery_embeddings"],
    splits.gallery.labels,
  )
  assert scores["own/recall_at_1"] == wanted
  assert scores["own/num_queries"] == len(splits.test.labels)
  assert "own/eer" not in scores

  write_baselines(tmp_path, [(row.config, splits)])
  pixels = run_files.read_json(tmp_path / "baselines.json")[0]
  flat = lambda part: part.inputs.reshape(len(part.labels), -1) / 255
  assert pixels["test"]["own/recall_at_1"] == nearest_is_of_the_class(
    flat(splits.test),
    splits.test.labels,
    flat(splits.gallery),
    splits.gallery.labels,
  )
  low, high = pixels["class_interval"]["own/recall_at_1"]
  assert low <= pixels["test"]["own/recall_at_1"] <= high


def nearest_is_of_the_class(queries, labels, gallery, gallery_labels):
  queries, gallery = queries.astype(float), gallery.astype(float)
  apart = ((queries[:, None] - gallery) ** 2).sum(axis=2)
  return float((gallery_labels[apart.argmin(axis=1)] == labels).mean())
