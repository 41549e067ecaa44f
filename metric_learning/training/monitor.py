"""What says of a run that it trains nothing, or that its space has collapsed.

Read from the records of metrics.jsonl, so that a resumed run says the same.
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
# Those of the scores of the validation classes.
WATCHED_SCORES = tuple(
  name.removeprefix("validation/") for name in (_COLLAPSED, _RANK)
)
# The share of what is logged that must be 0, at the end.
_TAIL = 0.5


def watched(record: Mapping[str, Any]) -> dict[str, Any]:
  """What of a record `warnings_of` looks at.

  >>> watched({"step": 3, "train/loss": 0.5, "train/gradient_norm": 0.1})
  {'step': 3, 'train/gradient_norm': 0.1}
  """
  names = ("step", *_IDLE, _COLLAPSED, _RANK)
  return {name: record[name] for name in names if name in record}


def warnings_of(records: Records) -> list[str]:
  """What is wrong with a run so far, in words; empty where all is well.

  >>> steps = [{"step": n, "train/gradient_norm": 0.0} for n in (1, 2, 3)]
  >>> warnings_of(steps)
  ['the gradient is 0 since step 1: the run trains nothing']
  """
  return [*_idle(records), *_collapsed(records)]


def _idle(records: Records) -> Iterator[str]:
  """Values that are 0 for the last half of what was logged."""
  for name, what in _IDLE.items():
    logged = [(r["step"], r[name]) for r in records if name in r]
    since = _zero_since([value for _, value in logged])
    if since is not None:
      yield f"{what} since step {logged[since][0]}: the run trains nothing"


def _zero_since(values: Sequence[float]) -> int | None:
  """Where the zeros at the end begin, if they are at least half of all.

  One value says too little: a batch may have no term by chance.

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
  """What the last scores of the validation classes say of the space."""
  scored = [r for r in records if _COLLAPSED in r]
  if scored and scored[-1][_COLLAPSED]:
    yield (
      f"the embeddings have collapsed at step {scored[-1]['step']}: their"
      f" effective rank is {scored[-1][_RANK]:.2f}"
    )
