"""The type of the entries of MINERS."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from metric_learning.errors import InputError
from metric_learning.intervals import (
  check_options,
)
from metric_learning.rows import Context, Row
from metric_learning.signatures import Kind, call_with, keywords, kinds


@dataclasses.dataclass(frozen=True)
class Miner:
  """A miner: its row function and what an objective must know about it.

  mine: `(row, *, …) -> Row`; with a `context`, `(row, context, *, …)`.
  context: `(over_anchors, over_candidates, anchors, candidates, key, *, …) ->
    Context`, computed before the rows are mined.
  metrics: the metrics whose distances it accepts; empty for all.
  normalize: the normalization that its distribution needs; None for any.
  scaled: options whose unit is a power of the distance, with the power, as in
    `Loss.scaled`; an option may also be a pair. Options that belong to a
    distribution for one metric alone are fixed numbers and are not listed.
  check: checks the options beyond their annotations; raises an InputError for
    options that a call would refuse.
  """

  mine: Callable[..., Row]
  context: Callable[..., Context] | None = None
  metrics: tuple[str, ...] = ()
  normalize: str | None = None
  scaled: Mapping[str, int] = dataclasses.field(default_factory=dict)
  check: Callable[..., None] | None = None

  @property
  def options(self) -> dict[str, Any]:
    """Every option with its default."""
    return keywords(self.mine)

  @property
  def kinds(self) -> dict[str, Kind]:
    """The kinds of the annotated options."""
    return kinds(self.mine)

  def check_options(self, name: str, options: Mapping[str, Any]) -> None:
    """Raises an InputError for options that a call would refuse."""
    check_options(name, self.kinds, options)
    if self.check is not None:
      call_with(options, self.check)

  def check_space(self, name: str, metric: str, normalize: str) -> None:
    """Raises an InputError if the miner does not accept these distances."""
    metrics = self.metrics or (metric,)
    wanted = f"metric={metrics[0]!r}"
    if self.normalize is not None:
      wanted += f" and normalize={self.normalize!r}"
    if metric not in metrics or normalize != (self.normalize or normalize):
      raise InputError(
        f"the miner {name} needs {' or '.join(metrics)} distances"
        f"{' on the unit sphere' if self.normalize == 'l2' else ''}, for which"
        f" it is defined: give {wanted}; got metric={metric!r} and"
        f" normalize={normalize!r}."
      )
