"""The interval of a numeric parameter, declared in its annotation.

    def loss(row, *, margin: NotNegative = 1.0, half: bool = True): ...

`check_options` enforces it. A number may be a Python, NumPy or JAX scalar;
traced numbers are not checked.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np
from jaxtyping import Array

from metric_learning.errors import InputError
from metric_learning.signatures import Kind


@dataclasses.dataclass(frozen=True)
class Interval:
  """The numbers from `low` to `high`, including ends that are not open.

  An infinite end is open, so only finite numbers are in an interval. With
  `radians` the numbers are angles, and the message for a value out of range
  suggests that it may be in degrees.

  >>> Interval(0.0, 1.0, open_high=True), Interval(0.0, open_low=True)
  (in [0, 1), positive)
  """

  low: float = -math.inf
  high: float = math.inf
  open_low: bool = False
  open_high: bool = False
  radians: bool = False

  def __contains__(self, value: float | int) -> bool:
    """Whether a number is finite and in the interval."""
    above = value > self.low if self.open_low else value >= self.low
    below = value < self.high if self.open_high else value <= self.high
    return bool(above and below and math.isfinite(value))

  def __repr__(self) -> str:
    """The interval in words."""
    if self.high < math.inf:
      left, right = "[("[self.open_low], "])"[self.open_high]
      unit = "an angle in radians, " if self.radians else ""
      return f"{unit}in {left}{self.low:.4g}, {self.high:.4g}{right}"
    if self.low == -math.inf:
      return "finite"
    return "positive" if self.open_low else f"at least {self.low:g}"


Number = float | Array
Real = Annotated[Number, Interval()]
Positive = Annotated[Number, Interval(0.0, open_low=True)]
NotNegative = Annotated[Number, Interval(0.0)]
Share = Annotated[Number, Interval(0.0, 1.0)]
ShareBelowOne = Annotated[Number, Interval(0.0, 1.0, open_high=True)]
OpenShare = Annotated[Number, Interval(0.0, 1.0, open_low=True, open_high=True)]
AtLeastOne = Annotated[Number, Interval(1.0)]
Cosine = Annotated[Number, Interval(-1.0, 1.0)]
# Two cosines differ by at most 2, so no item can satisfy a larger margin.
CosineMargin = Annotated[Number, Interval(0.0, 2.0)]
RightAngle = Annotated[Number, Interval(0.0, math.pi / 2, radians=True)]
AcuteAngle = Annotated[
  Number, Interval(0.0, math.pi / 2, open_high=True, radians=True)
]
Natural = Annotated[int, Interval(1.0)]


def check_options(
  owner: str, kinds: Mapping[str, Kind], options: Mapping[str, Any]
) -> None:
  """Checks the numbers and booleans among options by their kinds.

  Raises:
    InputError: if a value has a wrong type or is outside its interval.

  >>> from metric_learning.signatures import kinds
  >>> def loss(row, *, angle: RightAngle = 0.5): 0
  >>> check_options("loss", kinds(loss), {"angle": 45})
  Traceback (most recent call last):
  metric_learning.errors.InputError: loss: angle must be an angle in radians, \
in [0, 1.571], got 45: if these are degrees, give 0.7854.
  """
  for name, value in options.items():
    if name in kinds:
      _check(f"{owner}: {name}", kinds[name], value)


def _check(subject: str, kind: Kind, value: Any) -> None:
  wanted = {bool, int, float} & set(kind.types)
  if not wanted or (value is None and type(None) in kind.types):
    return  # Names and tuples are checked where they are read.
  if isinstance(value, jax.core.Tracer):
    if float not in wanted:
      raise InputError(
        f"{subject} selects code and cannot be traced: give a Python value."
      )
    return
  if bool in wanted:
    if not _is_scalar(value, np.bool_):
      raise InputError(f"{subject} must be True or False, got {value!r}.")
    return
  interval = kind.interval or Interval()
  if float not in wanted:
    if not _is_scalar(value, np.integer) or int(value) not in interval:
      raise InputError(
        f"{subject} must be an integer, {interval!r}, got {value!r}."
      )
    return
  if not _is_scalar(value, *_NUMBERS):
    raise InputError(f"{subject} must be a number, got {value!r}.")
  number = float(value)
  if number not in interval:
    hint = "."
    finite = "" if math.isfinite(number) else ", and finite"
    if interval.radians and 0 <= (angle := math.radians(number)) in interval:
      hint = f": if these are degrees, give {angle:.4g}."
    raise InputError(
      f"{subject} must be {interval!r}{finite}, got {value}{hint}"
    )


_NUMBERS = (np.integer, np.floating)


def _is_scalar(value: Any, *kinds: type) -> bool:
  """Whether a value is an untraced scalar of one of these NumPy types."""
  if not isinstance(
    value, bool | int | float | np.generic | np.ndarray | Array
  ):
    return False
  # JAX counts types such as bfloat16 as floats; NumPy does not.
  return np.ndim(value) == 0 and any(
    jax.dtypes.issubdtype(jax.dtypes.result_type(value), kind) for kind in kinds
  )


def check_rising(what: str, ends: Any) -> None:
  """Checks that ends are None, or `(low, high)` with low < high.

  An end may be infinite; traced ends are not checked.

  Raises:
    InputError: if they are anything else.

  >>> check_rising("my_range", (0.2, 0.1))
  Traceback (most recent call last):
  metric_learning.errors.InputError: my_range must be two numbers, low < high; \
got (0.2, 0.1).
  """
  if ends is None:
    return
  is_pair = isinstance(ends, tuple | list) and len(ends) == 2
  if is_pair and any(isinstance(end, jax.core.Tracer) for end in ends):
    return
  are_numbers = is_pair and all(_is_scalar(end, *_NUMBERS) for end in ends)
  if not (are_numbers and ends[0] < ends[1]):
    raise InputError(f"{what} must be two numbers, low < high; got {ends!r}.")
