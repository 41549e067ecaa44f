"""What is searched in a cell: the ranges that its loss declares, or others."""

import ast
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from metric_learning.errors import InputError, check_choice
from metric_learning.losses import LOSSES
from metric_learning.losses.search import Grid, Range

RATE = "optimizer.learning_rate"
# Of the network and of what the loss learns.
LEARNING_RATE = Range(1e-4, 3e-2, log=True)
# A chosen value so near to a bound, as a share of the range, is on it.
_EDGE = 0.02

Ranges = dict[str, Range | Grid]


def ranges_of(config: ConfigDict) -> Ranges:
  """The searched fields of a config: at most two of the loss, and the rate.

  >>> from metric_learning.training import base_config, with_loss
  >>> config = with_loss(base_config(), "triplet")
  >>> config.tune.ranges = ("learning_rate=1e-3:1e-2",)
  >>> for field, found in ranges_of(config).items():
  ...   print(field, found)
  loss.margin Range(low=0.0, high=2.0, log=False)
  optimizer.learning_rate Range(low=0.001, high=0.01, log=False)

  Raises:
    InputError: for a text in `config.tune.ranges` that is no range, or names
      what no loss searches.
  """
  name = config.loss.name
  given = dict(map(_parse, config.tune.ranges))
  declared = list(LOSSES[name].search.items())[: config.tune.searched]
  found: Ranges = {}
  for value, default in declared:
    found[f"loss.{value}"] = given.get(
      f"{name}.{value}", given.get(value, default)
    )
  found[RATE] = given.get("learning_rate", LEARNING_RATE)
  return found


def _parse(text: str) -> tuple[str, Range | Grid]:
  """Name and range of "margin=0:2", "margin=0.1:2:log" or "num_bins=5,10"."""
  name, _, rest = text.partition("=")
  _check_name(name)
  low, colon, high = rest.removesuffix(":log").partition(":")
  try:
    if not colon:
      return name, Grid(tuple(ast.literal_eval(f"({rest},)")))
    found = Range(float(low), float(high), rest.endswith(":log"))
  except (ValueError, SyntaxError):
    raise InputError(
      f"config.tune.ranges: {text!r} is not of the form name=low:high,"
      " name=low:high:log or name=value,value,…"
    ) from None
  if not (math.isfinite(found.low) and math.isfinite(found.high)):
    raise InputError(f"config.tune.ranges: {text!r} is not finite.")
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

  >>> rounded(Range(0.0, 2.0), 0.123456), rounded(Range(0.12341, 2.0), 0.12341)
  (0.1235, 0.12341)
  """
  if isinstance(found, Grid):
    return value
  return min(max(float(f"{value:.4g}"), found.low), found.high)


def grid_points(ranges: Ranges, trials: int) -> list[dict[str, Any]]:
  """As many points as trials, on a grid of near-equal sides, bounds included.

  >>> points = grid_points({"a": Range(0, 2), "b": Range(1, 100, True)}, 6)
  >>> [list(point.values()) for point in points[:4]]
  [[0.0, 1.0], [0.0, 100.0], [1.0, 1.0], [1.0, 100.0]]
  """
  axes = [
    _axis(found, side)
    for found, side in zip(
      ranges.values(), _sides(trials, len(ranges)), strict=True
    )
  ]
  mesh = np.meshgrid(*axes, indexing="ij")
  return [
    dict(zip(ranges, (x.item() for x in point), strict=True))
    for point in zip(*map(np.ravel, mesh), strict=True)
  ]


def _sides(product: int, count: int) -> list[int]:
  """The whole numbers of this product that are most equal, largest first.

  >>> _sides(12, 2), _sides(12, 3), _sides(7, 2)
  ([4, 3], [3, 2, 2], [7, 1])
  """
  if count == 1:
    return [product]
  smallest = max(
    n for n in range(1, product + 1) if product % n == 0 and n**count <= product
  )
  return [*_sides(product // smallest, count - 1), smallest]


def _axis(found: Range | Grid, side: int) -> np.ndarray:
  """So many values; the middle where it is one."""
  if isinstance(found, Grid):
    places = np.linspace(0, len(found.values) - 1, side + 2 * (side == 1))
    places = places[1:2] if side == 1 else places
    return np.asarray(found.values)[np.round(places).astype(int)]
  space = np.geomspace if found.log else np.linspace
  if side == 1:
    return space(found.low, found.high, 3)[1:2]
  return space(found.low, found.high, side)


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
