"""The reference of each cell of a study, fixed before the runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import check_ranks
from metric_learning.study.sweeps import RunSpec, cell_of, check_reference
from metric_learning.training.config import reference_of

Name = dict[str, Any]


def said(value: Any) -> str:
  """A value of a field as text.

  >>> said("l1"), said((56, 46))
  ('l1', '56×46')
  """
  if isinstance(value, tuple | list):
    return "×".join(map(str, value))
  return str(value)


def pairs_with_reference(
  names: Sequence[Name], reference: Mapping[str, Any]
) -> list[tuple[Name, Name]]:
  """Each compared cell with its reference.

  Args:
    names: the fields of all cells.
    reference: fields and values. Each cell is compared with the cell that has
      these values and is otherwise identical. Empty: with the first cell.

  Raises:
    InputError: for a field or value that no cell has, or if no cell has a
      reference.

  >>> names = [{"metric.name": name} for name in ("l2", "l1", "cosine")]
  >>> pairs_with_reference(names, {"metric.name": "l1"})[0]
  ({'metric.name': 'l2'}, {'metric.name': 'l1'})
  """
  check_reference(reference)
  if not reference:
    return [(name, names[0]) for name in names[1:]]
  plain = [_plain(name) for name in names]
  wanted = _plain(reference)
  fields = {field for name in plain for field in name}
  for field, value in wanted.items():
    check_choice("field in config.study.reference:", field, fields)
    values = [name[field] for name in plain if field in name]
    if value not in values:
      check_choice(
        f"{field} in config.study.reference:", said(value), {*map(said, values)}
      )
  pairs = []
  for name, own in zip(names, plain, strict=True):
    twin = {**own, **wanted}
    if twin != own and twin in plain:
      pairs.append((name, names[plain.index(twin)]))
  if not pairs and len(names) > 1:
    raise InputError(
      f"config.study.reference={dict(reference)} compares nothing: no two "
      "cells differ only in these fields."
    )
  return pairs


def _plain(name: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a cell, with tuples as lists, as in JSON."""
  return {
    field: list(value) if isinstance(value, tuple) else value
    for field, value in name.items()
  }


def cells_of(specs: Sequence[RunSpec]) -> list[Name]:
  """The cells of a study, in the order of its runs."""
  names = [cell_of(spec) for spec in specs]
  return [name for i, name in enumerate(names) if name not in names[:i]]


def check_comparisons(config: ConfigDict, cells: Sequence[Name]) -> None:
  """Checks the section `study` of a config against the cells of its study.

  Raises:
    InputError: for an unknown reference or column, or a delta that is not
      positive.
  """
  delta = config.study.delta
  if not (delta > 0 and math.isfinite(delta)):
    raise InputError(f"config.study.delta must be positive, got {delta}.")
  for column in config.study.columns:
    check_choice(
      "column in config.study.columns, of those in config.eval.columns:",
      column,
      config.eval.columns,
    )
    check_ranks("column in config.study.columns", column)
  pairs_with_reference(cells, reference_of(config))
