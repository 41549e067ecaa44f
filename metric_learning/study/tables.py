"""The tables of a study, and their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metric_learning.evaluation import heading
from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.curve_table import curve_lines, curve_table
from metric_learning.study.difference_curves import difference_curves
from metric_learning.study.formats import as_csv, as_latex, as_markdown
from metric_learning.study.results import Study
from metric_learning.study.spread_table import spread_table
from metric_learning.study.statistics import (
  Interval,
  fold_means,
  standard_error,
)
from metric_learning.study.sweeps import spec_name
from metric_learning.study.table_lines import (
  Line,
  baseline_scores,
  by_name,
  in_words,
  mean_of,
  table_lines,
)
from metric_learning.study.table_notes import how_compared, notes, plural
from metric_learning.training import run_files


def _number(value: float) -> str:
  return "–" if not np.isfinite(value) else f"{value:.3f}"


def interval_text(interval: Interval, kind: str) -> str:
  """A mean with its interval: ± half width, or [low, high] over classes."""
  # A single run has no interval over seeds; some scores have none over classes.
  if not np.isfinite(interval.half_width):
    return _number(interval.mean)
  if kind == "classes":
    return f"{interval.mean:.3f} {_ends(interval.low, interval.high)}"
  return f"{interval.mean:.3f} ± {interval.half_width:.3f}"


def _ends(low: float, high: float) -> str:
  return f"[{low:.3f}, {high:.3f}]"


def signed_text(difference: Interval) -> str:
  """A difference with its sign and ± its half width."""
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
    "searches",
    "trials",
    "searched",
    "seeds",
    "s/run",
  ]


def _texts(line: Line, study: Study) -> list[str]:
  """The texts of a line of the table, one for each of `_heads`."""
  name = line["name"]
  if line["n"] and line.get("diverged"):
    name += f" ({line['diverged']} diverged)"
  if line["n"] and line.get("unscored"):
    name += f" ({line['unscored']} without a score)"
  if line.get("stale"):
    name += f" (STALE: {line['stale']})"
  if line.get("warned"):
    name += f" (WARNED: {line['warned']} of {line['n']})"
  nothing = "–"
  if line["n"] == 0:
    nothing = "stale" if line.get("stale") else "failed"
    if line["chosen"].startswith("not chosen"):
      nothing = "not chosen"

  def score(column: str) -> str:
    if column not in line:
      return nothing
    text = interval_text(line[column], line["interval"])
    classes = line.get(f"{column} (classes)")
    return text + (f" {_ends(classes.low, classes.high)}" if classes else "")

  collapsed = line.get("collapsed")
  folds = line.get("folds", 1)
  repeated = str(line.get("seeds", "–"))
  if "searches" in line:
    repeated = f"{line['searches']} × {line['seeds'] // line['searches']}"
  return [
    name,
    line["chosen"],
    *(score(c) for c in study.config["eval"]["columns"]),
    *(score(f"{c} (last)") for c in study.compared["columns"]),
    _number(line.get("active fraction", float("nan"))),
    f"{line['effective rank']:.1f}" if "effective rank" in line else "–",
    "–" if collapsed is None else f"{collapsed} of {line['n']}",
    str(line.get("searches", "–")),
    str(line.get("trials", "–")),
    line.get("searched", "–"),
    f"{repeated} × {folds} folds" if folds > 1 else repeated,
    f"{line['seconds']:.1f}" if "seconds" in line else "–",
  ]


def filled(
  study: Study, lines: Sequence[Line]
) -> tuple[list[str], list[list[str]]]:
  """Heads and texts, without columns that are empty in all lines."""
  heads, texts = _heads(study), [_texts(line, study) for line in lines]
  columns = zip(heads, *texts, strict=True)
  filled = [(head, *own) for head, *own in columns if {*own} != {"–"}]
  heads, *texts = map(list, zip(*filled, strict=True))
  return heads, texts


def to_markdown(study: Study) -> str:
  """The tables with their notes."""
  return _to_markdown(study, table_lines(study), compare_cells(study))


def _to_markdown(
  study: Study, lines: Sequence[Line], compared: Sequence[Compared]
) -> str:
  heads, texts = filled(study, lines)
  text = f"{as_markdown(heads, texts)}\n\n{notes(study, lines, heads)}\n"
  if compared:
    table = as_markdown(*comparison_texts(study, compared))
    text += f"\n{table}\n\n{how_compared(study, compared)}\n"
  return text + spread_table(study) + _fold_tables(study)


def comparison_texts(
  study: Study, compared: Sequence[Compared]
) -> tuple[list[str], list[list[str]]]:
  """The heads and lines of the table of comparisons."""
  heads = ["", "compared with", "score", "difference", "n", "test classes"]
  heads += ["d", "p", "p (family)", "p (equal)", "verdict"]
  most = max(one.judged.difference.n for one in compared)
  lines = []
  for one in compared:
    judged, n = one.judged, one.judged.difference.n
    lines.append(
      [
        in_words(one.name),
        in_words(one.reference),
        heading(one.column),
        signed_text(judged.difference),
        str(n) if n == most else f"{n} of {most} {plural(study)}",
        _ends(*one.over_classes) if one.over_classes else "–",
        "–" if np.isnan(judged.effect) else f"{judged.effect:+.2f}",
        f"{judged.p:.4f}" if judged.is_tested else "–",
        f"{judged.corrected:.4f}" if judged.is_tested else "–",
        f"{judged.equal:.4f}" if judged.is_tested else "–",
        judged.verdict,
      ]
    )
  return heads, lines


def _fold_tables(study: Study) -> str:
  """A table of each column by fold, if there are several folds."""
  folds = sorted(
    {r.spec.config.data.fold for c in study.cells for r in c.chosen.runs}
  )
  if len(folds) < 2:
    return ""
  heads = ["", *map(str, folds), "mean ± standard error"]
  text = ""
  for column in study.config["eval"]["columns"]:
    scored = [
      (name, baseline_scores(scores, column))
      for name, scores in by_name(study.baselines)
    ]
    for cell in study.cells:
      runs = cell.chosen.runs
      scores = {run.replicate: run.tested.selected[column] for run in runs}
      scored.append((in_words(cell.name), scores))
    lines = [
      _fold_line(name, fold_means(scores), folds) for name, scores in scored
    ]
    title = f"{heading(column)} by fold (mean over seeds), and over folds"
    text += f"\n{title}\n\n{as_markdown(heads, lines)}\n"
  return text


def _fold_line(
  name: str, means: Mapping[int, float], folds: Sequence[int]
) -> list[str]:
  values = list(means.values())
  error = standard_error(values)
  over = _number(mean_of(values))
  return [
    name,
    *(_number(means.get(fold, float("nan"))) for fold in folds),
    over + (f" ± {error:.3f}" if np.isfinite(error) else ""),
  ]


def to_csv(study: Study) -> str:
  """All numbers of all lines: mean, low and high of each interval."""
  return as_csv(table_lines(study))


def _comparison_lines(compared: Sequence[Compared]) -> list[Line]:
  """All numbers of all comparisons."""
  return [
    {
      "name": in_words(one.name),
      "reference": in_words(one.reference),
      "score": one.column,
      "difference": one.judged.difference,
      "n": one.judged.difference.n,
      "classes low": one.over_classes[0] if one.over_classes else "",
      "classes high": one.over_classes[1] if one.over_classes else "",
      "effect": one.judged.effect,
      "p": one.judged.p if one.judged.is_tested else "",
      "p (family)": one.judged.corrected if one.judged.is_tested else "",
      "p (equal)": one.judged.equal if one.judged.is_tested else "",
      "verdict": one.judged.verdict,
    }
    for one in compared
  ]


def to_latex(study: Study) -> str:
  r"""Booktabs tables: `\usepackage{booktabs}`."""
  return _to_latex(study, table_lines(study), compare_cells(study))


def _to_latex(
  study: Study, lines: Sequence[Line], compared: Sequence[Compared]
) -> str:
  heads, texts = filled(study, lines)
  text = as_latex(heads, texts, notes(study, lines, heads))
  if compared:
    note = how_compared(study, compared)
    text += "\n" + as_latex(*comparison_texts(study, compared), note)
  return text


def trace(study: Study) -> dict[str, Any]:
  """For each line of the table, its runs with their configs and commits.

  Cells are identified by their fields, since their texts may be equal.
  """
  baselines = {
    name: {"commits": sorted({b.get("commit", "unknown") for b in records})}
    for name, records in by_name(study.baselines)
  }
  cells = {
    spec_name(cell.name): {
      "name": in_words(cell.name),
      "runs": [
        {
          "folder": f"{run.folder.parent.name}/{run.spec.name}",
          "config digest": run.result["digest"],
          "commit": run.result["commit"],
        }
        for run in cell.chosen.runs
      ],
      "stale": cell.stale,
      **({"trials": cell.folder} if cell.folder else {}),
    }
    for cell in study.cells
  }
  given_up = {
    spec_name(entry["cell"]): {
      "name": in_words(entry["cell"]),
      "runs": [],
      "trials": entry["folder"],
    }
    for entry in study.given_up
  }
  return {**baselines, **cells, **given_up}


def write_tables(study: Study) -> list[Path]:
  """Writes table.md, .csv and .tex, comparisons.csv and trace.json.

  For cells compared at equal numbers, it first writes curves.md and .csv.
  """
  lines, compared = table_lines(study), compare_cells(study)
  curves, of_curves, written = difference_curves(study), [], []
  if curves:
    heads, _ = filled(study, lines)
    text = f"{curve_table(study, curves)}\n\n{notes(study, lines, heads)}\n"
    of_curves = [
      ("curves.md", text),
      ("curves.csv", as_csv(curve_lines(curves))),
    ]
  for name, text in (
    *of_curves,
    ("table.md", _to_markdown(study, lines, compared)),
    ("table.csv", as_csv(lines)),
    ("comparisons.csv", as_csv(_comparison_lines(compared))),
    ("table.tex", _to_latex(study, lines, compared)),
    ("trace.json", run_files.to_json(trace(study), indent=2) + "\n"),
  ):
    path = study.folder / name
    run_files.write_atomically(path, lambda f, t=text: f.write(t.encode()))
    written.append(path)
  return written
