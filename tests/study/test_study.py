"""A study: checked first, resumed, chosen on validation, tabulated."""

import csv
import dataclasses
import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from metric_learning import InputError, data, evaluation
from metric_learning.data import loaded
from metric_learning.data.base import select
from metric_learning.evaluation import scores
from metric_learning.study import (
  baselines,
  make_specs,
  read_study,
  run_study,
  tables,
)
from metric_learning.study.baselines import BASELINES, write_baselines
from metric_learning.study.results import (
  over_replicates,
)
from metric_learning.study.runs import Run
from metric_learning.study.scoring import TEST, score_run
from metric_learning.study.sweeps import cell_of, tuned_of
from metric_learning.training import records, train
from metric_learning.training.config import digest, from_dict, override
from tests.forks import FORKS
from tests.studies import (
  CONFIG,
  DIVERGED,
  HINGE,
  changed,
  real_sweep,
  scored_study,
)
from tests.tiny import tiny_config

BY_QUERY = ("own/recall_at_1", "own/map_at_r")


@pytest.fixture
def study(real_study, tmp_path):
  """A copy of the trained and reported study that a test may change."""
  return shutil.copytree(real_study.reported, tmp_path / "study")


@pytest.fixture
def finished(real_study):
  """The trained study as it was reported; no test may change it."""
  return real_study.reported


def results_of(folder):
  return sorted(folder.glob("runs/*/result.json"))


def test_cells_and_tuned_fields_follow_from_the_overrides():
  row = make_specs(CONFIG, real_sweep())[0]
  assert cell_of(row) == {"loss.name": "contrastive", "metric.name": "l1"}
  assert tuned_of(row) == {"loss.margin": 0.5}


def test_a_bad_row_is_named_before_anything_runs():
  rows = [
    {"loss.name": "triplet"},
    {"loss.name": "triplet", "metric.name": "dot"},
  ]
  with pytest.raises(
    InputError, match=r"row loss.name=triplet,metric.name=dot"
  ):
    make_specs(CONFIG, rows)
  with pytest.raises(InputError, match=r"row seed=1: it occurs twice"):
    make_specs(CONFIG, [{"seed": 1}, {"seed": 1}])


def assert_listed(error, *lines):
  first, *rest = str(error.value).splitlines()
  assert first == f"{len(lines)} errors in the rows:"
  for line, said in zip(rest, lines, strict=True):
    assert line.startswith(f"  {said}")


def test_all_that_is_wrong_with_the_rows_is_said_at_once():
  rows = [
    {"sed": 1, "metrc": "l1"},
    {"seed": 2},
    {"miner.name": None},
    {"seed": 2},
    {"metric.name": "l3"},
    {"metric.name": "l3", "seed": 3},
    {"train.steps": 0},
  ]
  with pytest.raises(InputError) as error:
    make_specs(CONFIG, rows)
  assert_listed(
    error,
    "row sed=1,metrc=l1: unknown config field 'sed'",
    "row sed=1,metrc=l1: unknown config field 'metrc'",
    "row miner.name=None: config.miner.name=None",
    "row seed=2: it occurs twice",
    "row metric.name=l3 and 1 more: unknown metric",
    "row train.steps=0: config.train.steps",
  )


def test_data_that_cannot_be_used_are_refused_before_anything_runs(
  tmp_path, monkeypatch
):
  # So that the test part has more pairs than are kept.
  monkeypatch.setattr(scores, "MAX_PAIRS", 10)
  rows = [
    {"seed": 0},
    {"batch.classes_per_batch": 11},
    {"data.name": "digit"},
    {"data.name": "digit", "seed": 1},
    {"eval.columns": ("own/map_at_r", "own/eer")},
    {"reduction.name": "mean", "reduction.class_weights": (1.0, 2.0)},
  ]
  config = override(CONFIG, {"eval.columns": BY_QUERY})
  with pytest.raises(InputError) as error:
    run_study(config, make_specs(config, rows), tmp_path / "study")
  assert_listed(
    error,
    "row batch.classes_per_batch=11: ",
    "row data.name=digit and 1 more: unknown data",
    "row eval.columns=",
    "row reduction.name=mean,reduction.class_weights=_1.0,_2.0_-",
  )
  assert "class_weights of" in str(error.value)
  assert "digits has no own/eer, which config.eval.col" in str(error.value)
  assert not (tmp_path / "study").exists()


def test_a_cell_that_cannot_choose_among_its_settings_is_refused(tmp_path):
  both = {"metric.name": "l2", "data.train_on": "train+validation"}
  rows = [
    {"metric.name": "l1", "loss.temperature": 0.5},
    {"metric.name": "l1"},
    {**both, "loss.temperature": 0.5},
    {**both, "loss.temperature": 0.5, "seed": 1},
    {**both, "loss.temperature": 1.0},
    {**both, "metric.name": "l1", "loss.temperature": 1.0},
  ]
  with pytest.raises(InputError) as error:
    run_study(CONFIG, make_specs(CONFIG, rows), tmp_path / "study")
  assert_listed(
    error,
    "row metric.name=l1,loss.temperature=0.5 and 1 more: they are one cell",
    "row metric.name=l2,data.train_on=train+validation,loss.temperature=0.5"
    " and 1 more: numbers are chosen on validation classes, which",
  )
  assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_only_what_is_missing_is_done(study):
  lost = results_of(study)[3]
  lost.unlink()
  before = {p: p.stat().st_mtime_ns for p in results_of(study)}
  run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  after = {p: p.stat().st_mtime_ns for p in results_of(study)}
  assert after.pop(lost)
  assert after == before


LONG = tiny_config(
  train__steps=800,
  train__eval_every=800,
  train__save_every=800,
  train__log_every=8,
)


def long_study(folder):
  seeds = [{"seed": seed} for seed in range(4)]
  run_study(LONG, make_specs(LONG, seeds), folder)


def test_killed_and_started_twice_only_does_what_is_unfinished(tmp_path):
  """`kill -9` in the second of four runs; then two processes share the rest."""
  folder = tmp_path / "study"
  process = FORKS.Process(target=long_study, args=(folder,))
  process.start()
  unfinished = lambda: [
    path.parent
    for path in folder.glob("runs/*/metrics.jsonl")
    if not (path.parent / records.RESULT).exists() and path.stat().st_size
  ]
  while process.is_alive():
    if len(results_of(folder)) == 1 and unfinished():
      break
    time.sleep(0.005)
  process.kill()
  process.join()
  done = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/*")}
  (cut,) = unfinished()
  (whole,) = (path.parent for path in results_of(folder))
  both = [FORKS.Process(target=long_study, args=(folder,)) for _ in range(2)]
  for process in both:
    process.start()
  for process in both:
    process.join()
  assert [process.exitcode for process in both] == [0, 0]
  assert len(results_of(folder)) == 4
  for log in folder.glob("runs/*/train.log"):
    begun = 2 if log.parent == cut else 1
    assert log.read_text().count("from step") == begun
    assert log.read_text().count(" finished\n") == 1
  for path, written in done.items():
    if path.parent == whole and path.is_file():
      assert path.stat().st_mtime_ns == written
  assert len(records.read_metrics(cut)) == len(records.read_metrics(whole))


def test_a_folder_of_another_study_is_refused(study, monkeypatch):
  rows = make_specs(CONFIG, [{"seed": 0}])
  with pytest.raises(InputError, match=r"another study: .*seed=0.*None now"):
    run_study(CONFIG, rows, study)
  monkeypatch.setattr(records, "code", lambda: "abc")
  with pytest.raises(InputError, match=r"code \(.*'abc' now\).* of commit"):
    run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  with pytest.raises(InputError, match="holds no study"):
    read_study(study / "runs")


def test_a_study_on_other_data_is_refused(study, monkeypatch):
  """Before the first run, though every run that is there is finished."""
  load = data.load

  def with_fewer_tested(config):
    splits = load(config)
    fewer = data.select(splits.test, np.arange(300))
    return dataclasses.replace(splits, test=fewer)

  monkeypatch.setattr(loaded, "_SPLITS", {})
  monkeypatch.setattr(loaded, "load", with_fewer_tested)
  message = r"another study: data\..*\.test .*360 images .*there.*300 images"
  with pytest.raises(InputError, match=message):
    run_study(CONFIG, make_specs(CONFIG, real_sweep()), study)
  # One record, though all rows load it.
  (parts,) = records.read_json(study / "study.json")["data"].values()
  assert parts == load(CONFIG.data).identity


def rewrite_validation(folder, score_of):
  """Gives every run of the hinge loss a validation score of our own."""
  for path in folder.glob(f"runs/*{HINGE}*/{records.RESULT}"):
    result = json.loads(path.read_text())
    config = json.loads((path.parent / "config.json").read_text())
    result["validation_selected"]["own/map_at_r"] = score_of(config)
    path.write_text(json.dumps(result))


def tuned_cell(folder):
  """The cell that has three margins."""
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
  """Takes the selected checkpoint from the runs of the hinge loss."""
  for path in folder.glob(f"runs/*{HINGE}*/{records.RESULT}"):
    if where(records.read_json(path.parent / records.CONFIG)):
      result = records.read_json(path)
      nothing = dict.fromkeys(result["validation_selected"], float("nan"))
      found = {"selected_step": None, "validation_selected": nothing}
      records.write_json(path, changed(result, found))


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
  files = (TEST, records.EMBEDDINGS)
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
    arrays = np.load(run.folder / records.EMBEDDINGS)
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
  arrays = np.load(run.folder / records.EMBEDDINGS)
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  found = evaluation.few_shot(points, labels, metric="l1")
  assert scores["own/few_shot_5_way_1_shot"] == found["accuracy"]
  found = evaluation.clustering(points, labels)
  assert scores["clustering/ami"] == pytest.approx(found["ami"])


def test_the_accuracy_threshold_is_learned_on_validation(study):
  run = read_study(study).cells[0].chosen.runs[0]
  scores = score_run(run).tested.selected
  arrays = np.load(run.folder / records.EMBEDDINGS)

  def pairs(part):
    return evaluation.pairs_of(
      arrays[f"{part}_embeddings"], arrays[f"{part}_labels"], "l1"
    )

  threshold = evaluation.best_threshold(*pairs("validation"))
  distances, same = pairs("test")
  assert scores["own/threshold"] == threshold
  accuracy = np.mean((distances <= threshold) == same)
  assert scores["own/accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_baselines_are_in_every_table_without_asking(finished):
  found = scored_study(finished)
  names = [line["name"] for line in tables.table_lines(found)]
  assert names[:3] == ["raw pixels", "PCA-4 of pixels", "untrained mlp"]
  text = tables.to_markdown(found)
  assert "bootstrap interval over test classes" in text
  assert "closed-set" in text
  # Not each score is a mean over queries, so that classes can be resampled.
  assert "nan" not in text


def test_raw_pixels_score_what_scikit_learn_finds(finished):
  test = data.load(CONFIG.data).test
  pixels = test.inputs.reshape(len(test.inputs), -1).astype(float)
  near = NearestNeighbors(n_neighbors=2).fit(pixels).kneighbors(pixels)[1][:, 1]
  line = tables.table_lines(scored_study(finished))[0]
  expected = np.mean(test.labels[near] == test.labels)
  assert line["own/recall_at_1"].mean == pytest.approx(expected)


def test_pca_is_that_of_the_training_images():
  splits = data.load(CONFIG.data)
  flat = lambda part: part.inputs.reshape(len(part.inputs), -1) / 255
  mean = flat(splits.train).mean(axis=0)
  axes = np.linalg.svd(flat(splits.train) - mean, full_matrices=False)[2][:4]
  expected = (flat(splits.test) - mean) @ axes.T
  found = baselines._pca(4, CONFIG, splits)(splits.test.inputs)
  # Up to the sign of each axis.
  np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


@pytest.mark.slow
def test_a_diverged_run_is_recorded_and_not_chosen(tmp_path):
  config = tiny_config(
    loss__name="contrastive_inverse", normalize="none", optimizer__name="sgd"
  )

  def rates():
    for rate in (1e-3, 1e30):
      yield {"optimizer.learning_rate": rate, "seed": 0}

  folder = tmp_path / "study"
  run_study(config, make_specs(config, rates()), folder)
  (cell,) = read_study(folder).cells
  assert cell.diverged == 1
  assert cell.chosen.tuned == {"optimizer.learning_rate": 1e-3}
  left = [records.read_json(path) for path in results_of(folder)]
  (lost,) = [result for result in left if "train" not in result]
  assert lost.keys() == DIVERGED.keys()


def test_an_unfinished_study_says_so(study):
  results_of(study)[0].unlink()
  assert "UNFINISHED: 1 runs" in tables.to_markdown(scored_study(study))


def test_latex_is_escaped(study):
  results_of(study)[0].unlink()
  text = tables.to_latex(scored_study(study))
  # What a reader of the table must know is printed under it.
  (note,) = [line for line in text.splitlines() if "UNFINISHED: 1 runs" in line]
  assert note.startswith(r"{\footnotesize ")
  assert not re.search(r"(?<!\\)[%#^]|[^\\]_|[^ -~\n]", text)
  table = text[: text.index(r"\end{tabular}")]
  assert r"$\pm$" in table
  assert "±" not in table
  assert table.count(r"\\") == 1 + 3 + 4


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


def baselines_of(folder, rows):
  """Name and seed of each baseline, which is not scored: that takes seconds."""
  splits = data.load(CONFIG.data)
  runs = []
  for row in make_specs(CONFIG, rows):
    height, width = row.config.data.image_size or (8, 8)
    cut = lambda part, h=height, w=width: dataclasses.replace(
      part, inputs=part.inputs[:, :h, :w]
    )
    parts = {"train": cut(splits.train), "test": cut(splits.test)}
    runs.append((row.config, dataclasses.replace(splits, **parts)))
  with pytest.MonkeyPatch.context() as patch:
    for name in ("_untrained", "_pca"):
      patch.setattr(baselines, name, lambda *_: None)
    patch.setattr(baselines, "_record", lambda name, _, seed, *__: (name, seed))
    write_baselines(folder, runs)
  return [tuple(found) for found in records.read_json(folder / BASELINES)]


def test_a_baseline_counts_once_however_batches_are_made(tmp_path):
  rows = [
    {
      "batch.classes_per_batch": p,
      "augment.flip": p == 2,
      "model.embedding_dim": dim,
      "seed": seed,
    }
    for p in (5, 2)
    for dim in (4, 3)
    for seed in (0, 1)
  ]
  found = baselines_of(tmp_path, rows)
  untrained = [f"untrained mlp, embedding_dim {dim}" for dim in (4, 3)]
  plain = ("raw pixels", "PCA-4 of pixels", "PCA-3 of pixels")
  wanted = [(name, None) for name in plain]
  wanted += [(name, seed) for name in untrained for seed in (0, 1)]
  assert sorted(found, key=str) == sorted(wanted, key=str)


def test_baselines_are_named_by_what_differs_in_their_images(tmp_path):
  rows = [{"data.image_size": s, "seed": 0} for s in ((8, 8), (4, 6))]
  rows.append({"data.split_seed": 1, "data.fold": 0})
  names = [name for name, _ in baselines_of(tmp_path, rows)]
  assert len(set(names)) == len(names) == 9
  assert [name for name in names if "raw" in name] == [
    "raw pixels 8×8, split_seed 0",
    "raw pixels 4×6, split_seed 0",
    "raw pixels 8×8, split_seed 1",
  ]
  assert "untrained mlp, 4×6, split_seed 0" in names


@pytest.mark.slow
def test_baselines_have_class_intervals_for_all_means_over_queries(tmp_path):
  columns = ("own/recall_at_4", "cosine/recall_at_1", "own/mrr", "own/eer")
  columns += ("clustering/ami",)
  config = override(CONFIG, {"eval.columns": columns})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(baselines, "_untrained", lambda *_: baselines._flat)
    write_baselines(tmp_path, [(config, data.load(config.data))])
  pixels = records.read_json(tmp_path / BASELINES)[0]
  assert sorted(pixels["class_interval"]) == sorted(columns[:3])
  test = data.load(CONFIG.data).test
  points = test.inputs.reshape(len(test.inputs), -1).astype(float)
  found = evaluation.clustering(points.astype(np.float32) / 255, test.labels)
  assert pixels["test"]["clustering/ami"] == pytest.approx(found["ami"])
  near = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(points)[1]
  hits = (test.labels[near[:, 1:]] == test.labels[:, None]).any(axis=1)
  assert pixels["class_interval"]["own/recall_at_4"] == pytest.approx(
    evaluation.class_bootstrap(hits.astype(float), test.labels)
  )


def with_gallery():
  """Digits whose test images are cut into queries and a gallery."""
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
  arrays = records.read_arrays(files[-1])  # the selected ones, if not the last
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
  pixels = records.read_json(tmp_path / "baselines.json")[0]
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
