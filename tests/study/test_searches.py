"""Independent searches of a cell: shared seeds, choices, and cost."""

import json
import shutil

import numpy as np
import pytest

from metric_learning.study import tuning
from metric_learning.study.tuning.searches import seeds_of
from metric_learning.training import NotFiniteError, run_files
from metric_learning.training.config import override
from tests.study.searches import (
  CONFIG,
  fake_train,
  near,
  result_of,
  search,
)

TWO = ({"metric.name": "l1"}, {"metric.name": "l2"})
STAGES = override(
  CONFIG,
  {
    "tune.searches": 2,
    "tune.trials": 4,
    "tune.finalists": 2,
    "tune.repeats": 2,
  },
)


def recorded(folder, sweep, score=near, config=STAGES):
  """The choices, and the folder and config of every run."""
  runs = {}

  def train(config, workdir, **_):
    runs[str(workdir.relative_to(folder / tuning.choice.TRIALS))] = config
    workdir.mkdir(exist_ok=True)
    return result_of(score(config))

  return search(folder, sweep, config=config, train=train), runs


def test_searches_of_one_number_share_seeds_and_folds_alone(tmp_path):
  chosen, runs = recorded(tmp_path / "study", TWO)
  assert [(x["cell"]["metric.name"], x["search"]) for x in chosen] == [
    ("l1", 0),
    ("l2", 0),
    ("l1", 1),
    ("l2", 1),
  ]
  # Four trials and two finalists twice, each on two folds; of four searches.
  assert len(runs) == 4 * (4 + 2 * 2) * 2
  drawn = {}
  for name, config in runs.items():
    _, number, trial = name.split("/")
    stage = int(number), trial.split("-")[1] if "again" in trial else ""
    seeds = config.seed, config.data.validation_draw
    drawn.setdefault(stage, set()).add(seeds)
    assert config.data.train_on == "train"
  assert all(len(some) == 1 for some in drawn.values())
  seeds = [seed for ((seed, draw),) in drawn.values() if seed == draw]
  final = [seed for x in chosen for seed in x["seeds"]]
  # No seed serves twice, but for cells of one number.
  assert len({*seeds, *final}) == len(seeds) + len(final) // 2 == 6 + 4
  _, specs = tuning.final_specs(STAGES, chosen)
  assert sorted(s.config.seed for s in specs) == sorted(final)
  assert {s.config.data.validation_draw for s in specs} == {0}


def test_the_seeds_of_a_search():
  config = override(STAGES, {"seed": 7})
  assert seeds_of(config, 0) == (7, (8, 9), (10, 11))
  assert seeds_of(config, 2) == (207, (208, 209), (210, 211))
  one_stage = override(config, {"tune.finalists": 0})
  assert seeds_of(one_stage, 0) == (7, (), (8, 9))


def test_the_best_mean_over_both_stages_is_chosen(tmp_path):
  """One trial was lucky in the first stage, and another one is better."""

  def score(config):
    first = config.seed % 100 == 0
    lucky = config.loss.margin == 1.0  # The first trial, the default.
    return (0.9 if lucky else 0.8) if first else (0.3 if lucky else 0.7)

  (found, _), runs = recorded(tmp_path / "study", TWO[:1], score)
  assert found["trial"] != 0 and found["chosen"]["loss.margin"] != 1.0
  again = {name.split("/")[2][:3] for name in runs if "again" in name}
  assert again == {"000", f"{found['trial']:03}"}
  assert found["scores"] == [[0.8, 0.8], [0.7, 0.7], [0.7, 0.7]]
  assert found["validation"] == pytest.approx((0.8 + 0.7 + 0.7) / 3)
  assert found["history"] == pytest.approx([0.9, 0.8, 0.8, 0.8])
  # Two folds of four trials, and of two finalists twice, a second each.
  assert found["seconds"] == 2 * 4 + 2 * 2 * 2


def test_a_finalist_that_diverges_is_not_chosen(tmp_path):
  def score(config):
    if config.seed % 100 and config.loss.margin == 1.0:
      raise NotFiniteError("not finite at step 7: loss")
    return 1.0 if config.loss.margin == 1.0 else 0.5

  (found, _), _ = recorded(tmp_path / "study", TWO[:1], score)
  assert found["trial"] != 0
  assert found["reasons"] == {"0 again": "not finite at step 7: loss"}
  assert found["failed"] == 1


def test_a_finalist_that_was_cut_goes_on(tmp_path):
  folder, trained = tmp_path / "study", []
  cut = lambda workdir: workdir.name.endswith("again2-fold0")

  def die(workdir):
    trained.append(workdir.name)
    if cut(workdir):
      raise KeyboardInterrupt

  one = TWO[:1]
  config = override(STAGES, {"tune.searches": 1})
  with pytest.raises(KeyboardInterrupt):
    search(folder, one, config=config, train=fake_train(near, die))
  cell = folder / "trials" / "metric.name=l1" / "00"
  assert not list(cell.glob("*-again.json"))
  before, trained[:] = [*trained], []
  note = lambda workdir: trained.append(workdir.name)
  (found,) = search(folder, one, config=config, train=fake_train(near, note))
  # All runs of that finalist are asked for again, and no trial is.
  assert all("again" in name for name in trained)
  assert {*before, *trained} >= {"000-fold0"}
  (whole,) = search(
    tmp_path / "other" / "study", one, config=config, storage=None
  )
  assert whole == found
  # A finished one trains nothing, and says the same.
  shutil.rmtree(cell / "000-fold0")
  assert search(folder, one, config=config, train=fake_train(None)) == [found]


def test_a_search_that_chose_nothing_leaves_the_others(tmp_path):
  def score(config):
    if config.seed < 100:
      raise NotFiniteError("not finite at step 7: loss")
    return near(config)

  (first, second), _ = recorded(tmp_path / "study", TWO[:1], score)
  assert first["chosen"] == {} and second["chosen"]
  _, specs = tuning.final_specs(STAGES, [first, second])
  assert [spec.config.seed for spec in specs] == second["seeds"]
  written = json.loads((tmp_path / "study" / tuning.TUNING).read_text())
  assert written == [first, second]
  assert run_files.read_json(tmp_path / "study" / tuning.TUNING) == written


def test_another_seed_is_another_study_altogether(tmp_path):
  def drawn(seed):
    config = override(STAGES, {"seed": seed})
    name = f"study{seed}"
    found, runs = recorded(tmp_path / name, TWO[:1], config=config)
    seeds = {run.seed for run in runs.values()}
    draws = {run.data.validation_draw for run in runs.values()}
    margins = {run.loss.margin for run in runs.values()} - {1.0}
    return seeds | {s for x in found for s in x["seeds"]}, draws, margins

  one, other = drawn(0), drawn(1000)
  assert all(not a & b for a, b in zip(one, other, strict=True))
  assert np.all([len(some) > 1 for some in one])
