"""A user's module adds one thing of each kind, as in docs/extending.md."""

import re
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import metric_learning as ml
from metric_learning import InputError, figures
from metric_learning.data import DATASETS
from metric_learning.distances import METRICS
from metric_learning.evaluation import SCORES
from metric_learning.losses import LOSSES
from metric_learning.miners import MINERS
from metric_learning.models import MODELS
from metric_learning.study import (
  make_specs,
  read_study,
  run_study,
  score_chosen,
  write_tables,
)
from metric_learning.training import base_config, override
from metric_learning.training.config import as_dict, from_dict
from metric_learning.training.optimizers import OPTIMIZERS

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
REGISTRIES = (
  *(LOSSES, METRICS, MINERS, DATASETS, MODELS, OPTIMIZERS, SCORES),
  figures.FIGURES,
)
ALL = {
  "metric.name": "mine:far",
  "normalize": "none",
  "miner.name": "mine:near",
  "model.name": "mine:Shallow",
  "optimizer.name": "mine:signs",
  "eval.columns": ("own/map_at_r", "geometry/spread"),
  "margin_unit": "initial_mean",
  "batch.classes_per_batch": 4,
  "train.steps": 2,
  "train.eval_every": 2,
  "train.save_every": 2,
  "model.width": 5,
  "miner.radius": 2.0,
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """The complete module of the page; afterward, registries forget it."""
  before = [dict(registry) for registry in REGISTRIES]
  blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
  assert len(blocks) == 9
  (tmp_path / "mine.py").write_text("\n".join(blocks))
  monkeypatch.syspath_prepend(tmp_path)
  yield __import__("mine")
  del sys.modules["mine"]
  for registry, entries in zip(REGISTRIES, before, strict=True):
    registry.clear()
    registry.update(entries)


@pytest.mark.slow
def test_one_of_each_is_added_by_one_file(mine, tmp_path):
  # Its metric is for no other loss, and its loss takes no other metric.
  mine.squared = mine.squared.__class__(
    **{**vars(mine.squared), "metrics": ("l2", "mine:far")}
  )
  config = override(mine.get_config(), ALL)
  sweep = mine.SWEEPS["margins"]
  folder = tmp_path / "study"
  run_study(config, make_specs(config, list(sweep())[:3:2]), folder)
  study = score_chosen(read_study(folder))
  table = write_tables(study)[0].read_text()
  assert "mine:squared" in table and "spread" in table
  drawn = {path.stem for path in figures.draw_study(study)}
  assert "norms" in drawn
  result = study.cells[0].chosen.runs[0].result
  unit = result["initial_mean_distance"]
  assert result["metric"] == "mine:far"
  assert result["numbers"]["miner.radius"] == pytest.approx(2 * unit)
  assert result["numbers"]["loss.margin"] in (
    pytest.approx(0.5 * unit),
    pytest.approx(unit),
  )
  # In another process the config alone says where they are.
  fields = as_dict(study.cells[0].chosen.runs[0].spec.config)
  registries = [
    registry for registry in REGISTRIES[:6] if registry is not DATASETS
  ]
  for registry in registries:
    for name in [name for name in registry if name.startswith("mine:")]:
      del registry[name]
  assert "mine:squared" not in LOSSES
  from_dict(fields)
  for registry in registries:
    assert any(name.startswith("mine:") for name in registry)


def test_the_metric_of_the_page_is_its_equation(mine):
  x, y = np.array([[1.0, -2.0]]), np.array([[3.0, 2.0], [1.0, -2.0]])
  found = mine.far.matrix(x, y, True)
  np.testing.assert_allclose(found, [[2 / 4 + 4 / 4, 0]], rtol=1e-6)


def test_an_objective_is_made_of_ones_own_parts(mine):
  objective = ml.make_objective(
    "mine:squared",
    metric="l1",
    normalize="none",
    miner=("mine:near", {"radius": 1.0}),
  )
  x = jnp.array([[0.0], [0.25], [0.5], [3.0]])
  value, _ = objective({}, x, jnp.array([0, 0, 1, 1]))
  # The mean over positives plus that over the negatives nearer than 1, which
  # are at .5 and .25.
  positives, negatives = (0.25**2 + 2.5**2) / 2, (0.5**2 + 0.75**2) / 2
  assert float(value) == pytest.approx(positives + negatives, rel=1e-5)
  # In a notebook, a cell is changed and run again.
  mine.squared = mine.squared.__class__(**vars(mine.squared))
  with pytest.raises(InputError, match="mine:squared was defined anew"):
    ml.make_objective("mine:squared")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nowhere:loss", "'nowhere' cannot be imported: .*PYTHONPATH"),
    ("mine:squard", "unknown loss of mine 'squard'; did you mean 'squared'"),
    ("mine:near_negatives", "is <function .*, but a loss must be a Loss, as"),
  ],
)
def test_what_is_not_there_is_named(mine, name, message):
  with pytest.raises(InputError, match=message):
    override(base_config(), {"loss.name": name})
