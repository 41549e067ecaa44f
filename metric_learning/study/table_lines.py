"""The lines of a study's table, before formatting."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from metric_learning.evaluation import heading, too_few
from metric_learning.losses import LOSSES
from metric_learning.study.compared_with import said
from metric_learning.study.comparisons import class_interval
from metric_learning.study.ranges import FACTORS, RATE
from metric_learning.study.results import (
  Cell,
  Study,
  over_replicates,
  searched_in,
)
from metric_learning.study.runs import Run
from metric_learning.study.statistics import Interval, t_interval, units_of

Line = dict[str, Any]
# The unit of a number, by its power of d̄.
UNITS = {1: "d̄", 2: "d̄²", -1: "/ d̄"}


def table_lines(study: Study) -> list[Line]:
  """One dict for each line: name, chosen setting, and an Interval per column.

  Intervals of networks are t-intervals over seeds, folds or searches; compared
  columns also have a bootstrap over test classes. Pixels and PCA on one split
  have the bootstrap only.
  """
  columns = study.config["eval"]["columns"]
  compared = study.compared["columns"]
  baselines = [
    _baseline_line(name, records, columns)
    for name, records in by_name(study.baselines)
  ]
  cells = [_cell_line(cell, columns, compared) for cell in study.cells]
  return baselines + cells + [_given_up_line(e) for e in study.given_up]


def without_values(study: Study, heads: Sequence[str]) -> list[str]:
  """A note on columns without a value in any line, and why, if it is known."""
  runs = [run for cell in study.cells for run in cell.chosen.runs]
  scores = runs[0].tested.selected if runs else {}
  lacking = []
  for column in study.config["eval"]["columns"]:
    if (head := heading(column)) not in heads:
      why = too_few(column, scores)
      lacking.append(f"{head} ({why.rstrip('.')})" if why else head)
  return [f"no line has a value of {', '.join(lacking)}"] if lacking else []


def by_name(
  baselines: Sequence[dict[str, Any]],
) -> list[tuple[str, list[dict[str, Any]]]]:
  """The records of each baseline, one for each fold and seed."""
  names = dict.fromkeys(b["name"] for b in baselines)
  return [(n, [b for b in baselines if b["name"] == n]) for n in names]


def _baseline_line(
  name: str, records: Sequence[dict[str, Any]], columns: Sequence[str]
) -> Line:
  folds = {b["fold"] for b in records}
  line: Line = {
    "name": name,
    "chosen": "",
    "interval": "folds" if len(folds) > 1 else "seeds",
    "n": len(records),
    "commits": " ".join(sorted({b.get("commit", "unknown") for b in records})),
    "effective rank": mean_of(
      b["test"]["geometry/effective_rank"] for b in records
    ),
  }
  seeds = {b["seed"] for b in records} - {None}
  if seeds:
    line |= {"seeds": len(seeds), "folds": len(folds)}
  for column in columns:
    units = units_of(baseline_scores(records, column))
    line[column] = t_interval(list(units.values()))
    classes = records[0].get("class_interval", {}).get(column)
    if len(folds) == 1 and classes is not None:
      line[column] = Interval(line[column].mean, classes[0], classes[1], 1)
      line["interval"] = "classes"
  return line


def baseline_scores(
  records: Sequence[Mapping[str, Any]], column: str
) -> dict[tuple[Any, int], float]:
  """A score in the records of a baseline, by seed and fold."""
  return {(b["seed"], b["fold"]): b["test"][column] for b in records}


def _cell_line(
  cell: Cell, columns: Sequence[str], compared: Sequence[str]
) -> Line:
  runs = cell.chosen.runs
  folds = {run.spec.config.data.fold for run in runs}
  line: Line = {
    "name": in_words(cell.name),
    "chosen": ", ".join(chosen_numbers(cell)),
    "interval": unit_of(runs),
    "n": len(runs),
    "seeds": len({run.spec.config.seed for run in runs}),
    "folds": len(folds),
    "trials": cell.trials,
    "searched": _said_searched(cell.searched),
    **({"searches": len(cell.searches)} if cell.searches else {}),
    "diverged": cell.diverged,
    "stale": len(cell.stale),
    "unscored": cell.unscored,
  }
  # NaN if the setting lost a seed. A score on classes that were trained on does
  # not count either.
  unseen = all(run.spec.config.data.train_on == "train" for run in runs)
  if unseen and np.isfinite(cell.chosen.validation.mean):
    line["validation"] = cell.chosen.validation
  if not runs:
    line["chosen"] = _why_none(cell)
    return line

  def value(kind: str, column: str, run: Run) -> float:
    return getattr(run.tested, kind)[column]

  for column in columns:
    for suffix, kind in (("", "selected"), (" (last)", "last")):
      of_run = functools.partial(value, kind, column)
      line[column + suffix] = over_replicates(runs, of_run)
  for column in compared:
    over_classes = class_interval(runs, column)
    if over_classes is not None:
      mean, n = line[column].mean, line[column].n
      line[f"{column} (classes)"] = Interval(mean, *over_classes, n)
  scores = [run.tested.selected for run in runs]
  line["effective rank"] = mean_of(s["geometry/effective_rank"] for s in scores)
  line["collapsed"] = sum(bool(s["geometry/collapsed"]) for s in scores)
  line["active fraction"] = _active_fraction(runs)
  line["warned"] = sum(bool(run.result.get("warnings")) for run in runs)
  line["seconds"] = mean_of(run.result["seconds"] for run in runs)
  line["runs"] = " ".join(run.spec.name for run in runs)
  line["digests"] = " ".join(run.result["digest"] for run in runs)
  line["commits"] = " ".join(sorted({run.result["commit"] for run in runs}))
  return line


def unit_of(runs: Sequence[Run]) -> str:
  """The unit of intervals and tests over these runs: seed, fold or search."""
  if any(run.search is not None for run in runs):
    return "searches"
  folds = {run.spec.config.data.fold for run in runs}
  return "folds" if len(folds) > 1 else "seeds"


def _why_none(cell: Cell) -> str:
  """Why no setting of a cell was chosen, as text."""
  if cell.stale:
    return "no usable run"
  if cell.unscored:
    return f"not chosen: the validation score of {cell.unscored} runs is NaN"
  if any(setting.runs for setting in cell.settings):
    return "not chosen: every setting lost a run"
  return "every run diverged"


def _given_up_line(entry: Mapping[str, Any]) -> Line:
  """The line of a cell without runs because all trials of its search failed."""
  return {
    "name": in_words(entry["cell"]),
    "chosen": f"every trial failed ({entry['failed']})",
    "interval": "seeds",
    "n": 0,
    "trials": entry["trials"],
    "searched": _said_searched(searched_in(entry)),
  }


def _said_searched(fields: Sequence[str] | None) -> str:
  """The number of searched hyperparameters, and whether the rate was searched.

  >>> _said_searched(["loss.margin", RATE])
  '1 + rate'
  """
  if fields is None:
    return "–"
  count = sum(field != RATE for field in fields)
  return f"{count} + rate" if RATE in fields else str(count)


def short(field: str) -> str:
  """The short name of a field in tables.

  >>> short("miner.name"), short("loss.margin")
  ('miner', 'margin')
  >>> short("optimizer.head.factor")
  'head factor'
  """
  *above, last = field.removesuffix(".name").split(".")
  return f"{above[-1]} {last}" if field in FACTORS else last


def in_words(name: Mapping[str, Any]) -> str:
  """The fields of a cell as text.

  A field is named if its value alone would be unclear.

  >>> cell = {"miner.name": "all", "metric.name": "l1", "loss.name": "triplet"}
  >>> in_words(cell)
  'triplet, l1, miner all'
  """
  plain = ("loss.name", "model.name", "metric.name")
  fields = {k: v for k, v in name.items() if k != "margin_unit"}
  # The most important field first.
  order = [field for field in plain if field in fields]
  order += [field for field in fields if field not in plain]
  named = lambda field: field not in (*plain, "data.image_size")
  words = [
    f"{short(field)} " * named(field) + said(fields[field]) for field in order
  ]
  if name.get("margin_unit") == "absolute":
    words.append("raw margin")
  return ", ".join(words)


def chosen_numbers(cell: Cell) -> list[str]:
  """The tuned numbers: as given, in absolute units, and marked at an edge.

  d̄ is the mean distance at initialization. For several searches, this is the
  median and the range of their choices.
  """
  if cell.searches:
    return _over_searches(cell)
  texts = []
  for field, value in cell.chosen.tuned.items():
    name = field.split(".")[-1]
    text = f"{name} {value:g}"
    # A number that selects code has no unit and is not traced.
    absolute = [r.result["numbers"].get(field, value) for r in cell.chosen.runs]
    if absolute and not np.isclose(np.mean(absolute), value):
      loss = cell.chosen.runs[0].spec.config.loss.name
      unit = UNITS[LOSSES[loss].scaled[name]]
      text += f" {unit} = {np.mean(absolute):.3g}"
    if field in cell.on_edge:
      text += " (edge)"
    texts.append(text)
  return texts


def _over_searches(cell: Cell) -> list[str]:
  texts = []
  chosen = [entry["chosen"] for entry in cell.searches if entry["chosen"]]
  for field in chosen[0] if chosen else ():
    name = field.split(".")[-1]
    values = [numbers[field] for numbers in chosen]
    text = f"{name} {np.median(values):.3g}"
    absolute = [r.result["numbers"].get(field) for r in cell.chosen.runs]
    given = [r.spec.overrides[field] for r in cell.chosen.runs]
    if None not in absolute and not np.allclose(absolute, given):
      loss = cell.chosen.runs[0].spec.config.loss.name
      text += f" {UNITS[LOSSES[loss].scaled[name]]}"
    text += f" [{min(values):.3g}, {max(values):.3g}]"
    edges = sum(field in entry["on_edge"] for entry in cell.searches)
    texts.append(text + (f" ({edges} on edge)" if edges else ""))
  return texts


def _active_fraction(runs: Sequence[Run]) -> float:
  """The share of nonzero terms at the last step.

  With several objectives, that of the first. NaN if no term can be 0, as in
  softmax losses.
  """
  for name in ("train/active_fraction", "train/0/active_fraction"):
    if name in runs[0].result["train"]:
      return mean_of(run.result["train"][name] for run in runs)
  return float("nan")


def mean_of(values: Iterable[float]) -> float:
  """The mean; NaN of an empty list."""
  numbers = list(values)
  return float(np.mean(numbers)) if numbers else float("nan")
