"""The search ranges of a cell: those of the config, or else of its loss."""

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
# The learning rate of the network and of the parameters of the loss.
LEARNING_RATE = Range(1e-4, 3e-2, log=True)
# The factor on the learning rate of a group, searched only if it has a range.
FACTORS = tuple(f"optimizer.{group}.factor" for group in GROUPS)
FACTOR = Range(1e-2, 1.0, log=True)
# A chosen value this close to a bound, as a share of the range, counts as on
# it.
_EDGE = 0.02

Ranges = dict[str, Range | Grid]


def ranges_of(config: ConfigDict) -> Ranges:
  """The searched fields: `tune.searched` of the loss, and the learning rate.

  Factors of groups on the rate are searched if `tune.ranges` has them.

  >>> from metric_learning.training import base_config, with_loss
  >>> config = with_loss(base_config(), "triplet")
  >>> config.tune.ranges.learning_rate = (1e-3, 1e-2, False)
  >>> for field, domain in ranges_of(config).items():
  ...   print(field, domain)
  loss.margin Range(low=0.0, high=2.0, log=False)
  optimizer.learning_rate Range(low=0.001, high=0.01, log=False)

  Raises:
    InputError: for an entry of `config.tune.ranges` that is not a range, that
      names something no loss searches, or that is a range for a discrete value.
  """
  given = _given(config)
  domains = {}
  for field, (names, default) in searched(config).items():
    name = next((name for name in names if name in given), "")
    domains[field] = given.get(name, default)
    if name:
      _check_kind(name, domains[field], default)
  return domains


def _given(config: ConfigDict) -> Ranges:
  """The ranges of a config, by key: "margin", "triplet.margin"."""
  given = leaves(config.tune.ranges)
  return {name: _range(name, value) for name, value in given}


def _check_kind(name: str, domain: Range | Grid, default: Range | Grid) -> None:
  """Checks that discrete values have a grid, and that a pair is a range."""
  if isinstance(default, Grid) and not isinstance(domain, Grid):
    raise InputError(
      f"config.tune.ranges.{name} must be a grid, such as {default.values}: "
      "each value is compiled separately."
    )
  if isinstance(default, Range) and isinstance(domain, Grid):
    low, high = ends(domain)
    if len(domain.values) == 2:
      raise InputError(
        f"config.tune.ranges.{name}={domain.values} is ambiguous: write "
        f"({low}, {high}, False) for a uniform range, or with True for one "
        "uniform in the logarithm; a grid has three values or more."
      )


def searched(
  config: ConfigDict,
) -> dict[str, tuple[tuple[str, ...], Range | Grid]]:
  """For each searched field: the keys of its range, best first; its default."""
  loss, given = config.loss.name, dict(leaves(config.tune.ranges))
  declared = list(LOSSES[loss].search.items())[: config.tune.searched]
  domains = {
    **{f"loss.{k}": ((f"{loss}.{k}", k), default) for k, default in declared},
    RATE: (("learning_rate",), LEARNING_RATE),
    **{field: ((field,), FACTOR) for field in FACTORS if field in given},
  }
  # A number that the reference names makes a cell, and is not searched.
  named = reference_of(config)
  return {field: how for field, how in domains.items() if field not in named}


def check_used(config: ConfigDict, cells: Iterable[ConfigDict]) -> None:
  """Checks that some cell uses each range in `config.tune.ranges`.

  Raises:
    InputError: naming a range that no cell searches.
  """
  names = _given(config)
  used = set()
  for cell in cells:
    for known, _ in searched(cell).values():
      used.update([name for name in known if name in names][:1])
  for name in names:
    if name not in used:
      raise InputError(
        f"config.tune.ranges.{name} is not searched by any cell: leave it out, "
        f"or change the sweep or config.tune.searched={config.tune.searched}."
      )


def check_ranges(config: ConfigDict) -> None:
  """Checks a config at the bounds of its ranges, and at each value of a grid.

  Raises:
    InputError: for a range, a value or a number of trials that is not allowed.
  """
  ranges = ranges_of(config)
  if not ranges:
    raise InputError(
      "nothing is left to search: config.tune.searched="
      f"{config.tune.searched}, and config.study.reference="
      f"{reference_of(config)} names the rest. Use experiments.sweep."
    )
  values = [
    domain.values if isinstance(domain, Grid) else ends(domain)
    for domain in ranges.values()
  ]
  for place in range(max(map(len, values))):
    point = [
      candidates[min(place, len(candidates) - 1)] for candidates in values
    ]
    validate(override(config, dict(zip(ranges, point, strict=True))))
  if config.tune.sampler == "grid":
    grid_points(ranges, config.tune.trials)


def _range(name: str, value: Any) -> Range | Grid:
  """Parses a range (low, high, log) or a grid (5, 10, 20)."""
  _check_name(name)
  field = f"config.tune.ranges.{name}={value!r}"
  value = tuple(value) if isinstance(value, tuple | list) else (value,)
  is_range = len(value) == 3 and isinstance(value[-1], bool)
  numbers = value[:-1] if is_range else value
  if not numbers or not all(is_of(float, number) for number in numbers):
    raise InputError(
      f"{field}: give (low, high, log), such as (0.0, 2.0, False), or a grid,"
      " such as (5, 10, 20)."
    )
  if not is_range:
    return Grid(tuple(sorted(set(numbers))))
  domain = Range(float(value[0]), float(value[1]), value[2])
  if domain.low > domain.high:
    raise InputError(
      f"{field} is empty: {domain.low:g} is above {domain.high:g}."
    )
  if domain.log and domain.low <= 0:
    raise InputError(
      f"{field} has no logarithm at {domain.low:g}: start above 0, or give"
      " False."
    )
  return domain


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


def ends(domain: Range | Grid) -> tuple[int | float, int | float]:
  """The first and the last value."""
  if isinstance(domain, Grid):
    return domain.values[0], domain.values[-1]
  return domain.low, domain.high


def on_edge(domain: Range | Grid, value: int | float) -> bool:
  """Whether a value is within a fiftieth of the range from a bound.

  >>> on_edge(Range(0.0, 2.0), 0.01), on_edge(Range(1e-2, 1.0, log=True), 0.1)
  (True, False)
  """
  low, high = ends(domain)
  if low == high:
    return False
  if isinstance(domain, Grid):
    return value in (low, high)
  scale = math.log if domain.log else float
  place = (scale(value) - scale(low)) / (scale(high) - scale(low))
  return not _EDGE < place < 1 - _EDGE


def rounded(domain: Range | Grid, value: Any) -> Any:
  """A value rounded to four digits, which keeps the names of folders short.

  >>> rounded(Range(0.0, 2.0), 0.123456), rounded(Range(0.0, 0.12345), 0.12345)
  (0.1235, 0.12345)
  """
  if isinstance(domain, Grid):
    return value
  return min(max(float(f"{value:.4g}"), domain.low), domain.high)


def grid_points(ranges: Ranges, trials: int) -> list[dict[str, Any]]:
  """A grid with one point per trial, near-equal sides, and the bounds included.

  >>> points = grid_points({"a": Range(0, 2), "b": Range(1, 100, True)}, 6)
  >>> [list(point.values()) for point in points[:4]]
  [[0.0, 1.0], [0.0, 100.0], [1.0, 1.0], [1.0, 100.0]]

  Raises:
    InputError: for a number of trials that would leave a value constant, or try
      a point twice. The message suggests numbers of trials that work.
  """
  sizes = [_size(domain) for domain in ranges.values()]
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
    _axis(domain, side)
    for domain, side in zip(ranges.values(), sides, strict=True)
  ]
  return [
    dict(zip(ranges, point, strict=True)) for point in itertools.product(*axes)
  ]


def _size(domain: Range | Grid) -> int | float:
  """The number of values; infinite for a range."""
  if isinstance(domain, Grid):
    return len(domain.values)
  return math.inf if domain.low < domain.high else 1


def _sides(trials: int, sizes: Sequence[int | float]) -> tuple[int, ...]:
  """The most equal whole numbers with this product; () if none fit.

  Each number is at most its size; with enough trials, each is at least 2.

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
  # Of equally good tuples, the first one starts with its largest number.
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


def _axis(domain: Range | Grid, side: int) -> list[int | float]:
  """This many values along the range; a single value is the middle."""
  if isinstance(domain, Grid):
    last = len(domain.values) - 1
    places = np.linspace(0, last, side) if side > 1 else [last / 2]
    return [domain.values[round(place)] for place in places]
  space = np.geomspace if domain.log else np.linspace
  if side == 1:
    return space(domain.low, domain.high, 3)[1:2].tolist()
  return space(domain.low, domain.high, side).tolist()


def as_list(domain: Range | Grid) -> list[Any]:
  """[low, high, log] for a record; a grid becomes its ends."""
  return [*ends(domain), isinstance(domain, Range) and domain.log]


def start_of(ranges: Ranges, numbers: Mapping[str, Any]) -> dict[str, Any]:
  """The numbers that are inside their ranges, where a search starts."""
  start = {}
  for field, domain in ranges.items():
    value = numbers.get(field)
    inside = (
      value in domain.values
      if isinstance(domain, Grid)
      else value is not None and domain.low <= value <= domain.high
    )
    if inside:
      start[field] = value
  return start
