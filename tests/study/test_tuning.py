"""Tuning: every trial once, whatever happens; the same budget for all cells."""

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from metric_learning import LOSSES, InputError
from metric_learning.data import base, feeds
from metric_learning.evaluation import scores
from metric_learning.losses.search import Grid, Range
from metric_learning.study import (
  make_specs,
  ranges,
  run_study,
  tables,
  tuning,
)
from metric_learning.study.compared_with import cells_of
from metric_learning.study.comparisons import compare_cells
from metric_learning.study.ranges import RATE, grid_points, ranges_of
from metric_learning.training import NotFiniteError, records, step
from metric_learning.training.checkpoints import Checkpoints
from metric_learning.training.config import override
from tests.forks import FORKS
from tests.studies import scored_study
from tests.tiny import tiny_config

CONFIG = tiny_config(
  loss__name="contrastive",
  tune__trials=6,
  tune__folds=2,
  tune__final_seeds=2,
  train__steps=2,
  train__eval_every=1,
  train__save_every=1,
)
BINS = {"loss__name": "fastap"}
ONE = ({"metric.name": "l2"},)
TWO = ({"metric.name": "l1"}, {"metric.name": "l2"})


def near(config):
  """A score that is best at margin 0.7, and differs between folds."""
  distance = abs(config.loss.margin - 0.7)
  return 1 - distance / 2 - 0.1 * config.data.validation_fold


def result_of(score, name="own/map_at_r"):
  """What tuning reads of the result of a run."""
  return {"seconds": 1.0, "validation_selected": {name: score}}


def fake_train(score, said=lambda workdir: None):
  """Instead of training: a score that is known."""

  def train(config, workdir, **_):
    workdir.mkdir(exist_ok=True)
    said(workdir)
    return result_of(score(config))

  return train


def search(folder, sweep=ONE, storage="", config=CONFIG, train=None):
  """A search in a journal file, the fastest storage, or another."""
  storage = f"{folder}.journal" if storage == "" else storage
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tuning.trials, "train", train or fake_train(near))
    return tuning.search(config, make_specs(config, sweep), folder, storage)


def trials_of(folder, storage="", cell="metric.name=l2"):
  storage = f"{folder}.journal" if storage == "" else storage
  storage = storage or f"sqlite:///{folder}/trials.db"
  with tuning.storage.open_storage(storage) as opened:
    name = f"{folder.name}: {cell}"
    return optuna.load_study(study_name=name, storage=opened).get_trials()


# --- Several processes, and those that are killed ---------------------------


@pytest.fixture(scope="module")
def postgres():
  """The URL of a server on loopback, with nothing in it."""
  pytest.importorskip("psycopg")
  found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
  initdb = shutil.which("initdb") or (found and str(found[-1]))
  if not initdb:
    pytest.skip("PostgreSQL is not installed")
  as_user = []
  if os.geteuid() == 0:  # As which the server refuses to run.
    as_user = ["runuser", "-u", "postgres", "--"]
    if subprocess.run([*as_user, "true"], capture_output=True).returncode:
      pytest.skip("PostgreSQL does not run as root, and there is no runuser")
  with (
    tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    socket.socket() as free,
  ):
    os.chmod(folder, 0o777)
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    bin, data = Path(initdb).parent, f"{folder}/data"
    quiet = dict(cwd=folder, check=True, stdout=subprocess.DEVNULL)
    make = [initdb, "-D", data, "-U", "tuner", "-A", "trust", "--no-sync"]
    subprocess.run([*as_user, *make], **quiet)
    control = [*as_user, str(bin / "pg_ctl"), "-D", data, "-w"]
    options = f"-F -p {port} -k {folder} -c listen_addresses=127.0.0.1"
    log = ["-l", f"{folder}/log", "-o", options]
    subprocess.run([*control, *log, "start"], **quiet)
    try:
      yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
    finally:
      subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


@pytest.fixture(params=["sqlite", "journal", "postgres"])
def storage(request, tmp_path):
  if request.param == "postgres":
    return request.getfixturevalue("postgres")
  return str(tmp_path / "journal") if request.param == "journal" else None


def worker(folder, storage, ready, dies_at=None):
  """One of several processes; it may be killed in the middle of a trial."""

  def said(workdir):
    with (folder.parent / "trained").open("a") as file:
      file.write(f"{workdir.name}\n")
    if workdir.name == dies_at:
      os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)

  ready.wait()
  search(folder, ONE, storage, train=fake_train(near, said))


def processes(folder, storage, count, **options):
  ready = FORKS.Barrier(count)
  started = [
    FORKS.Process(target=worker, args=(folder, storage, ready), kwargs=options)
    for _ in range(count)
  ]
  for process in started:
    process.start()
  for process in started:
    process.join()
  return [process.exitcode for process in started]


@pytest.mark.slow
def test_every_trial_is_made_once_by_whoever_lives(storage, tmp_path):
  folder, trained = tmp_path / "study", tmp_path / "trained"
  (code,) = processes(folder, storage, 1, dies_at="002-fold1")
  assert code == -signal.SIGKILL
  cut = trials_of(folder, storage)
  states = [trial.state for trial in cut]
  finished, waiting = TrialState.COMPLETE, TrialState.WAITING
  assert states == [finished] * 2 + [TrialState.RUNNING] + [waiting] * 3
  trained.unlink()

  assert processes(folder, storage, 2) == [0, 0]
  each = [f"{t:03}-fold{f}" for t in range(2, 6) for f in range(2)]
  assert sorted(trained.read_text().split()) == each
  trials = trials_of(folder, storage)
  assert [trial.number for trial in trials] == list(range(6))
  assert {trial.state for trial in trials} == {finished}
  assert trials[2].params == cut[2].params

  def never(config, workdir, **_):
    raise AssertionError("a finished search trains nothing")

  before = (folder / tuning.TUNING).read_bytes()
  (cell,) = search(folder, ONE, storage, train=never)
  assert (folder / tuning.TUNING).read_bytes() == before
  best = max(trials, key=lambda trial: trial.value)
  assert cell["trials"] == 6
  assert cell["validation"] == best.value
  margin = best.params["loss.margin"]
  assert cell["chosen"]["loss.margin"] == pytest.approx(margin, abs=1e-3)
  mean = 1 - abs(cell["chosen"]["loss.margin"] - 0.7) / 2 - 0.05
  assert cell["validation"] == pytest.approx(mean)


def test_two_that_begin_at_once_make_one_study(storage, tmp_path):
  assert processes(tmp_path / "new", storage, 2) == [0, 0]
  each = [f"{t:03}-fold{f}" for t in range(6) for f in range(2)]
  assert sorted((tmp_path / "trained").read_text().split()) == each
  assert len(trials_of(tmp_path / "new", storage)) == 6


def test_trials_that_a_kill_left_out_are_put_there(tmp_path, monkeypatch):
  folder, enqueue = tmp_path / "study", optuna.Study.enqueue_trial

  def killed(study, *arguments):
    if len(study.get_trials()) == 2:
      raise KeyboardInterrupt
    enqueue(study, *arguments)

  monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
  with pytest.raises(KeyboardInterrupt):
    search(folder)
  monkeypatch.undo()
  (cell,) = search(folder)
  assert cell["trials"] == 6
  assert len(trials_of(folder)) == 6


def test_a_line_that_was_cut_is_dropped_from_a_journal(tmp_path):
  folder, path = tmp_path / "study", tmp_path / "study.journal"
  chosen = search(folder)
  (folder / tuning.TUNING).unlink()
  with path.open("ab") as file:
    file.write(b'{"op_c')
  assert search(folder) == chosen
  assert b'{"op_c\n' not in path.read_bytes()
  assert path.read_bytes().endswith(b"\n")
  # Another file without an end of line stays as it is.
  (tmp_path / "note").write_text("nothing of ours")
  with pytest.raises(InputError, match="is not a journal file"):
    search(tmp_path / "another", storage=str(tmp_path / "note"))
  assert (tmp_path / "note").read_text() == "nothing of ours"
  # Nothing but half a first line: a disk that was full from the start.
  (tmp_path / "new.journal").write_bytes(b'{"op_c')
  assert search(tmp_path / "new") == chosen


def test_the_home_in_the_url_of_a_database_is_expanded(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  found = tuning.storage.expanded("sqlite:///~/trials.db")
  assert found == f"sqlite:///{tmp_path}/trials.db"
  with tuning.storage.open_storage(found):
    pass
  assert (tmp_path / "trials.db").exists()


def test_a_search_expands_the_home_in_its_storage(monkeypatch, tmp_path):
  opened = []

  def no_storage(where):
    opened.append(where)
    raise InputError("seen")

  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setattr(tuning.trials, "open_storage", no_storage)
  with pytest.raises(InputError, match="seen"):
    search(tmp_path / "study", storage="sqlite:///~/trials.db")
  assert opened == [f"sqlite:///{tmp_path}/trials.db"]


def test_the_lock_of_a_journal_is_found_from_anywhere(tmp_path, monkeypatch):
  """A link to a file that is not there would be waited for forever."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").mkdir()
  with tuning.storage.open_storage("runs/journal") as opened:
    assert Path(opened._backend._lock._lock_target_file).exists()
    assert Path(opened._backend._file_path).is_absolute()


# --- A whole one, trained ---------------------------------------------------


@pytest.mark.slow
def test_tuned_and_run_as_an_ordinary_study(tmp_path, monkeypatch):
  # Earlier checkpoints look better, to see that nothing is chosen by them
  # where validation classes are trained on.
  earlier = lambda self, step: {"score": -step, "seconds": 0.0}
  monkeypatch.setattr(Checkpoints, "record", earlier)
  config = override(
    CONFIG,
    {
      "margin_unit": "initial_mean",
      "tune.trials": 2,
      "tune.final_on": "train+validation",
      "model.hidden": (17,),  # compiled by no other test
    },
  )
  folder = tmp_path / "study"
  before = {*step._PROGRAMS}
  chosen = tuning.search(config, make_specs(config, ONE), folder)
  # All trials and folds of a cell share one program, compiled for one shape.
  (key,) = {*step._PROGRAMS} - before
  one = step.compiled(step._PROGRAMS[key].step, feeds.gather_resident)
  assert one._cache_size() == 1

  left = {path.name for path in folder.glob("trials/*/*-fold*/*")}
  assert records.RESULT in left
  assert not {name for name in left if name.endswith(".npz")}
  assert "checkpoints" not in left
  trials = sorted(path.name for path in folder.glob("trials/*/*-fold*"))
  assert trials == [f"{t:03}-fold{f}" for t in range(2) for f in range(2)]
  found = []
  for trial in range(2):
    runs = [
      folder / f"trials/metric.name=l2/{trial:03}-fold{f}" for f in range(2)
    ]
    results = [records.read_json(run / records.RESULT) for run in runs]
    for result in results:
      faked = result_of(0.0)
      assert faked.keys() <= result.keys()
      selected = faked["validation_selected"].keys()
      assert selected <= result["validation_selected"].keys()
    scores = [r["validation_selected"]["own/map_at_r"] for r in results]
    found.append(np.mean(scores))
  assert chosen[0]["validation"] == pytest.approx(max(found))
  assert json.loads((folder / tuning.TUNING).read_text()) == chosen

  whole, rows = tuning.final_specs(config, chosen)
  assert [row.config.seed for row in rows] == [1, 2]
  run_study(whole, rows, folder)
  study = scored_study(folder)
  (cell,) = study.cells
  assert cell.name == ONE[0]
  assert cell.chosen.tuned == chosen[0]["chosen"]
  assert [run.result["selected_step"] for run in cell.chosen.runs] == [2, 2]
  assert study.missing == 0
  text = tables.to_markdown(study)
  head, line = text.splitlines()[0], text.splitlines()[5]
  told = dict(zip(head.split(" | "), line.split(" | "), strict=True))
  assert told["trials"] == "2" and told["searched"] == "1 + rate"
  assert (
    tables.trace(study)["metric.name=l2"]["trials"] == "trials/metric.name=l2"
  )


# --- What is searched -------------------------------------------------------


@pytest.mark.slow
def test_the_search_is_the_same_again_and_for_every_cell(tmp_path):
  for sampler in tuning.SAMPLERS:
    config = override(CONFIG, {"tune.sampler": sampler})
    params = []
    for name in ("one", "two"):
      folder = tmp_path / f"{sampler}_{name}"
      search(folder, TWO, config=config)
      for cell in ("metric.name=l1", "metric.name=l2"):
        trials = trials_of(folder, cell=cell)
        params.append([trial.params for trial in trials])
    assert params[0] == params[1] == params[2] == params[3]
    assert len({tuple(some.values()) for some in params[0]}) == 6
    low, high = 0.0, 2.0
    assert all(low <= some["loss.margin"] <= high for some in params[0])


def test_it_starts_at_the_defaults(tmp_path):
  search(tmp_path / "study")
  first = trials_of(tmp_path / "study")[0]
  assert first.params == {"loss.margin": 1.0, RATE: 3e-3}


def test_a_grid_has_its_bounds_and_an_optimum_there_is_flagged(tmp_path):
  config = override(CONFIG, {"tune.sampler": "grid"})
  train = fake_train(lambda config: config.loss.margin)
  (cell,) = search(tmp_path / "study", config=config, train=train)
  params = [trial.params for trial in trials_of(tmp_path / "study")]
  assert {some["loss.margin"] for some in params} == {0.0, 1.0, 2.0}
  assert {some[RATE] for some in params} == {1e-4, 3e-2}
  assert cell["chosen"]["loss.margin"] == 2.0
  assert "loss.margin" in cell["on_edge"]
  assert cell["ranges"]["loss.margin"] == [0.0, 2.0, False]


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_declared_ranges_fit_their_loss(loss):
  entry = LOSSES[loss]
  assert len(entry.search) <= 2
  config = tiny_config(batch__images_per_class=2, tune__searched=2)
  if loss == "contrastive_2005":  # Elsewhere it has no bound by default.
    config = override(config, {"normalize": "l2"})
  (cell,) = make_specs(config, [{"loss.name": loss}])
  assert not list(tuning.checks._errors(cell))
  for name, found in entry.search.items():
    low, high = ranges.ends(found)
    assert low < high
    # What selects code is a grid, so that it is compiled a few times only.
    assert isinstance(found, Grid) == (name in entry.static)
    if entry.scaled.get(name) == 1 and name.endswith("margin"):
      assert found == Range(0.0, 2.0)
    default = entry.hyper[name]
    assert default is None or low <= default <= high


def test_ranges_of_a_config():
  config = tiny_config(
    loss__name="cosface",
    tune__searched=1,
    tune__ranges=(
      "margin=0:1.5",
      "cosface.margin=0.1:0.5",
      "learning_rate=1e-3:1e-2:log",
    ),
  )
  found = ranges_of(config)
  assert found == {
    "loss.margin": Range(0.1, 0.5),
    RATE: Range(1e-3, 1e-2, log=True),
  }
  config = tiny_config(loss__name="triplet", tune__ranges=("margin=0:1.5",))
  assert ranges_of(config)["loss.margin"] == Range(0.0, 1.5)
  config = tiny_config(loss__name="fastap", tune__ranges=("num_bins=3,7",))
  assert ranges_of(config)["loss.num_bins"] == Grid((3, 7))
  config = override(config, {"tune.ranges": ("num_bins=25,5,2.5,5",)})
  assert ranges_of(config)["loss.num_bins"] == Grid((2.5, 5, 25))


def test_a_grid_fits_its_ranges_and_has_no_point_twice():
  bins, rate = Grid((2, 5, 10)), Range(1e-3, 1e-1, log=True)
  found = {"loss.num_bins": bins, "loss.margin": Grid((0.5, 1)), RATE: rate}
  for trials, sides in ((12, (3, 2, 2)), (30, (3, 2, 5)), (1, (1, 1, 1))):
    points = grid_points(found, trials)
    assert len({tuple(point.values()) for point in points}) == trials
    assert tuple(len({p[name] for p in points}) for name in found) == sides
    # Bins are whole, whatever the numbers beside them.
    assert all(type(p["loss.num_bins"]) is int for p in points)
  for one in (Grid((5,)), Range(5.0, 5.0)):
    points = grid_points({"loss.scale": one, RATE: rate}, 4)
    assert len({point[RATE] for point in points}) == 4
  few = {"loss.num_bins": bins, "loss.margin": Grid((0.5, 1))}
  with pytest.raises(InputError, match=r"trials=12 make.*trials=6\.$"):
    grid_points(few, 12)


def test_every_range_is_of_a_value_that_is_searched():
  texts = ("margin=0:1", "learning_rate=1e-3:1e-2")

  def used(texts, *losses, searched=2):
    config = tiny_config(tune__ranges=texts, tune__searched=searched)
    cells = [override(config, {"loss.name": loss}) for loss in losses]
    ranges.check_used(config, cells)

  used(texts, "supcon", "triplet")
  with pytest.raises(InputError, match=r"'margin=0:1' is of a value that no"):
    used(texts, "supcon")
  with pytest.raises(InputError, match=r"no cell .*tune.searched=1"):
    used(("second_margin=0:1",), "quadruplet", searched=1)
  both = ("margin=0:1", "triplet.margin=0:2")
  used(both, "triplet", "triplet_swap")
  with pytest.raises(InputError, match=r"'margin=0:1' is of a value that no"):
    used(both, "triplet")
  with pytest.raises(InputError, match=r"margin is given twice"):
    used(("margin=0:1", "margin=0:2"), "triplet")


# --- Trials that fail -------------------------------------------------------


def diverging(when):
  def score(config):
    if when(config):
      raise NotFiniteError("not finite at step 7: loss")
    return near(config)

  return fake_train(score)


def test_a_trial_that_diverges_is_spent(tmp_path):
  train = diverging(lambda config: config.loss.margin > 0.9)
  (cell,) = search(tmp_path / "study", train=train)
  trials = trials_of(tmp_path / "study")
  failed = [t for t in trials if t.params["loss.margin"] > 0.9]
  assert [t for t in trials if t.state == TrialState.FAIL] == failed
  assert cell["trials"] == 6
  assert cell["failed"] == len(failed) > 0
  assert set(cell["reasons"].values()) == {"not finite at step 7: loss"}
  assert cell["chosen"]["loss.margin"] <= 0.9


def test_a_cell_whose_trials_all_fail_does_not_end_the_study(tmp_path, caplog):
  train = diverging(lambda config: config.metric.name == "l1")
  caplog.set_level("WARNING", "metric_learning")
  first, second = search(tmp_path / "study", TWO, train=train)
  assert (first["chosen"], first["validation"]) == ({}, None)
  assert first["failed"] == 6
  assert "metric.name=l1: no trial was finished" in caplog.text
  assert second["chosen"]
  _, rows = tuning.final_specs(CONFIG, [first, second])
  assert {row.config.metric.name for row in rows} == {"l2"}
  with pytest.raises(InputError, match="no trial of any cell was finished"):
    tuning.final_specs(CONFIG, [first])


@pytest.mark.slow
def test_a_study_whose_reference_failed_compares_nothing(tmp_path):
  train = diverging(lambda config: config.metric.name == "l1")
  config = override(CONFIG, {"study.reference": "metric.name=l1"})
  folder, rows = tmp_path / "study", make_specs(config, TWO)
  chosen = search(folder, TWO, config=config, train=train)
  run_study(*tuning.final_specs(config, chosen), folder, cells=cells_of(rows))
  study = scored_study(folder)
  assert study.names == list(TWO)
  (compared,) = compare_cells(study)
  assert compared.reference == {"metric.name": "l1"}
  assert compared.judged.verdict.startswith("not tested")


def test_of_an_error_rate_the_least_is_chosen(tmp_path):
  config = override(CONFIG, {"eval.select": "own/eer"})

  def train(config, workdir, **_):
    workdir.mkdir(exist_ok=True)
    return result_of(abs(config.loss.margin - 0.7), "own/eer")

  (cell,) = search(tmp_path / "study", config=config, train=train)
  trials = trials_of(tmp_path / "study")
  assert cell["validation"] == min(trial.value for trial in trials)
  margin = cell["chosen"]["loss.margin"]
  assert abs(margin - 0.7) == pytest.approx(cell["validation"], abs=1e-3)


def test_pruned_trials_are_spent(tmp_path):
  config = override(CONFIG, {"tune.prune": True})
  seen = []
  train = fake_train(near, lambda workdir: seen.append(workdir.name))
  (cell,) = search(tmp_path / "study", config=config, train=train)
  trials = trials_of(tmp_path / "study")
  pruned = [t.number for t in trials if t.state == TrialState.PRUNED]
  # Below the median of those before it, after the first two.
  firsts = [t.intermediate_values[0] for t in trials]
  for trial in trials:
    n = trial.number
    whole = [firsts[k] for k in range(n) if k not in pruned]
    below = n >= 2 and firsts[n] < np.median(firsts[:n])
    assert (n in pruned) == below, (firsts, whole)
    assert (f"{n:03}-fold1" in seen) != (n in pruned)
  assert cell["trials"] == 6
  assert cell["pruned"] == len(pruned) > 0


@pytest.mark.parametrize(
  ("select", "worse", "better"),
  [("own/map_at_r", 0.3, 0.7), ("own/eer", 0.7, 0.3)],
)
def test_pruned_is_what_is_on_the_worse_side_of_the_median(
  select, worse, better, monkeypatch
):
  others = [
    create_trial(state=TrialState.COMPLETE, value=x, intermediate_values={0: x})
    for x in (0.4, 0.5, 0.6)
  ]
  monkeypatch.setattr(tuning.trials, "_trials", lambda *_: others)
  cell = mock.Mock(config=override(CONFIG, {"eval.select": select}))
  search_of_it = mock.Mock(spec=tuning.trials.Search, cell=cell)
  is_worse = functools.partial(tuning.trials._is_worse, search_of_it, None, 0)
  assert is_worse(worse) and not is_worse(better)
  monkeypatch.setattr(tuning.trials, "_trials", lambda *_: others[:1])
  assert not is_worse(worse)  # Too few to say.


def test_an_easy_first_fold_does_not_save_a_trial(tmp_path):
  fields = {"tune.prune": True, "tune.folds": 3, "tune.trials": 3}
  config = override(CONFIG, fields)
  # Running means .9 and .5, and of the last trial .91 and .3.
  scores = {0: (0.9, 0.1, 0.5), 1: (0.9, 0.1, 0.5), 2: (0.91, -0.31, 0.5)}
  seen = []

  def train(config, workdir, **_):
    number, fold = int(workdir.name[:3]), config.data.validation_fold
    seen.append(workdir.name)
    workdir.mkdir(exist_ok=True)
    return result_of(scores[number][fold])

  (cell,) = search(tmp_path / "study", config=config, train=train)
  assert cell["pruned"] == 1
  assert "001-fold2" in seen
  assert "002-fold1" in seen
  assert "002-fold2" not in seen


def test_a_trial_that_passed_a_fold_is_not_pruned_there_after_a_kill(
  tmp_path, monkeypatch
):
  config = override(CONFIG, {"tune.prune": True, "tune.trials": 1})

  def die(workdir):
    if workdir.name == "000-fold1":
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    search(tmp_path / "study", config=config, train=fake_train(near, die))
  # Others were better in the meantime.
  monkeypatch.setattr(tuning.trials, "_is_worse", lambda *_: True)
  (cell,) = search(tmp_path / "study", config=config)
  assert cell["pruned"] == 0


# --- Refusals ---------------------------------------------------------------


@pytest.mark.slow
def test_another_config_or_other_code_is_refused(tmp_path, monkeypatch):
  folder = tmp_path / "study"
  search(folder)
  before = Path(f"{folder}.journal").read_bytes()
  other = override(CONFIG, {"train.steps": 3})
  with pytest.raises(InputError, match=r"train.steps \(2 there, 3 now\)"):
    search(folder, config=other)
  with pytest.raises(InputError, match=r"storage \('.*journal' there, None"):
    search(folder, storage=None)
  named = override(CONFIG, {"study.delta": 0.5})
  with pytest.raises(InputError, match=r"study.delta \(0.01 there, 0.5 now"):
    search(folder, config=named)
  monkeypatch.setattr(base.Splits, "identity", {"test": "other pixels"})
  with pytest.raises(InputError, match=r"data\..*\.test .*'other pixels' now"):
    search(folder)
  monkeypatch.undo()
  monkeypatch.setattr(records, "commit", lambda: "abc")
  monkeypatch.setattr(records, "code", lambda: "def")
  with pytest.raises(InputError, match=r"code \(.*'def' now\).* this is abc"):
    search(folder)
  assert Path(f"{folder}.journal").read_bytes() == before
  monkeypatch.undo()
  monkeypatch.setattr(records, "commit", lambda: "abc")
  search(folder)  # Another commit of the same code: of a README, say.
  # The same name in one storage, from another folder.
  (tmp_path / "other").mkdir()
  theirs = f"{folder}.journal"
  with pytest.raises(InputError, match=r"storage holds another .*train.steps"):
    search(tmp_path / "other" / "study", storage=theirs, config=other)
  with pytest.raises(InputError, match=rf"of another folder, .*:{folder}: who"):
    search(tmp_path / "other" / "study", storage=theirs)
  assert not list((tmp_path / "other" / "study").glob("*.json"))
  (tmp_path / "swept").mkdir()
  (tmp_path / "swept" / "study.json").write_text("{}")
  with pytest.raises(InputError, match="was not tuned"):
    search(tmp_path / "swept")


@pytest.mark.slow
def test_what_rows_must_leave_to_tuning_is_said_once(tmp_path):
  rows = [
    {"loss.name": "margin", "metric.name": metric, "loss.beta": 1.0, **one}
    for metric in ("l1", "l2")
    for one in ({"loss.alpha": 0.2}, {"loss.alpha": 0.3, "seed": 1})
  ]
  with pytest.raises(InputError) as error:
    search(tmp_path / "study", rows)
  first, *rest = str(error.value).splitlines()
  assert first == "3 errors in the rows:"
  for said, line in zip(
    (
      " and 3 more: loss.beta is a number, and makes no cell: leave it out,",
      " and 3 more: loss.alpha is for tuning to choose; leave it out.",
      " and 1 more: seed is the same for all cells; leave it out",
    ),
    rest,
    strict=True,
  ):
    assert said in line
  assert "by --config.study.reference=loss.beta=1.0." in rest[0]
  # As it says, its values can be compared.
  config = tiny_config(loss__name="margin", study__reference="loss.beta=1.0")
  tuning.check(
    config, make_specs(config, [{"loss.beta": b} for b in (1.0, 2.0)])
  )
  config = tiny_config(tune__searched=0, study__reference=f"{RATE}=0.1")
  rows = make_specs(config, [{RATE: 0.1}, {RATE: 0.2}])
  with pytest.raises(InputError, match="nothing is left to search"):
    tuning.check(config, rows)


def test_the_margin_of_other_classes_is_searched_before_that_of_the_same():
  searched = [list(loss.search) for loss in LOSSES.values()]
  two = [fields for fields in searched if "negative_margin" in fields]
  assert len(two) > 3
  for fields in two:
    assert fields[0] == "negative_margin"
    if "positive_margin" in fields:
      assert fields[1] == "positive_margin"


@pytest.mark.slow
def test_a_storage_that_cannot_be_used(tmp_path, monkeypatch):
  monkeypatch.setattr(tuning.storage, "_PATIENCE", 0.05)
  path = tmp_path / "trials.db"
  search(tmp_path / "study", storage=f"sqlite:///{path}")

  def refused(storage, *said):
    with pytest.raises(InputError) as error:
      search(tmp_path / "another", storage=storage)
    for words in said:
      assert words in str(error.value)

  with contextlib.closing(sqlite3.connect(path)) as other:
    other.execute("BEGIN EXCLUSIVE")
    refused(f"sqlite:///{path}", "database is locked", "try again")
  refused(f"sqlite:///file:{path}?mode=ro&uri=true", "readonly", "permissions")
  refused(f"sqlite:///{tmp_path}/no/such.db", "unable to open")
  refused(str(tmp_path / "no" / "journal"), "No such file")
  (tmp_path / "text").write_text("not a journal\n")
  refused(str(tmp_path / "text"), "not a journal file")
  refused("nosql://user:secret@host/name", "nosql")
  with pytest.raises(InputError) as error:
    search(tmp_path / "another", storage="nosql://user:secret@host/name")
  assert "secret" not in str(error.value)
  assert not (tmp_path / "another" / tuning.SEARCH).exists()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"tune__sampler": "tpo"}, "did you mean 'tpe'"),
    ({"study__delta": 0.0}, "config.study.delta must be positive"),
    (
      {"study__reference": "metric.name=l3"},
      "metric.name in config.study.reference",
    ),
    ({"study__columns": ("own/map",)}, "did you mean 'own/map_at_r'"),
    ({"tune__trials": 0}, "config.tune.trials must be at least 1"),
    ({"tune__final_on": "test"}, "unknown config.tune.final_on 'test'"),
    ({"tune__prune": True, "tune__folds": 1}, "between folds"),
    ({"tune__ranges": ("margin=2:1",)}, "is empty, 2 is above 1"),
    ({"tune__ranges": ("margin=0:1:log",)}, "no logarithm at 0"),
    ({"tune__ranges": ("margin=a:1",)}, "is not of the form"),
    ({"tune__ranges": ("margin=0:inf",)}, "is not finite"),
    ({"tune__ranges": ("margn=0:1",)}, "'margn'; did you mean 'margin'"),
    ({"tune__ranges": ("triplet.scale=0:1",)}, "searched value of triplet"),
    ({"tune__ranges": ("margin=-1:1",)}, "margin must be at least 0"),
    ({"tune__ranges": ("learning_rate=0:1",)}, "must be positive"),
    ({"tune__ranges": ("margin=0.5,'a',1.0",)}, "is not of the form"),
    ({"tune__ranges": ("margin=(1,2)",)}, "is not of the form"),
    ({"tune__ranges": ("margin=0.5,True",)}, "is not of the form"),
    ({"tune__ranges": ("margin=0.5,nan",)}, "is not finite"),
    ({**BINS, "tune__ranges": ("num_bins=5,-3,10",)}, "num_bins.*-3"),
    ({**BINS, "tune__ranges": ("num_bins=5,7.5,10",)}, "num_bins=7.5"),
    (
      {**BINS, "tune__ranges": ("num_bins=2:50",)},
      "num_bins of fastap takes a list, such as fastap.num_bins=2,5,10,",
    ),
    (
      {"tune__sampler": "grid", "tune__trials": 7},
      r"no grid of loss.margin, optimizer.*set config.tune.trials=6 or 8\.$",
    ),
    ({"tune__folds": 1000}, "1000 folds"),
    (
      {"eval__columns": ("own/map_at_r", "own/auc")},
      "has no own/auc, .* pairs are more than",
    ),
  ],
)
def test_a_config_that_cannot_be_tuned(tmp_path, monkeypatch, changes, said):
  # So that the test part has more pairs than are kept.
  monkeypatch.setattr(scores, "MAX_PAIRS", 10)
  with pytest.raises(InputError, match=said):
    config = tiny_config(**{"loss__name": "contrastive", **changes})
    search(tmp_path / "study", config=config)
  assert not (tmp_path / "study").exists()


def test_all_that_is_wrong_with_the_cells_is_said_at_once(tmp_path):
  sweep = (
    {"metric.name": "l1", "loss.margin": 0.5},
    {"metric.name": "l2", "seed": 3},
    {"tune.trials": 7},
    {"batch.classes_per_batch": 11},
  )
  with pytest.raises(InputError) as error:
    search(tmp_path / "study", sweep)
  lines = str(error.value).splitlines()
  assert lines[0] == "4 errors in the rows:"
  for line, words in zip(
    lines[1:],
    ("loss.margin", "seed", "tune.trials", "classes_per_batch"),
    strict=True,
  ):
    assert words in line
  assert not (tmp_path / "study").exists()
