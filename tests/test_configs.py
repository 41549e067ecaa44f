"""Every config and every row of every sweep is valid, before anything runs."""

import importlib.util
from pathlib import Path

import pytest

from metric_learning import LOSSES, data
from metric_learning.study import make_rows
from metric_learning.training import validate

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.py"))


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_default_config_is_valid_and_locked(path):
  config = load(path).get_config()
  validate(config)
  assert config.is_locked
  assert data.set_of(config.data.name) in data.DATASETS
  assert config.data.protocol in ("open-set", "closed-set")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_row_of_every_sweep_is_valid(path):
  module = load(path)
  for sweep in module.SWEEPS.values():
    rows = make_rows(module.get_config(), sweep())
    assert rows
    assert all(row.config.is_locked for row in rows)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_is_picked_by_name(loss):
  config = load(ROOT / "configs" / "glyphs.py").get_config(loss)
  assert config.loss.name == loss


def test_compare_is_balanced():
  module = load(ROOT / "configs" / "glyphs.py")
  cells = {}
  for row in make_rows(module.get_config(), module.compare()):
    over = row.overrides
    cells.setdefault((over["loss.name"], over["metric"]), []).append(over)
  losses = {loss for loss, _ in cells}
  assert losses >= {"contrastive", "triplet", "supcon", "infonce_per_pair"}
  for loss in losses:
    assert {metric for name, metric in cells if name == loss} >= {"l1", "l2"}
  budgets = {len(rows) for rows in cells.values()}
  assert len(budgets) == 1
  assert budgets.pop() >= 9
