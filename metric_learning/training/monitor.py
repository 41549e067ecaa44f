"""Warnings about runs that train nothing and embeddings that have collapsed.

They are derived from the records of metrics.jsonl, so that a resumed run gives
the same warnings.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Records = Sequence[Mapping[str, Any]]

_IDLE = {
  "train/gradient_norm": "the gradient is 0",
  "train/active_fraction": "no term of the loss is active",
  "train/0/active_fraction": "no term of the first loss is active",
}
_COLLAPSED = "validation/geometry/collapsed"
_RANK = "validation/geometry/effective_rank"
# These two names without their prefix, as in the scores of one part.
WATCHED_SCORES = tuple(
  name.removeprefix("validation/") for name in (_COLLAPSED, _RANK)
)
# A value must be 0 in this last share of the log.
_TAIL = 0.5


def watched(record: Mapping[str, Any]) -> dict[str, Any]:
  """The values of a record that `warnings_of` reads.

  >>> watched({"step": 3, "train/loss": 0.5, "train/gradient_norm": 0.1})
  {'step': 3, 'train/gradient_norm': 0.1}
  """
  names = ("step", *_IDLE, _COLLAPSED, _RANK)
  return {name: record[name] for name in names if name in record}


def warnings_of(records: Records) -> list[str]:
  """The warnings about a run so far; empty if there are none.

  >>> steps = [{"step": n, "train/gradient_norm": 0.0} for n in (1, 2, 3)]
  >>> warnings_of(steps)
  ['the gradient is 0 since step 1: the run trains nothing']
  """
  return [*_idle(records), *_collapsed(records)]


def _idle(records: Records) -> Iterator[str]:
  """Warnings for values that are 0 in the last half of the log."""
  for name, what in _IDLE.items():
    logged = [(r["step"], r[name]) for r in records if name in r]
    since = _zero_since([value for _, value in logged])
    if since is not None:
      yield f"{what} since step {logged[since][0]}: the run trains nothing"


def _zero_since(values: Sequence[float]) -> int | None:
  """The index where the final zeros begin, if they are at least half of all.

  A single value is not enough: a batch may have no term by chance.

  >>> _zero_since([1, 0, 0]), _zero_since([0, 1, 0]), _zero_since([0])
  (1, None, None)
  """
  count = 0
  while count < len(values) and values[-1 - count] == 0:
    count += 1
  if count < 2 or count < _TAIL * len(values):
    return None
  return len(values) - count


def _collapsed(records: Records) -> Iterator[str]:
  """A warning if the last validation scores show a collapsed space."""
  scored = [r for r in records if _COLLAPSED in r]
  if scored and scored[-1][_COLLAPSED]:
    yield (
      f"the embeddings have collapsed at step {scored[-1]['step']}: their"
      f" effective rank is {scored[-1][_RANK]:.2f}"
    )
