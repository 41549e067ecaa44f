"""A study as a table: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.study.results import (
  Cell,
  Run,
  Study,
  over_replicates,
  scores_on_test,
)
from metric_learning.study.statistics import (
  Interval,
  standard_error,
  t_interval,
)
from metric_learning.training import records

_HEADINGS = {
  "own/recall_at_1": "R@1 own",
  "own/map_at_r": "MAP@R own",
  "cosine/recall_at_1": "R@1 cosine",
  "cosine/map_at_r": "MAP@R cosine",
  "own/eer": "EER",
  "own/frr_at_far_0.1": "FRR at FAR 10 %",
  "own/frr_at_far_0.075": "FRR at FAR 7.5 %",
  "own/frr_at_far_0.05": "FRR at FAR 5 %",
  "own/auc": "AUC",
  "own/accuracy": "accuracy",
  "cosine/eer": "EER cosine",
  "clustering/nmi": "NMI",
  "clustering/ami": "AMI",
  "clustering/f1": "F1",
}

Line = dict[str, Any]


def heading(column: str) -> str:
  """What stands above a column.

  >>> heading("own/few_shot_20_way_1_shot"), heading("geometry/alignment")
  ('20-way 1-shot', 'geometry/alignment')
  """
  few_shot = re.fullmatch(r"own/few_shot_(\d+)_way_(\d+)_shot", column)
  if few_shot:
    return f"{few_shot[1]}-way {few_shot[2]}-shot"
  return _HEADINGS.get(column, column)


def table_lines(study: Study) -> list[Line]:
  """One dict for each line: a name, what was chosen, and an Interval a column.

  Networks: t-interval over seeds, or over folds. Pixels and PCA on one split:
  bootstrap over test classes.
  """
  columns = study.config["eval"]["columns"]
  baselines = [
    _baseline_line(name, found, columns)
    for name, found in _grouped(study.baselines)
  ]
  return baselines + [_cell_line(cell, columns) for cell in study.cells]


def _grouped(baselines: Sequence[dict[str, Any]]):
  names = dict.fromkeys(b["name"] for b in baselines)
  return [(n, [b for b in baselines if b["name"] == n]) for n in names]


def _baseline_line(name, found, columns) -> Line:
  folds = sorted({b["fold"] for b in found})
  line: Line = {
    "name": name,
    "chosen": "",
    "interval": "folds" if len(folds) > 1 else "seeds",
    "n": len(found),
    "effective rank": _mean(
      b["test"]["geometry/effective_rank"] for b in found
    ),
  }
  for column in columns:
    by_fold = [
      float(np.mean([b["test"][column] for b in found if b["fold"] == fold]))
      for fold in folds
    ]
    values = [b["test"][column] for b in found] if len(folds) == 1 else by_fold
    line[column] = t_interval(values)
    classes = found[0].get("class_interval", {}).get(column)
    if len(folds) == 1 and classes is not None:
      line[column] = Interval(values[0], classes[0], classes[1], 1)
      line["interval"] = "classes"
  return line


def _cell_line(cell: Cell, columns) -> Line:
  runs = cell.chosen.runs
  folds = {run.row.config.data.fold for run in runs}
  line: Line = {
    "name": cell_name(cell),
    "chosen": ", ".join(chosen_numbers(cell)),
    "interval": "folds" if len(folds) > 1 else "seeds",
    "n": len(runs),
    "tried": len(cell.settings),
    "validation": cell.chosen.validation,
    "diverged": cell.diverged,
  }
  if not runs:
    return line
  tests = {id(run): scores_on_test(run) for run in runs}
  for column in columns:
    for suffix, kind in (("", "selected"), (" (last)", "last")):
      line[column + suffix] = over_replicates(
        runs, lambda run, k=kind, c=column: tests[id(run)][k][c]
      )
  scores = [tests[id(run)]["selected"] for run in runs]
  line["effective rank"] = _mean(s["geometry/effective_rank"] for s in scores)
  line["collapsed"] = sum(bool(s["geometry/collapsed"]) for s in scores)
  line["active fraction"] = _active_fraction(runs)
  line["seconds"] = _mean(run.result["seconds"] for run in runs)
  return line


def cell_name(cell: Cell) -> str:
  """A cell in words: the values of its fields.

  Fields whose value does not speak for itself are named.
  """
  plain = ("loss.name", "model.name", "metric")

  def said(field, value):
    if field == "data.image_size":
      return "×".join(map(str, value))
    name = "" if field in plain else f"{field.split('.')[-1]} "
    return f"{name}{value}"

  fields = dict(cell.name)
  fields.pop("margin_unit", None)
  # What a reader looks for first stands first.
  order = [name for name in plain if name in fields]
  order += [name for name in fields if name not in plain]
  return ", ".join(said(field, fields[field]) for field in order)


def chosen_numbers(cell: Cell) -> list[str]:
  """The tuned numbers: as given, in absolute units, flagged on an edge.

  A number times d̄ is in units of the mean distance at initialisation.
  """
  said = []
  for field, value in cell.chosen.tuned.items():
    name = field.split(".")[-1]
    text = f"{name} {value:g}"
    absolute = [run.result["numbers"][field] for run in cell.chosen.runs]
    if absolute and not np.isclose(np.mean(absolute), value):
      text += f" d̄ = {np.mean(absolute):.3g}"
    if field in cell.on_edge:
      text += " (edge)"
    said.append(text)
  return said


def _active_fraction(runs: Sequence[Run]) -> float:
  """Of the loss's first part, at the last step; NaN for softmax losses."""
  name = next(
    (
      k
      for k in runs[0].result["train"]
      if k.endswith("_active_fraction") and "softmax" not in k
    ),
    None,
  )
  if name is None:
    return float("nan")
  return _mean(run.result["train"][name] for run in runs)


def _mean(values) -> float:
  return float(np.mean(list(values)))


# --- Writing ----------------------------------------------------------------


def _number(value: float) -> str:
  return "–" if not np.isfinite(value) else f"{value:.3f}"


def _interval(interval: Interval, kind: str) -> str:
  if kind == "classes":
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
  if not np.isfinite(interval.half_width):
    return _number(interval.mean)
  return f"{interval.mean:.3f} ± {interval.half_width:.3f}"


def to_markdown(study: Study) -> str:
  """The table with what a reader must know to trust it."""
  columns = study.config["eval"]["columns"]
  heads = [heading(c) for c in columns]
  head = [
    "",
    "chosen on validation",
    *heads,
    "active",
    "eff. rank",
    "n",
    "s/run",
  ]
  lines = [head, ["---"] * len(head)]
  for line in table_lines(study):
    lines.append(
      [
        line["name"] + (" (collapsed)" if line.get("collapsed") else ""),
        line["chosen"],
        *(
          _interval(line[c], line["interval"]) if c in line else "diverged"
          for c in columns
        ),
        _number(line.get("active fraction", float("nan"))),
        f"{line.get('effective rank', float('nan')):.1f}",
        str(line["n"]),
        f"{line['seconds']:.1f}" if "seconds" in line else "",
      ]
    )
  table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
  return f"{table}\n\n{notes(study)}\n" + _fold_tables(study)


def notes(study: Study) -> str:
  """What the intervals are, what was tuned on what, and at which commit."""
  data = study.config["data"]
  commits = sorted(
    {run.result["commit"] for cell in study.cells for run in cell.chosen.runs}
  )
  kinds = {line["interval"] for line in table_lines(study)}
  over = {
    "seeds": "± is a 95 % t-interval over seeds",
    "folds": "± is a 95 % t-interval over folds, each the mean of its seeds",
    "classes": "[ ] is a 95 % bootstrap interval over test classes",
  }
  said = [
    f"{data['name']}, split {data['split']!r}, {data['protocol']}",
    *(over[kind] for kind in ("seeds", "folds", "classes") if kind in kinds),
    f"chosen by {study.config['eval']['select']} on validation; test classes"
    " were scored after that, at the selected checkpoint",
    "d̄ is the mean distance at initialisation",
    f"commit {', '.join(commits)}",
  ]
  if study.missing:
    said.append(f"UNFINISHED: {study.missing} runs are missing")
  return "; ".join(said) + "."


def _fold_tables(study: Study) -> str:
  """Each column by fold, where there are folds."""
  folds = sorted(
    {r.row.config.data.fold for c in study.cells for r in c.chosen.runs}
  )
  if len(folds) < 2:
    return ""
  text = []
  for column in study.config["eval"]["columns"]:
    title = heading(column)
    text += [f"\n{title} by fold (mean over seeds), and over folds\n"]
    text += [
      "| | " + " | ".join(map(str, folds)) + " | mean ± standard error |"
    ]
    text += ["|" + " --- |" * (len(folds) + 2)]
    for name, found in _grouped(study.baselines):
      values = [
        _mean(b["test"][column] for b in found if b["fold"] == fold)
        for fold in folds
      ]
      text += [_fold_line(name, values)]
    for cell in study.cells:
      values = [
        _mean(
          scores_on_test(r)["selected"][column]
          for r in cell.chosen.runs
          if r.row.config.data.fold == fold
        )
        for fold in folds
      ]
      text += [_fold_line(cell_name(cell), values)]
  return "\n".join(text) + "\n"


def _fold_line(name: str, values: Sequence[float]) -> str:
  error = f"{_mean(values):.3f} ± {standard_error(values):.3f}"
  return " | ".join([f"| {name}", *map(_number, values), error]) + " |"


def to_csv(study: Study) -> str:
  """Every number of every line: mean, low, high of each interval."""
  rows = []
  for line in table_lines(study):
    row: dict[str, Any] = {}
    for name, value in line.items():
      if isinstance(value, Interval):
        row |= {
          name: value.mean,
          f"{name} low": value.low,
          f"{name} high": value.high,
        }
      else:
        row[name] = value
    rows.append(row)
  fields = list(dict.fromkeys(name for row in rows for name in row))
  out = io.StringIO()
  writer = csv.DictWriter(out, fields, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue()


def to_latex(study: Study) -> str:
  r"""A booktabs table: `\usepackage{booktabs}`."""
  columns = study.config["eval"]["columns"]

  def escape(text):
    for a, b in (("_", r"\_"), ("%", r"\%"), ("d̄", r"$\bar d$")):
      text = text.replace(a, b)
    return text.replace("±", r"$\pm$").replace("–", "--")

  heads = [escape(heading(c)) for c in columns]
  body = []
  for line in table_lines(study):
    values = (
      _interval(line[c], line["interval"]) if c in line else "diverged"
      for c in columns
    )
    cells = [line["name"], line["chosen"], *values]
    body.append(" & ".join(escape(cell) for cell in cells) + r" \\")
  return "\n".join(
    [
      r"\begin{tabular}{ll" + "l" * len(columns) + "}",
      r"\toprule",
      " & ".join(["", "chosen on validation", *heads]) + r" \\",
      r"\midrule",
      *body,
      r"\bottomrule",
      r"\end{tabular}",
      "% " + escape(notes(study)),
      "",
    ]
  )


def write_tables(study: Study) -> list[Path]:
  """Writes table.md, table.csv and table.tex into the study's folder."""
  written = []
  for name, text in (
    ("table.md", to_markdown(study)),
    ("table.csv", to_csv(study)),
    ("table.tex", to_latex(study)),
  ):
    path = study.folder / name
    records.write_atomically(path, lambda f, t=text: f.write(t.encode()))
    written.append(path)
  return written
