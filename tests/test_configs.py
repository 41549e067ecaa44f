"""Every config and every row of every sweep is valid, before any run."""

import importlib.util
import json
import types
from pathlib import Path

import pytest

from experiments import cli
from metric_learning import LOSSES, data
from metric_learning.study import make_specs, standard_sweeps, sweep
from metric_learning.study.compared_with import (
  cells_of,
  check_comparisons,
  pairs_with_reference,
)
from metric_learning.study.ranges import ends
from metric_learning.study.statistics import can_be_tested
from metric_learning.study.sweeps import setting_errors, spec_name
from metric_learning.training import base_config, override, validate
from metric_learning.training.config import reference_of

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
  shared = {
    name: one.overrides
    for name, one in standard_sweeps.sweeps(((8, 4),)).items()
  }
  for name, made in module.SWEEPS.items():
    overrides = list(made())
    own = getattr(made, "overrides", made)
    if own == shared.get(name) and path.stem != "glyphs":
      overrides = overrides[:1]  # They are the same everywhere.
    assert len({spec_name(row) for row in overrides}) == len(overrides)
    # Neither a seed nor a rate makes a row invalid: each is checked with one.
    same = {"seed": 0, "optimizer.learning_rate": 0}
    first = {
      json.dumps({**row, **same}, sort_keys=True): row
      for row in reversed(overrides)
    }
    config = cli.with_reference(module.get_config(), made)
    rows = make_specs(config, reversed(first.values()))
    assert all(row.config.is_locked for row in rows)
    check_comparisons(config, cells_of(rows))
    assert not setting_errors(rows)
    assert can_be_tested(len(standard_sweeps.SEEDS))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_config_offers_sweeps(path):
  module = load(path)
  assert module.SWEEPS
  if path.stem in ("glyphs", "omniglot", "fashion_mnist"):
    assert module.SWEEPS.keys() >= standard_sweeps.sweeps(((8, 4),)).keys()
  if hasattr(module, "BATCHES"):
    config = module.get_config()
    # The same on both sides of every comparison.
    assert (config.normalize, config.margin_unit) == ("l2", "initial_mean")


@pytest.mark.slow
def test_positive_margins_are_compared_with_none():
  made = standard_sweeps.sweeps(((8, 4),))["positive_margins"]
  config = override(base_config(), {"study.reference": made.reference})
  rows = make_specs(config, made())
  pairs = pairs_with_reference(cells_of(rows), reference_of(config))
  field = "loss.positive_margin"
  assert [own[field] for own, _ in pairs] == 2 * [0.125, 0.25, 0.5]
  for own, reference in pairs:
    assert reference == {**own, field: 0.0}
    assert "loss.negative_margin" not in own  # Chosen on validation.


def test_losses_are_compared_at_an_equal_budget():
  rows = list(standard_sweeps.losses())
  assert len({row["loss.name"] for row in rows}) >= 8
  for row in rows:
    assert row.keys() == {
      "loss.name",
      "metric.name",
    }  # No number is set by hand.
  for loss in standard_sweeps.EQUAL_BUDGET:
    found = {row["metric.name"] for row in rows if row["loss.name"] == loss}
    assert found == {"l1", "l2", "cosine"} & set(LOSSES[loss].metrics)


def test_every_loss_with_a_margin_has_a_curve():
  named = ("margin", "negative_margin")
  with_margin = {
    loss
    for loss, entry in LOSSES.items()
    if set(named) & (entry.hyper.keys() - set(entry.static))
  }
  assert standard_sweeps.MARGINS.keys() == with_margin | {
    "margin"
  }  # Its own is alpha.
  for loss, (name, values) in standard_sweeps.MARGINS.items():
    found = [
      row[f"loss.{name}"]
      for row in standard_sweeps.margins()
      if row["loss.name"] == loss and row["seed"] == 0
    ]
    assert found == list(values)


def test_l1_and_l2_meet_at_the_same_numbers_and_rates():
  seen = {}
  for name in ("l1_vs_l2_all", "l1_vs_l2_raw"):
    made = standard_sweeps.sweeps(((8, 4),))[name]
    assert made.reference == {"metric.name": "l2"} and not made.choose
    for row in made():
      plain = dict(row)
      metric, seed = plain.pop("metric.name"), plain.pop("seed")
      key = plain["loss.name"], plain["margin_unit"]
      found = seen.setdefault(key, {}).setdefault(metric, set())
      found.add((seed, *sorted(plain.items())))
  for (loss, _), by_metric in seen.items():
    assert by_metric.keys() == {"l1", "l2"}
    assert by_metric["l1"] == by_metric["l2"]
    assert len(by_metric["l1"]) == 5 * 3 * 10, loss
  raw = {loss for loss, unit in seen if unit == "absolute"}
  assert raw == {"contrastive", "triplet", "margin", "supcon"} | {
    "infonce_per_pair",
    "norm_softmax",
    "proxy_nca",
  }


def test_every_loss_of_both_metrics_is_compared_or_says_why_not():
  for loss, entry in LOSSES.items():
    name = next(iter(entry.search), None)
    out = (
      not {"l1", "l2"} <= set(entry.metrics)
      or entry.two_views
      or entry.absolute
      or name
      not in entry.scaled  # Its number is no distance, or there is none.
    )
    found = standard_sweeps.multiples_of(loss)
    assert (found is None) == bool(out), loss
    if found:
      number, values = found
      low, high = ends(entry.search[number])
      assert number == name and len(values) == 5
      assert low <= min(values) < max(values) <= high


def test_a_boundary_is_not_learned_where_its_rate_has_no_unit():
  rows = [r for r in standard_sweeps.l1_vs_l2() if r["loss.name"] == "margin"]
  assert rows and all(row["loss.learn_beta"] is False for row in rows)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_is_picked_by_name(loss):
  config = load(ROOT / "configs" / "glyphs.py").get_config(loss)
  assert config.loss.name == loss


@pytest.mark.slow
def test_compare_is_balanced():
  module = load(ROOT / "configs" / "glyphs.py")
  cells = {}
  for row in make_specs(module.get_config(), module.compare()):
    over = row.overrides
    cells.setdefault((over["loss.name"], over["metric.name"]), []).append(over)
  losses = {loss for loss, _ in cells}
  assert losses >= {"contrastive", "triplet", "supcon", "infonce_per_pair"}
  for loss in losses:
    assert {metric for name, metric in cells if name == loss} >= {"l1", "l2"}
  budgets = {len(rows) for rows in cells.values()}
  assert len(budgets) == 1
  assert budgets.pop() >= 9


def test_the_batches_of_a_sweep_are_compared_with_their_first_shape():
  made = standard_sweeps.sweeps(((8, 4), (4, 8)))["batches"]
  assert made.reference == {
    "batch.classes_per_batch": 8,
    "batch.images_per_class": 4,
  }
  shapes = {
    (row["batch.classes_per_batch"], row["batch.images_per_class"])
    for row in made()
  }
  assert shapes == {(8, 4), (4, 8)}


def test_a_sweep_is_added_by_its_generator_alone():
  @sweep(reference={"metric.name": "l2"})
  def metrics():
    for metric in ("l1", "l2"):
      yield {"metric.name": metric}

  module = types.SimpleNamespace(SWEEPS={"metrics": metrics})
  config = cli.with_reference(base_config().lock(), module.SWEEPS["metrics"])
  cells = cells_of(make_specs(config, module.SWEEPS["metrics"]()))
  found = pairs_with_reference(cells, reference_of(config))
  assert found == [({"metric.name": "l1"}, {"metric.name": "l2"})]
  # What the command line names comes first; a plain generator names nothing.
  named = override(config, {"study.reference": {"metric.name": "l1"}})
  assert cli.with_reference(named, metrics) == named
  plain = cli.with_reference(base_config().lock(), lambda: iter(()))
  assert reference_of(plain) == {}
