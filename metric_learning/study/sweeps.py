"""From a config and a generator of flat overrides to valid runs.

A sweep yields flat overrides, such as {"loss.name": "triplet", "loss.margin":
0.2, "metric.name": "l1", "seed": 3}. The role of a field follows from its name.
`seed` and `data.fold` repeat a measurement. Numbers of the loss, its other
searched options, and the learning rate are chosen on validation classes.
Everything else makes a cell. With config.study.choose=False nothing is chosen,
and numbers make cells too.
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
  """A sweep of a config: the overrides of its runs, and their reference.

  reference: fields and values of the reference cell, used if
    config.study.reference is empty. Empty: the first cell.
  choose: whether numbers are chosen on validation (config.study.choose).
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
  """Turns a generator of overrides into a sweep with a reference.

  With `choose=False`, cells are compared at equal numbers.

  >>> @sweep(reference={"metric.name": "l2"})
  ... def metrics():
  ...   for metric in ("l2", "l1"):
  ...     yield {"metric.name": metric}
  >>> metrics.reference, len(list(metrics()))
  ({'metric.name': 'l2'}, 2)

  Raises:
    InputError: if the reference is a string.
  """
  named = {} if reference is None else reference
  check_reference(named)
  return lambda overrides: Sweep(overrides, named, choose)


def check_reference(reference: Any) -> None:
  """Checks that a reference is a dict of fields and values.

  Raises:
    InputError: for a string, as in earlier versions.
  """
  if not isinstance(reference, Mapping):
    raise InputError(
      f"reference={reference!r}: give the fields and their values, such as"
      " reference={'metric.name': 'l2'}; on the command line"
      " --config.study.reference.metric.name=l2."
    )


class RunSpec(NamedTuple):
  """A run of a study: the name of its folder, its overrides, its config."""

  name: str
  overrides: dict[str, Any]
  config: ConfigDict


# Bytes. File systems allow 255; this leaves room for derived names.
_LONGEST = 150


def spec_name(overrides: Mapping[str, Any]) -> str:
  """The name of the folder of a run, readable and deterministic.

  It is a single path component that is short enough for a file system.

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
  """The name on a file system that ignores case."""
  return unicodedata.normalize("NFC", name).casefold()


def make_specs(
  config: ConfigDict, sweep: Iterable[Mapping[str, Any]]
) -> list[RunSpec]:
  """All runs of a sweep, with valid configs.

  Raises:
    InputError: listing each problem with its runs.
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
        f"on a file system that ignores case, its folder is that of {other}."
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


def first_seeds(sweep: Iterable[Mapping[str, Any]], count: int) -> Overrides:
  """The rows of a sweep with its first seeds, for a smaller study.

  >>> rows = [{"loss.name": x, "seed": s} for x in ("nca",) for s in (4, 7)]
  >>> [*first_seeds(rows, 1)]
  [{'loss.name': 'nca', 'seed': 4}]

  Raises:
    InputError: if the sweep has fewer seeds.
  """
  rows = [dict(row) for row in sweep]
  seeds = list(dict.fromkeys(row["seed"] for row in rows if "seed" in row))
  if len(seeds) < count:
    raise InputError(
      f"{count} seeds are asked, but the sweep has {len(seeds)}."
    )
  return (row for row in rows if row.get("seed") in seeds[:count])


def setting_errors(specs: Iterable[RunSpec]) -> list[str]:
  """Problems that keep a cell from choosing a setting on validation."""
  cells: dict[str, list[RunSpec]] = {}
  for spec in specs:
    cells.setdefault(json.dumps(cell_of(spec), sort_keys=True), []).append(spec)
  errors = []
  for group in cells.values():
    settings: dict[str, RunSpec] = {}
    for spec in group:
      settings.setdefault(json.dumps(tuned_of(spec), sort_keys=True), spec)
    names = specs_named([spec.name for spec in settings.values()])
    if len({tuple(sorted(tuned_of(spec))) for spec in group}) > 1:
      errors.append(
        f"{names}: these rows are one cell, whose numbers are chosen on "
        "validation, but they do not set the same numbers: set each of the "
        "numbers in each row."
      )
    if len(settings) > 1 and any(
      r.config.data.train_on != "train" for r in group
    ):
      errors.append(
        f"{names}: numbers are chosen on validation classes, which"
        " data.train_on='train+validation' trains on: tune with"
        " data.train_on='train', or name the number in config.study.reference."
      )
  return errors


def specs_named(names: Sequence[str]) -> str:
  """The names of rows for a message; the first of many.

  >>> specs_named(["seed=0"]), specs_named(["seed=0", "seed=1", "seed=2"])
  ('row seed=0', 'row seed=0 and 2 more')
  """
  more = f" and {len(names) - 1} more" if len(names) > 1 else ""
  return f"row {names[0]}{more}"


def refuse_specs(wrong: Mapping[str, Sequence[str]]) -> None:
  """Raises one `InputError` with each problem and its runs, if any."""
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
  """The overrides that make a cell.

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

  A number named in `config.study.reference` is compared instead of chosen. With
  config.study.choose=False none is chosen.
  """
  if not spec.config.study.choose:
    return {}
  searched = LOSSES[spec.config.loss.name].search
  tuned = {*traced_numbers(spec.config), *(f"loss.{name}" for name in searched)}
  tuned.difference_update(reference_of(spec.config))
  return {k: v for k, v in spec.overrides.items() if k in tuned}
