"""From a config and a generator of flat overrides to rows that are valid.

A sweep yields flat overrides, such as {"loss.name": "triplet", "metric": "l1",
"loss.margin": 0.2, "seed": 3}. What a field means in a table follows from it:
`seed` and `data.fold` repeat a measurement, numbers of the loss, all else that
it declares as searched, and the learning rate are tuned on validation classes,
everything else makes a cell.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from metric_learning.errors import InputError
from metric_learning.losses import LOSSES
from metric_learning.training.config import override, traced_numbers, validate

REPLICATES = ("seed", "data.fold")


class StudyRow(NamedTuple):
  """One run of a study: its folder's name, what makes it, its whole config."""

  name: str
  overrides: dict[str, Any]
  config: ConfigDict


def row_name(overrides: Mapping[str, Any]) -> str:
  """The folder of a row, readable and the same each time.

  >>> row_name({"loss.name": "triplet", "loss.margin": 0.5, "seed": 0})
  'loss.name=triplet,loss.margin=0.5,seed=0'
  """
  name = ",".join(f"{key}={value}" for key, value in overrides.items())
  plain = re.sub(r"[^\w.,=+-]", "_", name)
  if plain == name and len(name) <= 150:
    return name
  return f"{plain[:120]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_rows(
  config: ConfigDict, sweep: Iterable[Mapping[str, Any]]
) -> list[StudyRow]:
  """All rows of a sweep, each a valid config.

  Raises:
    InputError: that lists every problem, with the rows that have it.
  """
  rows: dict[str, StudyRow] = {}
  wrong: dict[str, list[str]] = {}
  for overrides in sweep:
    name = row_name(overrides)
    problems = ["it occurs twice in the sweep."] if name in rows else []
    try:
      whole = override(config, overrides)
      rows[name] = StudyRow(name, dict(overrides), whole)
      validate(whole)
    except InputError as error:
      problems += str(error).splitlines()
    for problem in problems:
      wrong.setdefault(problem, []).append(name)
  if not rows and not wrong:
    raise InputError("the sweep has no rows.")
  refuse_rows(wrong)
  return list(rows.values())


def setting_errors(rows: Iterable[StudyRow]) -> list[str]:
  """What keeps a cell from choosing one of its settings on validation."""
  cells: dict[str, list[StudyRow]] = {}
  for row in rows:
    cells.setdefault(json.dumps(cell_of(row), sort_keys=True), []).append(row)
  errors = []
  for some in cells.values():
    settings: dict[str, StudyRow] = {}
    for row in some:
      settings.setdefault(json.dumps(tuned_of(row), sort_keys=True), row)
    names = rows_named([row.name for row in settings.values()])
    if len({tuple(sorted(tuned_of(row))) for row in some}) > 1:
      errors.append(
        f"{names}: they are one cell, whose numbers are chosen on validation,"
        " and do not set the same numbers: name each of them in each row."
      )
    if len(settings) > 1 and any(
      r.config.data.train_on != "train" for r in some
    ):
      errors.append(
        f"{names}: numbers are chosen on validation classes, which"
        " data.train_on='train+validation' trains on: tune with"
        " data.train_on='train', or name the number in config.study.reference."
      )
  return errors


def rows_named(names: Sequence[str]) -> str:
  """Rows in a message; of many, the first.

  >>> rows_named(["seed=0"]), rows_named(["seed=0", "seed=1", "seed=2"])
  ('row seed=0', 'row seed=0 and 2 more')
  """
  more = f" and {len(names) - 1} more" if len(names) > 1 else ""
  return f"row {names[0]}{more}"


def refuse_rows(wrong: Mapping[str, Sequence[str]]) -> None:
  """Raises one `InputError` of what is wrong with which rows, if anything."""
  refuse([f"{rows_named(names)}: {what}" for what, names in wrong.items()])


def refuse(errors: Sequence[str]) -> None:
  """Raises one `InputError` that lists all errors, if there are any.

  >>> refuse(["row seed=a: …", "row seed=b: …"])
  Traceback (most recent call last):
  metric_learning.errors.InputError: 2 errors in the rows:
    row seed=a: …
    row seed=b: …
  """
  if len(errors) == 1:
    raise InputError(errors[0])
  if errors:
    listed = "".join(f"\n  {error}" for error in errors)
    raise InputError(f"{len(errors)} errors in the rows:{listed}")


def cell_of(row: StudyRow) -> dict[str, Any]:
  """The overrides that make a cell of the table.

  >>> from metric_learning.training import base_config
  >>> base, sweep = base_config(), [{"metric": "l1", "seed": 3}]
  >>> cell_of(make_rows(base, sweep)[0])
  {'metric': 'l1'}
  """
  tuned = tuned_of(row)
  return {
    k: v
    for k, v in row.overrides.items()
    if k not in REPLICATES and k not in tuned
  }


def tuned_of(row: StudyRow) -> dict[str, Any]:
  """The overrides that are chosen on validation classes.

  A number that `config.study.reference` names is compared, and not chosen.
  """
  searched = LOSSES[row.config.loss.name].search
  tuned = {*traced_numbers(row.config), *(f"loss.{name}" for name in searched)}
  for part in row.config.study.reference.split(","):
    tuned.discard(part.partition("=")[0])
  return {k: v for k, v in row.overrides.items() if k in tuned}
