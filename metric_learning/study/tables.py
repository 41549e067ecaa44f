"""A study as tables: Markdown to read, CSV to compute with, LaTeX to print."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.lines import (
  Line,
  by_name,
  cell_name,
  in_words,
  mean_of,
  table_lines,
)
from metric_learning.study.results import Study, scores_on_test
from metric_learning.study.statistics import (
  EXACT_UP_TO,
  LEVEL,
  PATTERNS,
  Interval,
  can_be_tested,
  seeds_needed,
  standard_error,
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


def heading(column: str) -> str:
  """What stands above a column.

  >>> heading("own/few_shot_20_way_1_shot"), heading("geometry/alignment")
  ('20-way 1-shot', 'geometry/alignment')
  """
  few_shot = re.fullmatch(r"own/few_shot_(\d+)_way_(\d+)_shot", column)
  if few_shot:
    return f"{few_shot[1]}-way {few_shot[2]}-shot"
  return _HEADINGS.get(column, column)


def _number(value: float) -> str:
  return "–" if not np.isfinite(value) else f"{value:.3f}"


def _interval(interval: Interval, kind: str) -> str:
  # One run has no interval over seeds, and not each score one over classes.
  if not np.isfinite(interval.half_width):
    return _number(interval.mean)
  if kind == "classes":
    return f"{interval.mean:.3f} {_ends(interval.low, interval.high)}"
  return f"{interval.mean:.3f} ± {interval.half_width:.3f}"


def _ends(low: float, high: float) -> str:
  return f"[{low:.3f}, {high:.3f}]"


def _signed(difference: Interval) -> str:
  if not np.isfinite(difference.mean):
    return "–"
  if not np.isfinite(difference.half_width):
    return f"{difference.mean:+.3f}"
  return f"{difference.mean:+.3f} ± {difference.half_width:.3f}"


def _heads(study: Study) -> list[str]:
  columns = study.config["eval"]["columns"]
  return [
    "",
    "chosen on validation",
    *(heading(c) for c in columns),
    *(f"{heading(c)} (last)" for c in study.compared["columns"]),
    "active",
    "eff. rank",
    "collapsed",
    "trials",
    "seeds",
    "s/run",
  ]


def _texts(line: Line, study: Study) -> list[str]:
  """A line of the table, one text for each of `_heads`."""
  name = line["name"]
  if line["n"] and line.get("diverged"):
    name += f" ({line['diverged']} diverged)"
  if line.get("stale"):
    name += f" (STALE: {line['stale']})"
  nothing = "failed" if line["n"] == 0 else "–"

  def score(column):
    if column not in line:
      return nothing
    text = _interval(line[column], line["interval"])
    classes = line.get(f"{column} (classes)")
    return text + (f" {_ends(classes.low, classes.high)}" if classes else "")

  collapsed = line.get("collapsed")
  folds = line.get("folds", 1)
  repeated = str(line.get("seeds", "–"))
  return [
    name,
    line["chosen"],
    *(score(c) for c in study.config["eval"]["columns"]),
    *(score(f"{c} (last)") for c in study.compared["columns"]),
    _number(line.get("active fraction", float("nan"))),
    f"{line['effective rank']:.1f}" if "effective rank" in line else "–",
    "–" if collapsed is None else f"{collapsed} of {line['n']}",
    str(line.get("trials", "–")),
    f"{repeated} × {folds} folds" if folds > 1 else repeated,
    f"{line['seconds']:.1f}" if "seconds" in line else "–",
  ]


def to_markdown(study: Study) -> str:
  """The tables with what a reader must know to trust them."""
  lines = table_lines(study)
  table = _markdown(_heads(study), [_texts(line, study) for line in lines])
  text = f"{table}\n\n{notes(study, lines)}\n"
  compared = compare_cells(study)
  if compared:
    table = _markdown(*_comparison_texts(compared))
    text += f"\n{table}\n\n{how_compared(study, compared)}\n"
  return text + _fold_tables(study)


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
  rows = [heads, ["---"] * len(heads), *lines]
  return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def notes(study: Study, lines: Sequence[Line]) -> str:
  """What the intervals are, what was tuned on what, and at which commit."""
  data = study.config["data"]
  commits = sorted(
    {run.result["commit"] for cell in study.cells for run in cell.chosen.runs}
  )
  kinds = {line["interval"] for line in lines}
  if any(name.endswith("(classes)") for line in lines for name in line):
    kinds.add("classes")
  over = {
    "seeds": "± is a 95 % t-interval over seeds",
    "folds": "± is a 95 % t-interval over folds, each the mean of its seeds",
    "classes": "[ ] is a 95 % bootstrap interval over test classes",
  }
  noted = [
    f"{data['name']}, split {data['split']!r}, {data['protocol']}",
    *(over[kind] for kind in ("seeds", "folds", "classes") if kind in kinds),
    f"chosen by {study.config['eval']['select']} on validation; test classes"
    " were scored after that, at the selected checkpoint, and where it says"
    " so at the last",
    "d̄ is the mean distance at initialisation",
    "the runs of each line: trace.json",
    f"commit {', '.join(commits)}",
  ]
  if study.missing:
    noted.append(f"UNFINISHED: {study.missing} runs are missing")
  if study.stale:
    noted.append(
      f"STALE: {len(study.stale)} runs no longer match their configs and are"
      " left out"
    )
  return "; ".join(noted) + "."


def _comparison_texts(
  compared: Sequence[Compared],
) -> tuple[list[str], list[list[str]]]:
  """Heads and lines of the table of comparisons."""
  heads = ["", "compared with", "score", "difference", "test classes", "d"]
  heads += ["p", "p (Holm)", "verdict"]
  lines = []
  for one in compared:
    is_tested = one.judged.is_tested
    lines.append(
      [
        in_words(one.name),
        in_words(one.reference),
        heading(one.column),
        _signed(one.judged.difference),
        _ends(*one.over_classes) if one.over_classes else "–",
        "–" if np.isnan(one.judged.effect) else f"{one.judged.effect:+.2f}",
        f"{one.judged.p:.4f}" if is_tested else "–",
        f"{one.judged.holm:.4f}" if is_tested else "–",
        one.judged.verdict,
      ]
    )
  return heads, lines


def how_compared(study: Study, compared: Sequence[Compared]) -> str:
  """How the verdicts came about, and what too few seeds leave open."""
  family, delta = len(compared), study.compared["delta"]
  repeated = [c.judged.difference.n for c in compared if c.judged.difference.n]
  runs = [run for cell in study.cells for run in cell.chosen.runs]
  kind = "seed" if len({r.row.config.data.fold for r in runs}) < 2 else "fold"
  text = (
    f"Differences are paired by {kind}, with a 95 % t-interval, and beside it a"
    " 95 % bootstrap interval over test classes; d is their mean over their"
    " standard deviation."
  )
  if any(can_be_tested(n, family) for n in repeated):
    draws = ""
    if max(repeated) > EXACT_UP_TO:
      draws = f" (more than {EXACT_UP_TO}: {PATTERNS:,} random patterns)"
    text += (
      f" p is that of the exact two-sided sign-flip test{draws}, by Holm over"
      f" the family of {family}. Better or worse: p (Holm) ≤ {LEVEL:g}; else no"
      f" difference: the 90 % t-interval is inside ±{delta:g}; else unresolved."
    )
  if not all(can_be_tested(n, family) for n in repeated):
    n = min(repeated)
    text += (
      f" {n} {kind}s cannot support a family of {family}: the smallest p is"
      f" 2/2^{n}, by Holm {min(1, family * 2 / 2**n):.2g}, over {LEVEL:g}. Read"
      f" the intervals alone; {seeds_needed(family)} {kind}s would do."
    )
  return text


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
    for name, found in by_name(study.baselines):
      values = [
        mean_of(b["test"][column] for b in found if b["fold"] == fold)
        for fold in folds
      ]
      text += [_fold_line(name, values)]
    for cell in study.cells:
      values = [
        mean_of(
          scores_on_test(r)["selected"][column]
          for r in cell.chosen.runs
          if r.row.config.data.fold == fold
        )
        for fold in folds
      ]
      text += [_fold_line(cell_name(cell), values)]
  return "\n".join(text) + "\n"


def _fold_line(name: str, values: Sequence[float]) -> str:
  error = f"{mean_of(values):.3f} ± {standard_error(values):.3f}"
  return " | ".join([f"| {name}", *map(_number, values), error]) + " |"


def to_csv(study: Study) -> str:
  """Every number of every line: mean, low, high of each interval."""
  return _csv(table_lines(study))


def _csv(lines: Sequence[Line]) -> str:
  rows = []
  for line in lines:
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


def comparisons_to_csv(study: Study) -> str:
  """Every number of every comparison."""
  lines = [
    {
      "name": in_words(one.name),
      "reference": in_words(one.reference),
      "score": one.column,
      "difference": one.judged.difference,
      "n": one.judged.difference.n,
      "classes low": one.over_classes[0] if one.over_classes else "",
      "classes high": one.over_classes[1] if one.over_classes else "",
      "effect": one.judged.effect,
      "p": one.judged.p,
      "p (Holm)": one.judged.holm,
      "verdict": one.judged.verdict,
    }
    for one in compare_cells(study)
  ]
  return _csv(lines)


def to_latex(study: Study) -> str:
  r"""Booktabs tables: `\usepackage{booktabs}`."""
  lines = table_lines(study)
  texts = [_texts(line, study) for line in lines]
  text = _latex(_heads(study), texts, notes(study, lines))
  compared = compare_cells(study)
  if compared:
    note = how_compared(study, compared)
    text += "\n" + _latex(*_comparison_texts(compared), note)
  return text


def _latex(
  heads: Sequence[str], lines: Sequence[Sequence[str]], note: str
) -> str:
  def escape(text):
    for a, b in (("_", r"\_"), ("%", r"\%"), ("d̄", r"$\bar d$")):
      text = text.replace(a, b)
    for a, b in (("±", r"$\pm$"), ("×", r"$\times$"), ("≤", r"$\le$")):
      text = text.replace(a, b)
    return text.replace("–", "--")

  return "\n".join(
    [
      r"\begin{tabular}{" + "l" * len(heads) + "}",
      r"\toprule",
      " & ".join(map(escape, heads)) + r" \\",
      r"\midrule",
      *(" & ".join(map(escape, line)) + r" \\" for line in lines),
      r"\bottomrule",
      r"\end{tabular}",
      "% " + escape(note),
      "",
    ]
  )


def trace(study: Study) -> dict[str, Any]:
  """From each line of the table to its runs, their configs and commits."""
  return {
    cell_name(cell): {
      "runs": [
        {
          "folder": f"{run.folder.parent.name}/{run.row.name}",
          "config digest": run.result["digest"],
          "commit": run.result["commit"],
        }
        for run in cell.chosen.runs
      ],
      "stale": cell.stale,
    }
    for cell in study.cells
  }


def write_tables(study: Study) -> list[Path]:
  """Writes table.md, .csv and .tex, comparisons.csv and trace.json."""
  written = []
  for name, text in (
    ("table.md", to_markdown(study)),
    ("table.csv", to_csv(study)),
    ("comparisons.csv", comparisons_to_csv(study)),
    ("table.tex", to_latex(study)),
    ("trace.json", json.dumps(trace(study), indent=2) + "\n"),
  ):
    path = study.folder / name
    records.write_atomically(path, lambda f, t=text: f.write(t.encode()))
    written.append(path)
  return written
