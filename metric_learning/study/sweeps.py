"""From a config and a generator of flat overrides to runs that are valid.

A sweep yields flat overrides, such as {"loss.name": "triplet", "loss.margin":
0.2, "metric.name": "l1", "seed": 3}. What a field means in a table follows from
its name: `seed` and `data.fold` repeat a measurement, numbers of the loss, all
else that it declares as searched, and the learning rate are tuned on validation
classes, everything else makes a cell. With config.study.choose=False nothing is
tuned, and each number makes a cell too.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from metric_learning.errors import InputError
from metric_learning.losses import LOSSES
from metric_learning.training.checks import validate
from metric_learning.training.config import (
  override,
  reference_of,
  traced_numbers,
)

REPLICATES = ("seed", "data.fold")


Overrides = Iterator[dict[str, Any]]


class Sweep(NamedTuple):
  """A sweep of a config: what its runs override, and what they are compared to.

  reference: fields and values of the cell with which each is compared where
    config.study.reference is empty; empty for the first cell.
  choose: whether numbers are chosen on validation: config.study.choose.
  """

  overrides: Callable[[], Overrides]
  reference: Mapping[str, Any] = {}
  choose: bool = True

  def __call__(self) -> Overrides:
    """The overrides of each run."""
    return self.overrides()


def sweep(
  reference: Mapping[str, Any] | None = None, *, choose: bool = True
) -> Callable[[Callable[[], Overrides]], Sweep]:
  """Makes a generator of overrides a sweep that names its reference.

  With `choose=False` cells are compared at equal numbers.

  >>> @sweep(reference={"metric.name": "l2"})
  ... def metrics():
  ...   for metric in ("l2", "l1"):
  ...     yield {"metric.name": metric}
  >>> metrics.reference, len(list(metrics()))
  ({'metric.name': 'l2'}, 2)

  Raises:
    InputError: for a reference that is a text.
  """
  named = {} if reference is None else reference
  check_reference(named)
  return lambda overrides: Sweep(overrides, named, choose)


def check_reference(reference: Any) -> None:
  """Checks that a reference is fields with their values.

  Raises:
    InputError: for a text, as it once was.
  """
  if not isinstance(reference, Mapping):
    raise InputError(
      f"reference={reference!r}: give the fields and their values, such as"
      " reference={'metric.name': 'l2'}; on the command line"
      " --config.study.reference.metric.name=l2."
    )


class RunSpec(NamedTuple):
  """One run of a study: its folder's name, what makes it, its whole config."""

  name: str
  overrides: dict[str, Any]
  config: ConfigDict


# Bytes: the names of file systems hold 255, and what is derived has room.
_LONGEST = 150


def spec_name(overrides: Mapping[str, Any]) -> str:
  """The folder of a run, readable and the same each time.

  One name, of no more bytes than a file system takes, that leads nowhere else.

  >>> spec_name({"loss.name": "triplet", "loss.margin": 0.5, "seed": 0})
  'loss.name=triplet,loss.margin=0.5,seed=0'
  >>> spec_name({})
  'as-it-is'
  """
  name = ",".join(f"{key}={value}" for key, value in overrides.items())
  plain = re.sub(r"[^\w.,=+-]", "_", name)
  if plain == name and len(name.encode()) <= _LONGEST:
    return name or "as-it-is"
  cut = plain.encode()[:120].decode(errors="ignore")
  return f"{cut}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _folded(name: str) -> str:
  """What a file system that knows no capitals makes of a name."""
  return unicodedata.normalize("NFC", name).casefold()


def make_specs(
  config: ConfigDict, sweep: Iterable[Mapping[str, Any]]
) -> list[RunSpec]:
  """All runs of a sweep, each a valid config.

  Raises:
    InputError: that lists every problem, with the runs that have it.
  """
  specs: dict[str, RunSpec] = {}
  wrong: dict[str, list[str]] = {}
  folders: dict[str, str] = {}
  for overrides in sweep:
    name = spec_name(overrides)
    problems = ["it occurs twice in the sweep."] if name in specs else []
    other = folders.setdefault(_folded(name), name)
    if other != name:
      problems.append(
        f"its folder would be that of {other} where capitals do not matter."
      )
    try:
      whole = override(config, overrides)
      specs[name] = RunSpec(name, dict(overrides), whole)
      validate(whole)
    except InputError as error:
      problems += str(error).splitlines()
    for problem in problems:
      wrong.setdefault(problem, []).append(name)
  if not specs and not wrong:
    raise InputError("the sweep has no rows.")
  refuse_specs(wrong)
  return list(specs.values())


def setting_errors(specs: Iterable[RunSpec]) -> list[str]:
  """What keeps a cell from choosing one of its settings on validation."""
  cells: dict[str, list[RunSpec]] = {}
  for spec in specs:
    cells.setdefault(json.dumps(cell_of(spec), sort_keys=True), []).append(spec)
  errors = []
  for some in cells.values():
    settings: dict[str, RunSpec] = {}
    for spec in some:
      settings.setdefault(json.dumps(tuned_of(spec), sort_keys=True), spec)
    names = specs_named([spec.name for spec in settings.values()])
    if len({tuple(sorted(tuned_of(spec))) for spec in some}) > 1:
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


def specs_named(names: Sequence[str]) -> str:
  """Rows in a message; of many, the first.

  >>> specs_named(["seed=0"]), specs_named(["seed=0", "seed=1", "seed=2"])
  ('row seed=0', 'row seed=0 and 2 more')
  """
  more = f" and {len(names) - 1} more" if len(names) > 1 else ""
  return f"row {names[0]}{more}"


def refuse_specs(wrong: Mapping[str, Sequence[str]]) -> None:
  """Raises one `InputError` of what is wrong with which runs, if anything."""
  refuse([f"{specs_named(names)}: {what}" for what, names in wrong.items()])


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


def cell_of(spec: RunSpec) -> dict[str, Any]:
  """The overrides that make a cell of the table.

  >>> from metric_learning.training import base_config
  >>> base, sweep = base_config(), [{"metric.name": "l1", "seed": 3}]
  >>> cell_of(make_specs(base, sweep)[0])
  {'metric.name': 'l1'}
  """
  tuned = tuned_of(spec)
  return {
    k: v
    for k, v in spec.overrides.items()
    if k not in REPLICATES and k not in tuned
  }


def tuned_of(spec: RunSpec) -> dict[str, Any]:
  """The overrides that are chosen on validation classes.

  A number that `config.study.reference` names is compared, and not chosen; with
  config.study.choose=False none is.
  """
  if not spec.config.study.choose:
    return {}
  searched = LOSSES[spec.config.loss.name].search
  tuned = {*traced_numbers(spec.config), *(f"loss.{name}" for name in searched)}
  tuned.difference_update(reference_of(spec.config))
  return {k: v for k, v in spec.overrides.items() if k in tuned}
