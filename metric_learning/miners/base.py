"""What every entry of MINERS says of itself."""

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
  """One miner: its row function and what an objective must know about it.

  mine: `(row, *, …) -> Row`; with a `context`, `(row, context, *, …)`.
  context: `(over_anchors, over_candidates, anchors, candidates, key, *, …) ->
    Context`, before the rows are mined.
  metrics: those whose distances it reads; empty for any.
  normalize: the normalization that its distribution needs; None for any.
  scaled: options that are distances, or pairs of them, and the power of the
    distance in their unit, as `Loss.scaled`. Those of a distribution that holds
    for one metric alone are numbers of it, and none of these.
  check: of its options, beyond what their annotations say; raises an InputError
    for what a call would refuse.
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
    """What the options take."""
    return kinds(self.mine)

  def check_options(self, name: str, options: Mapping[str, Any]) -> None:
    """Raises an InputError for options that a call would refuse."""
    check_options(name, self.kinds, options)
    if self.check is not None:
      call_with(options, self.check)

  def check_space(self, name: str, metric: str, normalize: str) -> None:
    """Raises an InputError for distances that its distribution is not of."""
    metrics = self.metrics or (metric,)
    wanted = f"metric={metrics[0]!r}"
    if self.normalize is not None:
      wanted += f" and normalize={self.normalize!r}"
    if metric not in metrics or normalize != (self.normalize or normalize):
      raise InputError(
        f"the miner {name} reads {' or '.join(metrics)} distances"
        f"{' on the unit sphere' if self.normalize == 'l2' else ''}, where its"
        f" distribution holds: give {wanted}; got metric={metric!r} and"
        f" normalize={normalize!r}."
      )
