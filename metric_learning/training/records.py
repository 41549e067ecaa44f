"""The contents of each file of a run or study, and how to mend a damaged one.

One table covers them all: files are checked as they are read, by their names,
so that an edited or truncated file gives one clear message and never a wrong
number.
"""

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

# A shape is a type; a tuple of alternative shapes; a list with the shape of
# every item; or a dict of shapes by name. In a dict, "name?" may be missing and
# the key `str` stands for all other names; names that the dict lacks are
# accepted. A whole number is accepted as a float, and `object` accepts
# anything.
Shape = Any

SCORES = {str: float}


class Record(NamedTuple):
  """A kind of file: its contents, and the advice if they are wrong.

  shape: the shape of JSON; for an npz, its arrays and which of them share a
    length.
  """

  shape: Shape
  mend: str


_OF_RUN = "Restore it, or delete the folder of the run and train it again."
_OF_STUDY = "Restore it, or choose another folder for the study."
_SCORED = "Delete it: it is written again when the run is scored."
_EMBEDDED = (
  "Delete it, and what was scored from it (test.json and test_*.npz): all are"
  " written again from the checkpoints when the run is scored."
)

_RESULT = {
  "digest": str,
  "commit": str,
  "metric": object,
  "normalize": str,
  "numbers": {str: float},
  "steps": int,
  "seconds": float,
  "selected_step": (int, None),
  "train": {"step": int, str: float},
  "validation": SCORES,
  "validation_selected": SCORES,
  "run?": str,
  "warnings?": [str],
  "skipped?": int,
}
_CONFIG = {
  "seed": int,
  "loss": {"name": str},
  "model": {"name": str},
  "data": {"name": str},
  "train": {"steps": int},
  "eval": {"select": str},
}
_ROW = {"name": str, "overrides": {str: object}, "config": _CONFIG}
_SEARCH = {
  "cell": {str: object},
  "chosen": {str: object},
  "folder": str,
  "trials": int,
  "failed": int,
  "on_edge": [str],
  "ranges": {str: list},
  "search?": int,
  "seeds?": [int],
}
_BASELINE = {"name": str, "fold": int, "seed": (int, None), "test": SCORES}
_POINTS = {
  "validation_embeddings": "validation_labels",
  "test_embeddings": "test_labels",
}

METRICS_LINE = {"step": int, str: float}

# By file name, which may be a pattern.
RECORDS: dict[str, Record] = {
  "config.json": Record(_CONFIG, _OF_RUN),
  "data.json": Record({str: str}, _OF_RUN),
  "inputs.json": Record(
    {
      "shape": [int],
      "kind": str,
      "num_classes": int,
      "scale": (None, [[float]]),
    },
    "Delete it: its contents are then taken from the data.",
  ),
  "environment.json": Record(
    {"versions": {str: str}, "commit": str}, "Delete it: it is not needed."
  ),
  "metrics.jsonl": Record(METRICS_LINE, _OF_RUN),
  "result.json": Record(
    ({"diverged": str}, _RESULT),
    "Delete it, and run the command that made it again: the run resumes from "
    "its last checkpoint.",
  ),
  "embeddings.npz": Record(_POINTS, _EMBEDDED),
  "embeddings_selected.npz": Record(_POINTS, _EMBEDDED),
  "test.json": Record({"last": SCORES, "selected": SCORES}, _SCORED),
  "test_queries.npz": Record({"classes": None}, _SCORED),
  "test_halves.npz": Record({}, _SCORED),
  "study.json": Record({"config": _CONFIG, "rows": [_ROW]}, _OF_STUDY),
  "search.json": Record({"config": _CONFIG, "rows": {str: _CONFIG}}, _OF_STUDY),
  "folder.json": Record(str, _OF_STUDY),
  "tuning.json": Record(
    [_SEARCH],
    "Delete it, and run the tuning command again: it is written again from the "
    "trials.",
  ),
  "*-again.json": Record(
    {"number": int, "scores": [[float]], "seconds": float, "failed": str},
    "Delete it, and run the tuning command again: the trial is repeated.",
  ),
  "baselines.json": Record(
    [_BASELINE],
    "Delete it, and run the command that made the study again.",
  ),
  "features.json": Record({"features": {str: object}}, "Delete its folder."),
}


def record_of(name: str) -> Record | None:
  """The record of a file name; None for a name that is not in the table.

  >>> record_of("003-again.json") is RECORDS["*-again.json"]
  True
  """
  for pattern, record in RECORDS.items():
    if fnmatch.fnmatchcase(name, pattern):
      return record
  return None


def mend_of(name: str) -> str:
  """The advice for a damaged file of this name."""
  record = record_of(name)
  return "Restore it, or delete it." if record is None else record.mend


def problem_in(value: Any, shape: Shape, where: str = "it") -> str | None:
  """The first mismatch between a value and a shape, in words; None if it fits.

  >>> problem_in({"steps": "six"}, {"steps": int})
  'steps is a text, and must be a whole number'
  >>> problem_in({"steps": 6}, {"steps": int, "seed": int})
  'it lacks seed'
  >>> problem_in({"scores": {"own/eer": 0}}, {"scores": {str: float}})
  """
  return next(_problems(value, shape, where), None)


def _problems(value: Any, shape: Shape, where: str) -> Iterator[str]:
  if shape is object:
    return
  if isinstance(shape, tuple):
    problems = [problem_in(value, one, where) for one in shape]
    if None not in problems:
      yield str(problems[-1])
  elif isinstance(shape, list):
    if not isinstance(value, list):
      yield _differs(value, list, where)
      return
    for place, item in enumerate(value):
      yield from _problems(item, shape[0], f"{_inside(where)}[{place}]")
  elif isinstance(shape, dict):
    yield from _problems_in_dict(value, shape, where)
  elif not _is_of(value, shape):
    yield _differs(value, shape, where)


def _problems_in_dict(
  value: Any, shape: Mapping[Any, Shape], where: str
) -> Iterator[str]:
  if not isinstance(value, dict):
    yield _differs(value, dict, where)
    return
  known = {n.removesuffix("?"): n for n in shape if isinstance(n, str)}
  for name, inner in known.items():
    if name in value:
      yield from _problems(value[name], shape[inner], _path(where, name))
    elif name == inner:
      yield f"{where} lacks {name}"
  if str in shape:
    for name in value.keys() - known.keys():
      yield from _problems(value[name], shape[str], _path(where, name))


def _inside(where: str) -> str:
  return "" if where == "it" else where


def _path(where: str, name: str) -> str:
  return f"{_inside(where)}.{name}".lstrip(".")


_WORDS = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
  str: "a text",
  list: "a list",
  dict: "an object with names",
  type(None): "null",
}


def _is_of(value: Any, kind: Any) -> bool:
  if kind is None:
    return value is None
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, (int, float) if kind is float else kind)


def _differs(value: Any, kind: Any, where: str) -> str:
  needed = _WORDS[type(None) if kind is None else kind]
  return f"{where} is {_WORDS[type(value)]}, and must be {needed}"


def problem_in_arrays(
  arrays: Mapping[str, np.ndarray], shape: Mapping[str, str | None]
) -> str | None:
  """What is wrong with the arrays of an npz, in words; None if nothing is.

  >>> problem_in_arrays({"a": np.zeros(3), "b": np.zeros(2)}, {"a": "b"})
  'a is of 3 items, and b of 2'
  """
  for name in dict.fromkeys(x for pair in shape.items() for x in pair if x):
    if name not in arrays or not arrays[name].ndim:
      return f"it lacks the array {name}"
  for name, other in shape.items():
    if other and len(arrays[name]) != len(arrays[other]):
      return (
        f"{name} is of {len(arrays[name])} items, and {other} of"
        f" {len(arrays[other])}"
      )
  return None
