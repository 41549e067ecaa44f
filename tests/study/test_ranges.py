"""The searched fields, and their ranges."""

import pytest

from metric_learning import LOSSES, InputError
from metric_learning.losses.search import Grid, Range
from metric_learning.study import (
  make_specs,
  ranges,
  tuning,
)
from metric_learning.study.ranges import RATE, grid_points, ranges_of
from metric_learning.training.config import override
from tests.tiny import tiny_config


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
    tune__ranges__margin=(0.0, 1.5, False),
    tune__ranges__cosface__margin=(0.1, 0.5, False),
    tune__ranges__learning_rate=(1e-3, 1e-2, True),
  )
  found = ranges_of(config)
  assert found == {
    "loss.margin": Range(0.1, 0.5),
    RATE: Range(1e-3, 1e-2, log=True),
  }
  config = tiny_config(
    loss__name="triplet", tune__ranges={"margin": (0, 1.5, False)}
  )
  assert ranges_of(config)["loss.margin"] == Range(0.0, 1.5)
  config = tiny_config(loss__name="fastap", tune__ranges={"num_bins": (3, 7)})
  assert ranges_of(config)["loss.num_bins"] == Grid((3, 7))
  config = override(config, {"tune.ranges.num_bins": (25, 5, 2.5, 5)})
  assert ranges_of(config)["loss.num_bins"] == Grid((2.5, 5, 25))


def test_the_factor_of_a_group_is_searched_where_it_has_a_range():
  config = tiny_config(
    loss__name="triplet",
    tune__ranges__optimizer__head__factor=(0.1, 10.0, True),
  )
  found = ranges_of(config)
  assert [*found] == ["loss.margin", RATE, "optimizer.head.factor"]
  assert found["optimizer.head.factor"] == Range(0.1, 10.0, log=True)
  ranges.check_used(config, [config])
  for field in ("optimizer.head.rate", "optimizer.body.factor"):
    other = tiny_config(tune__ranges={field: (0.1, 1.0, True)})
    with pytest.raises(InputError, match=r"factor .* Known: .*head\.factor"):
      ranges_of(other)


def test_the_rate_of_class_weights_is_searched_for_all_losses_or_for_none():
  field = "optimizer.loss.factor"
  # The first learns nothing; a search as wide as those of others is its part.
  for loss in ("contrastive", "arcface"):
    assert field not in ranges_of(tiny_config(loss__name=loss))
    given = {f"tune.ranges.{field}": (0.01, 1.0, True)}
    config = override(tiny_config(loss__name=loss), given)
    assert ranges_of(config)[field] == Range(0.01, 1.0, log=True)
  one = {f"tune.ranges.arcface.{field}": (0.01, 1.0, True)}
  with pytest.raises(InputError):
    ranges_of(override(tiny_config(loss__name="arcface"), one))


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
  unit, rate = (0.0, 1.0, False), (1e-3, 1e-2, False)
  given = {"margin": unit, "learning_rate": rate}

  def used(given, *losses, searched=2):
    config = tiny_config(tune__ranges=given, tune__searched=searched)
    cells = [override(config, {"loss.name": loss}) for loss in losses]
    ranges.check_used(config, cells)

  used(given, "supcon", "triplet")
  with pytest.raises(InputError, match=r"ranges.margin is not searched by any"):
    used(given, "supcon")
  with pytest.raises(InputError, match=r"any cell.*tune.searched=1"):
    used({"second_margin": unit}, "quadruplet", searched=1)
  both = {"margin": unit, "triplet.margin": (0.0, 2.0, False)}
  used(both, "triplet", "triplet_swap")
  with pytest.raises(InputError, match=r"ranges.margin is not searched by any"):
    used(both, "triplet")


def test_the_margin_of_other_classes_is_searched_before_that_of_the_same():
  searched = [list(loss.search) for loss in LOSSES.values()]
  two = [fields for fields in searched if "negative_margin" in fields]
  assert len(two) > 3
  for fields in two:
    assert fields[0] == "negative_margin"
    if "positive_margin" in fields:
      assert fields[1] == "positive_margin"
