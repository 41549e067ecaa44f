"""The refusals of tuning, before it starts."""

import math
from pathlib import Path

import pytest

from metric_learning import InputError
from metric_learning.data import base
from metric_learning.evaluation import score_questions
from metric_learning.study import (
  make_specs,
  tuning,
)
from metric_learning.study.ranges import RATE
from metric_learning.training import run_files
from metric_learning.training.config import override
from tests.study.searches import CONFIG, search
from tests.tiny import tiny_config

BINS = {"loss__name": "fastap"}
MARGIN, NUMBER = "tune__ranges__margin", "tune__ranges__num_bins"
UNIT = (0.0, 1.0, False)


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
  monkeypatch.setattr(run_files, "commit", lambda: "abc")
  monkeypatch.setattr(run_files, "code", lambda: "def")
  with pytest.raises(InputError, match=r"code \(.*'def' now\).* this is abc"):
    search(folder)
  assert Path(f"{folder}.journal").read_bytes() == before
  monkeypatch.undo()
  monkeypatch.setattr(run_files, "commit", lambda: "abc")
  search(folder)  # Another commit of the same code: of a README, say.
  # The same name in one storage, from another folder.
  (tmp_path / "other").mkdir()
  theirs = f"{folder}.journal"
  with pytest.raises(InputError, match=r"storage holds another .*train.steps"):
    search(tmp_path / "other" / "study", storage=theirs, config=other)
  with pytest.raises(
    InputError, match=rf"of another folder, .*:{folder}: all "
  ):
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
      " and 3 more: loss.beta is a number, which does not make a cell:",
      " and 3 more: loss.alpha is chosen by tuning; leave it out.",
      " and 1 more: seed is the same for all cells; leave it out",
    ),
    rest,
    strict=True,
  ):
    assert said in line
  assert "with --config.study.reference.loss.beta=1.0." in rest[0]
  # As it says, its values can be compared.
  config = tiny_config(loss__name="margin", study__reference={"loss.beta": 1.0})
  tuning.check(
    config, make_specs(config, [{"loss.beta": b} for b in (1.0, 2.0)])
  )
  config = tiny_config(tune__searched=0, study__reference={RATE: 0.1})
  rows = make_specs(config, [{RATE: 0.1}, {RATE: 0.2}])
  with pytest.raises(InputError, match="nothing is left to search"):
    tuning.check(config, rows)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"tune__sampler": "tpo"}, "did you mean 'tpe'"),
    ({"study__delta": 0.0}, "config.study.delta must be positive"),
    (
      {"study__reference": {"metric.name": "l3"}},
      "metric.name in config.study.reference",
    ),
    ({"study__columns": ("own/map",)}, "did you mean 'own/map_at_r'"),
    ({"tune__trials": 0}, "config.tune.trials must be at least 1"),
    ({"tune__searches": 0}, "config.tune.searches must be at least 1"),
    ({"tune__finalists": 1}, "at least 2, to choose from again, or 0"),
    ({"tune__repeats": 0, "tune__finalists": 2}, "must be at least 1; for a"),
    ({"tune__final_seeds": 100}, "a search has 100 seeds, but needs 103"),
    ({"tune__final_on": "test"}, "unknown config.tune.final_on 'test'"),
    ({"tune__prune": True, "tune__folds": 1}, "between folds"),
    ({"tune__ranges": ("margin=0:2",)}, r"margin=\(0.0, 2.0, False\)"),
    ({MARGIN: (2.0, 1.0, False)}, "is empty: 2 is above 1"),
    ({MARGIN: (0.0, 1.0, True)}, "no logarithm at 0"),
    ({MARGIN: ("a", 1.0, False)}, r"give \(low, high, log\)"),
    ({MARGIN: "0:2"}, "must be a tuple"),
    ({MARGIN: 2.0}, "must be a tuple"),
    ({MARGIN: ()}, r"give \(low, high, log\)"),
    ({MARGIN: (0.0, math.inf, False)}, "must be finite"),
    ({"tune__ranges__margn": UNIT}, "'margn'; did you mean 'margin'"),
    ({"tune__ranges__triplet__scale": UNIT}, "searched value of triplet"),
    ({MARGIN: (-1.0, 1.0, False)}, "margin must be at least 0"),
    ({"tune__ranges__learning_rate": UNIT}, "must be positive"),
    ({MARGIN: (0.5, "a", 1.0)}, r"give \(low, high, log\)"),
    ({MARGIN: ((1.0, 2.0),)}, r"give \(low, high, log\)"),
    ({MARGIN: (0.5, True)}, r"give \(low, high, log\)"),
    ({MARGIN: (0.5, 1.0, math.nan)}, "must be finite"),
    ({MARGIN: (0.5, 1.0)}, r"is ambiguous: write \(0.5, 1.0, False\)"),
    ({**BINS, NUMBER: (5, -3, 10)}, "num_bins.*-3"),
    ({**BINS, NUMBER: (5, 7.5, 10)}, "num_bins=7.5"),
    (
      {**BINS, NUMBER: (2, 50, False)},
      r"num_bins must be a grid.*\(2, 5, 10, ",
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
  monkeypatch.setattr(score_questions, "MAX_PAIRS", 10)
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
