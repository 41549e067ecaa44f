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
from metric_learning.training.config import override

RATE = "optimizer.learning_rate"
# Of the network and of what the loss learns.
LEARNING_RATE = Range(1e-4, 3e-2, log=True)
# A chosen value so near to a bound, as a share of the range, is on it.
_EDGE = 0.02

Ranges = dict[str, Range | Grid]


def ranges_of(config: ConfigDict) -> Ranges:
  """The searched fields of a config: `tune.searched` of the loss, and the rate.

  >>> from metric_learning.training import base_config, with_loss
  >>> config = with_loss(base_config(), "triplet")
  >>> config.tune.ranges = ("learning_rate=1e-3:1e-2",)
  >>> for field, found in ranges_of(config).items():
  ...   print(field, found)
  loss.margin Range(low=0.0, high=2.0, log=False)
  optimizer.learning_rate Range(low=0.001, high=0.01, log=False)

  Raises:
    InputError: for a text in `config.tune.ranges` that is no range, names what
      no loss searches, or is a range where a value is one of a few.
  """
  given = dict(map(_parse, config.tune.ranges))
  found = {}
  for field, (names, default) in searched(config).items():
    name = next((name for name in names if name in given), "")
    found[field] = given.get(name, default)
    if isinstance(default, Grid) and not isinstance(found[field], Grid):
      listed = ",".join(map(str, default.values))
      raise InputError(
        f"config.tune.ranges: {name} of {config.loss.name} takes a list, such"
        f" as {config.loss.name}.{names[-1]}={listed}."
      )
  return found


def searched(
  config: ConfigDict,
) -> dict[str, tuple[tuple[str, ...], Range | Grid]]:
  """Of each searched field: what may name it, best first; its default range."""
  loss = config.loss.name
  declared = list(LOSSES[loss].search.items())[: config.tune.searched]
  found = {
    **{f"loss.{k}": ((f"{loss}.{k}", k), default) for k, default in declared},
    RATE: (("learning_rate",), LEARNING_RATE),
  }
  # A number that the reference names makes a cell.
  named = {part.partition("=")[0] for part in config.study.reference.split(",")}
  return {field: how for field, how in found.items() if field not in named}


def check_used(config: ConfigDict, cells: Iterable[ConfigDict]) -> None:
  """Checks that each of `config.tune.ranges` is of a value of some cell.

  Raises:
    InputError: that names those which are of none, or given twice.
  """
  names = [_parse(text)[0] for text in config.tune.ranges]
  used = set()
  for cell in cells:
    for known, _ in searched(cell).values():
      used.update([name for name in known if name in names][:1])
  for text, name in zip(config.tune.ranges, names, strict=True):
    if names.count(name) > 1:
      raise InputError(f"config.tune.ranges: {name} is given twice.")
    if name not in used:
      raise InputError(
        f"config.tune.ranges: {text!r} is of a value that no cell searches:"
        " leave it out, or change the sweep or config.tune.searched="
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
      f"{config.study.reference!r} names the rest. Use experiments.sweep."
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


def _parse(text: str) -> tuple[str, Range | Grid]:
  """Name and range of "margin=0:2", "margin=0.1:2:log" or "num_bins=5,10"."""
  name, _, rest = text.partition("=")
  _check_name(name)
  low, colon, high = rest.removesuffix(":log").partition(":")
  parts = [low, high] if colon else rest.split(",")
  try:
    values = [_number(part) for part in parts]
  except ValueError:
    raise InputError(
      f"config.tune.ranges: {text!r} is not of the form name=low:high,"
      " name=low:high:log or name=value,value,…, of numbers."
    ) from None
  if not all(map(math.isfinite, values)):
    raise InputError(f"config.tune.ranges: {text!r} is not finite.")
  if not colon:
    return name, Grid(tuple(sorted(set(values))))
  found = Range(float(low), float(high), rest.endswith(":log"))
  if found.low > found.high:
    raise InputError(
      f"config.tune.ranges: {text!r} is empty, {found.low:g} is above"
      f" {found.high:g}."
    )
  if found.log and found.low <= 0:
    raise InputError(
      f"config.tune.ranges: {text!r} has no logarithm at {found.low:g}: start"
      " above 0, or leave out :log."
    )
  return name, found


def _number(text: str) -> int | float:
  try:
    return int(text)
  except ValueError:
    return float(text)


def _check_name(name: str) -> None:
  loss, dot, value = name.rpartition(".")
  if dot:
    check_choice("loss in config.tune.ranges:", loss, LOSSES)
    check_choice(f"searched value of {loss}:", value, LOSSES[loss].search)
    return
  known = {value for entry in LOSSES.values() for value in entry.search}
  check_choice(
    "searched value in config.tune.ranges:", name, known | {"learning_rate"}
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
  """All ways to write a product of so many whole numbers, in their order.

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
