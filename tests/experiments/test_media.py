"""The page about signatures within and across media."""

import numpy as np
import pytest

from configs import signatures_heads
from experiments.benchmarks import media
from metric_learning.errors import InputError
from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  score_chosen,
)
from metric_learning.training import override

LABELS = np.repeat([0, 1], 40)
ON_PAPER = np.tile(np.arange(40) < 10, 2)


def test_the_rates_by_hand():
  # On paper a writer is at its number, elsewhere at the number of the other:
  # within a medium all pairs are in order, across media all are reversed.
  places = np.where(ON_PAPER, LABELS, 1 - LABELS)[:, None].astype(np.float32)
  rates = media.eers(places, LABELS, "l2")
  within = ("on paper", "on phones", "one name on phones")
  across = ("paper and phone", "one name on paper and phone")
  assert [rates[name] for name in within] == [0, 0, 0]
  assert [rates[name] for name in across] == [1, 1]
  assert 0.2 < rates["all"] < 0.5


def test_a_text_reader_knows_no_hand():
  # Each name at its own place, the writers .1 apart.
  number = np.tile(np.arange(10), 8)
  places = (number + 0.1 * LABELS)[:, None].astype(np.float32)
  rates = media.eers(places, LABELS, "l2")
  assert rates["one name on phones"] == 0
  assert rates["one name on paper and phone"] == 0
  # Two names of one writer are further apart than one name of two writers.
  assert rates["paper and phone"] > 0.4


def test_the_lines_of_a_study(tmp_path):
  random = np.random.default_rng(0)
  labels = np.repeat(np.arange(8), 40)
  np.savez(
    tmp_path / "signatures.npz",
    features=random.normal(size=(320, 6)).astype(np.float32),
    labels=labels,
    split=np.repeat(["train", "validation", "test"], [160, 80, 80]),
  )
  config = override(
    signatures_heads.get_config(),
    {
      "data.data_dir": str(tmp_path / "signatures.npz"),
      "batch.classes_per_batch": 4,
      "model.embedding_dim": 2,
      "train.steps": 2,
      "train.eval_every": 2,
      "train.save_every": 2,
    },
  )
  rows = [{"metric.name": "l1", "seed": seed} for seed in (0, 1)]
  run_study(config, make_specs(config, rows), tmp_path / "study")
  study = score_chosen(read_study(tmp_path / "study"))
  raw, cosine, cell = media.lines_of("heads", study)
  assert raw[:2] == ["heads: inputs", "l2"]
  assert (cosine[1], cosine[-1]) == ("cosine", "–")
  assert cell[1] == "l1"
  assert cell[-1] == "2"
  # All pairs of the test part, as the main table has them.
  eer = np.mean([run.tested.selected["own/eer"] for run in cell_runs(study)])
  assert cell[-2].startswith(f"{eer:.3f} ±")


def cell_runs(study):
  (cell,) = study.cells
  return cell.chosen.runs


@pytest.mark.parametrize("labels", [LABELS[:-1], np.arange(80) % 2])
def test_other_orders_are_refused(labels):
  with pytest.raises(InputError, match="each writer has 40 signatures"):
    media.eers(np.zeros((len(labels), 1), np.float32), labels, "l2")


def test_a_study_without_finished_runs_is_refused(real_study):
  study = read_study(real_study.reported)
  with pytest.raises(InputError, match="runs are on 0 test parts"):
    next(media.lines_of("none", study._replace(cells=[])))
