"""What is searched in a cell: the ranges that its loss declares, or others."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from metric_learning.errors import InputError, check_choice
from metric_learning.losses import LOSSES
from metric_learning.losses.search import Grid, Range
from metric_learning.training.checks import validate
from metric_learning.training.config import (
  is_of,
  leaves,
  override,
  reference_of,
)
from metric_learning.training.optimizers import GROUPS

RATE = "optimizer.learning_rate"
# Of the network and of what the loss learns.
LEARNING_RATE = Range(1e-4, 3e-2, log=True)
# Of the learning rate of a group of parameters: searched where it has a range.
FACTORS = tuple(f"optimizer.{group}.factor" for group in GROUPS)
FACTOR = Range(1e-2, 1.0, log=True)
# A chosen value so near to a bound, as a share of the range, is on it.
_EDGE = 0.02

Ranges = dict[str, Range | Grid]


def ranges_of(config: ConfigDict) -> Ranges:
  """The searched fields of a config: `tune.searched` of the loss, and the rate.

  And the factors of groups on the rate, where `tune.ranges` has them.

  >>> from metric_learning.training import base_config, with_loss
  >>> config = with_loss(base_config(), "triplet")
  >>> config.tune.ranges.learning_rate = (1e-3, 1e-2, False)
  >>> for field, found in ranges_of(config).items():
  ...   print(field, found)
  loss.margin Range(low=0.0, high=2.0, log=False)
  optimizer.learning_rate Range(low=0.001, high=0.01, log=False)

  Raises:
    InputError: for a value in `config.tune.ranges` that is no range, names what
      no loss searches, or is a range where a value is one of a few.
  """
  given = _given(config)
  found = {}
  for field, (names, default) in searched(config).items():
    name = next((name for name in names if name in given), "")
    found[field] = given.get(name, default)
    if name:
      _check_kind(name, found[field], default)
  return found


def _given(config: ConfigDict) -> Ranges:
  """The ranges of a config by what names them: "margin", "triplet.margin"."""
  given = leaves(config.tune.ranges)
  return {name: _range(name, value) for name, value in given}


def _check_kind(name: str, found: Range | Grid, default: Range | Grid) -> None:
  """Checks that a value of few is given few, and two numbers are a range."""
  if isinstance(default, Grid) and not isinstance(found, Grid):
    raise InputError(
      f"config.tune.ranges.{name} takes a grid, such as {default.values}: what"
      " it selects is compiled once for each value."
    )
  if isinstance(default, Range) and isinstance(found, Grid):
    low, high = ends(found)
    if len(found.values) == 2:
      raise InputError(
        f"config.tune.ranges.{name}={found.values} could be a range: write"
        f" ({low}, {high}, False) for all between, with True even in the"
        " logarithm; a grid has three values or more."
      )


def searched(
  config: ConfigDict,
) -> dict[str, tuple[tuple[str, ...], Range | Grid]]:
  """Of each searched field: what may name it, best first; its default range."""
  loss, given = config.loss.name, dict(leaves(config.tune.ranges))
  declared = list(LOSSES[loss].search.items())[: config.tune.searched]
  found = {
    **{f"loss.{k}": ((f"{loss}.{k}", k), default) for k, default in declared},
    RATE: (("learning_rate",), LEARNING_RATE),
    **{field: ((field,), FACTOR) for field in FACTORS if field in given},
  }
  # A number that the reference names makes a cell.
  named = reference_of(config)
  return {field: how for field, how in found.items() if field not in named}


def check_used(config: ConfigDict, cells: Iterable[ConfigDict]) -> None:
  """Checks that each of `config.tune.ranges` is of a value of some cell.

  Raises:
    InputError: that names a range which no cell searches.
  """
  names = _given(config)
  used = set()
  for cell in cells:
    for known, _ in searched(cell).values():
      used.update([name for name in known if name in names][:1])
  for name in names:
    if name not in used:
      raise InputError(
        f"config.tune.ranges.{name} is of a value that no cell searches: leave"
        " it out, or change the sweep or config.tune.searched="
        f"{config.tune.searched}."
      )


def check_ranges(config: ConfigDict) -> None:
  """Checks a config at the bounds of its ranges, and each value of a list.

  Raises:
    InputError: for a range, a value or a number of trials that cannot be used.
  """
  ranges = ranges_of(config)
  if not ranges:
    raise InputError(
      "nothing is left to search: config.tune.searched="
      f"{config.tune.searched}, and config.study.reference="
      f"{reference_of(config)} names the rest. Use experiments.sweep."
    )
  values = [
    found.values if isinstance(found, Grid) else ends(found)
    for found in ranges.values()
  ]
  for place in range(max(map(len, values))):
    point = [some[min(place, len(some) - 1)] for some in values]
    validate(override(config, dict(zip(ranges, point, strict=True))))
  if config.tune.sampler == "grid":
    grid_points(ranges, config.tune.trials)


def _range(name: str, value: Any) -> Range | Grid:
  """The range (low, high, log), or the grid (5, 10, 20), of a value."""
  _check_name(name)
  said = f"config.tune.ranges.{name}={value!r}"
  value = tuple(value) if isinstance(value, tuple | list) else (value,)
  is_range = len(value) == 3 and isinstance(value[-1], bool)
  numbers = value[:-1] if is_range else value
  if not numbers or not all(is_of(float, number) for number in numbers):
    raise InputError(
      f"{said}: give (low, high, log), such as (0.0, 2.0, False), or numbers of"
      " a grid, such as (5, 10, 20)."
    )
  if not is_range:
    return Grid(tuple(sorted(set(numbers))))
  found = Range(float(value[0]), float(value[1]), value[2])
  if found.low > found.high:
    raise InputError(f"{said} is empty, {found.low:g} is above {found.high:g}.")
  if found.log and found.low <= 0:
    raise InputError(
      f"{said} has no logarithm at {found.low:g}: start above 0, or say False."
    )
  return found


def _check_name(name: str) -> None:
  if name.startswith("optimizer."):
    check_choice("factor in config.tune.ranges:", name, FACTORS)
    return
  loss, dot, value = name.rpartition(".")
  if dot:
    check_choice("loss in config.tune.ranges:", loss, LOSSES)
    check_choice(f"searched value of {loss}:", value, LOSSES[loss].search)
    return
  known = {value for entry in LOSSES.values() for value in entry.search}
  check_choice(
    "searched value in config.tune.ranges:",
    name,
    {*known, "learning_rate", *FACTORS},
  )


def ends(found: Range | Grid) -> tuple[int | float, int | float]:
  """The first and the last value."""
  if isinstance(found, Grid):
    return found.values[0], found.values[-1]
  return found.low, found.high


def on_edge(found: Range | Grid, value: int | float) -> bool:
  """Whether a value is on a bound, or within a fiftieth of the range of it.

  >>> on_edge(Range(0.0, 2.0), 0.01), on_edge(Range(1e-2, 1.0, log=True), 0.1)
  (True, False)
  """
  low, high = ends(found)
  if low == high:
    return False
  if isinstance(found, Grid):
    return value in (low, high)
  scale = math.log if found.log else float
  place = (scale(value) - scale(low)) / (scale(high) - scale(low))
  return not _EDGE < place < 1 - _EDGE


def rounded(found: Range | Grid, value: Any) -> Any:
  """A value to four digits, which are enough, and short in a folder's name.

  >>> rounded(Range(0.0, 2.0), 0.123456), rounded(Range(0.0, 0.12345), 0.12345)
  (0.1235, 0.12345)
  """
  if isinstance(found, Grid):
    return value
  return min(max(float(f"{value:.4g}"), found.low), found.high)


def grid_points(ranges: Ranges, trials: int) -> list[dict[str, Any]]:
  """As many points as trials, on a grid of near-equal sides, bounds included.

  >>> points = grid_points({"a": Range(0, 2), "b": Range(1, 100, True)}, 6)
  >>> [list(point.values()) for point in points[:4]]
  [[0.0, 1.0], [0.0, 100.0], [1.0, 1.0], [1.0, 100.0]]

  Raises:
    InputError: for a number of trials that would leave a value at its middle,
      or try a point twice; with numbers that would not.
  """
  sizes = [_size(found) for found in ranges.values()]
  sides = _sides(trials, sizes)
  if not sides:
    fit = lambda numbers: [n for n in numbers if _sides(n, sizes)][:1]
    near = [
      *fit(range(trials - 1, 0, -1)),
      *fit(range(trials + 1, 2 * trials + 4)),
    ]
    raise InputError(
      f"config.tune.trials={trials} makes no grid of"
      f" {', '.join(ranges)}: with config.tune.sampler=grid, set"
      f" config.tune.trials={' or '.join(map(str, near))}."
    )
  axes = [
    _axis(found, side)
    for found, side in zip(ranges.values(), sides, strict=True)
  ]
  return [
    dict(zip(ranges, point, strict=True)) for point in itertools.product(*axes)
  ]


def _size(found: Range | Grid) -> int | float:
  """How many values there are."""
  if isinstance(found, Grid):
    return len(found.values)
  return math.inf if found.low < found.high else 1


def _sides(trials: int, sizes: Sequence[int | float]) -> tuple[int, ...]:
  """Whole numbers of this product that are most equal; () if there are none.

  None is above its size, and none is 1 where there are trials to vary it.

  >>> _sides(12, [math.inf] * 2), _sides(12, [2, math.inf])
  ((4, 3), (2, 6))
  >>> _sides(3, [math.inf] * 2), _sides(7, [math.inf] * 2), _sides(4, [3, 1])
  ((3, 1), (), ())
  """
  least = [min(2, size) for size in sizes]
  if trials < math.prod(least):
    least = [1] * len(sizes)
  fit = [
    sides
    for sides in _products(trials, len(sizes))
    if all(a <= b <= c for a, b, c in zip(least, sides, sizes, strict=True))
  ]
  # The first of equal ones has the largest first.
  return min(reversed(fit), key=max, default=())


def _products(product: int, count: int) -> Iterator[tuple[int, ...]]:
  """All ordered ways to write `product` as a product of `count` integers.

  >>> list(_products(4, 2))
  [(1, 4), (2, 2), (4, 1)]
  """
  if count == 1:
    yield (product,)
    return
  for first in range(1, product + 1):
    if product % first == 0:
      for rest in _products(product // first, count - 1):
        yield (first, *rest)


def _axis(found: Range | Grid, side: int) -> list[int | float]:
  """So many values; the middle where it is one."""
  if isinstance(found, Grid):
    last = len(found.values) - 1
    places = np.linspace(0, last, side) if side > 1 else [last / 2]
    return [found.values[round(place)] for place in places]
  space = np.geomspace if found.log else np.linspace
  if side == 1:
    return space(found.low, found.high, 3)[1:2].tolist()
  return space(found.low, found.high, side).tolist()


def as_list(found: Range | Grid) -> list[Any]:
  """[low, high, log] for a record; a grid is as its ends."""
  return [*ends(found), isinstance(found, Range) and found.log]


def start_of(ranges: Ranges, numbers: Mapping[str, Any]) -> dict[str, Any]:
  """Those of the numbers that are in their ranges: where a search starts."""
  start = {}
  for field, found in ranges.items():
    value = numbers.get(field)
    inside = (
      value in found.values
      if isinstance(found, Grid)
      else value is not None and found.low <= value <= found.high
    )
    if inside:
      start[field] = value
  return start
