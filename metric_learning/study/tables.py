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
from metric_learning.study.runs import HALVED_SEARCHES
from metric_learning.study.spread_table import cost_note, spread_table
from metric_learning.study.statistics import (
  EXACT_UP_TO,
  LEVEL,
  PATTERNS,
  TOO_FEW,
  UNITS_NEEDED,
  Comparison,
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
  unit_of,
  without_values,
)
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
  table = as_markdown(*filled(study, lines))
  text = f"{table}\n\n{notes(study, lines)}\n"
  if compared:
    table = as_markdown(*comparison_texts(study, compared))
    text += f"\n{table}\n\n{how_compared(study, compared)}\n"
  return text + spread_table(study) + _fold_tables(study)


# Notes on columns, shown if the column is.
_MEANINGS = {
  "active": "active: the share of nonzero terms of the loss at the last step; "
  "– if no term can be 0, as in a softmax",
  "trials": "trials: the number of settings from which validation chose",
  "searched": "searched: the number of hyperparameters that each trial drew, "
  "and the learning rate if that was drawn too",
}


def notes(study: Study, lines: Sequence[Line]) -> str:
  """The notes on intervals, choice of settings, data and commit."""
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
    "searches": "± is a 95 % t-interval over searches, each the mean of its"
    " final runs, and of untrained networks over seeds",
    "classes": "[ ] is a 95 % bootstrap interval over test classes",
  }
  # The note on searches covers the lines over seeds.
  skipped = "seeds" if "searches" in kinds else ""
  heads, _ = filled(study, lines)
  noted = [
    f"{data['name']}, split {data['split']!r}, {data['protocol']}",
    *study.provenance,
    *(over[kind] for kind in over if kind in kinds and kind != skipped),
    _how_chosen(study),
    *cost_note(study),
    *without_values(study, heads),
    "d̄ is the mean distance at initialization",
    *(text for head, text in _MEANINGS.items() if head in heads),
    *["baselines are compared under L2"] * bool(study.baselines),
    "trace.json lists the runs of each line",
    f"commit {', '.join(commits)}",
  ]
  if not _is_nested(study):
    noted.append(
      "NOT NESTED: one setting was chosen for all folds by its mean over them, "
      "so a class of the validation part of one fold may be a test class of "
      "another"
    )
  searched = {line.get("searched", "–") for line in lines} - {"–"}
  if len(searched) > 1:
    noted.append(
      "UNEQUAL SEARCH: the number of searched values of a cell is "
      f"{' or '.join(sorted(searched))}"
    )
  noted += _warnings(study)
  if study.missing:
    noted.append(f"UNFINISHED: {study.missing} runs are missing")
  if study.stale:
    noted.append(
      f"STALE: {len(study.stale)} runs do not match their configs and are left "
      "out"
    )
  return "; ".join(noted) + "."


# The largest number of warnings under a table.
_SHOWN = 3


def _warnings(study: Study) -> list[str]:
  """The warnings of the chosen runs, for example that they train nothing.

  Runs of an earlier version have no warnings.
  """
  chosen = [run for cell in study.cells for run in cell.chosen.runs]
  warnings = [
    f"{run.spec.name}: {warning}"
    for run in chosen
    for warning in run.result.get("warnings", ())
  ]
  if not warnings:
    return []
  more = f" and {len(warnings) - _SHOWN} more" if len(warnings) > _SHOWN else ""
  return [f"WARNED: {', '.join(warnings[:_SHOWN])}{more}"]


def _how_chosen(study: Study) -> str:
  """What was chosen on validation, and when test classes were scored."""
  select = study.config["eval"]["select"]
  chosen = [run for cell in study.cells for run in cell.chosen.runs]
  if any(run.spec.config.data.train_on != "train" for run in chosen):
    return (
      f"settings were chosen by {select} on validation, and the runs trained "
      "on the validation classes too, so the last checkpoint is scored; test "
      "classes were scored after that"
    )
  return (
    f"settings and checkpoints were chosen by {select} on validation; test "
    "classes were scored after that, at the selected checkpoint unless a "
    "column says last"
  )


def _is_nested(study: Study) -> bool:
  """Whether no test class of a fold had a part in choosing its setting."""
  for cell in study.cells:
    runs = [run for setting in cell.settings for run in setting.runs]
    folds = {run.spec.config.data.fold for run in runs}
    if len(cell.settings) > 1 and len(folds) > 1:
      return False
  return True


def _unit(study: Study) -> str:
  """The unit of pairing: a seed, a fold or a search."""
  runs = [run for cell in study.cells for run in cell.chosen.runs]
  return {"seeds": "seed", "folds": "fold", "searches": "search"}[unit_of(runs)]


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
        str(n) if n == most else f"{n} of {most} {_plural(study)}",
        _ends(*one.over_classes) if one.over_classes else "–",
        "–" if np.isnan(judged.effect) else f"{judged.effect:+.2f}",
        f"{judged.p:.4f}" if judged.is_tested else "–",
        f"{judged.corrected:.4f}" if judged.is_tested else "–",
        f"{judged.equal:.4f}" if judged.is_tested else "–",
        judged.verdict,
      ]
    )
  return heads, lines


def how_compared(study: Study, compared: Sequence[Compared]) -> str:
  """The note on verdicts, and on what too few units leave open."""
  unit = _unit(study)
  text = (
    f"Differences are paired by {unit}, with a 95 % t-interval and a 95 % "
    f"interval over test classes, {_how_drawn(study)}. n is the number of "
    "pairs; d is their mean difference divided by its standard deviation."
  )
  tested = [one.judged for one in compared if one.judged.is_tested]
  text += _how_tested(study, tested, len(compared)) if tested else ""
  few = [c.judged for c in compared if c.judged.verdict == TOO_FEW]
  if few and not tested:
    n, units = max(one.difference.n for one in few), _plural(study)
    text += (
      f" {n} {units} cannot be tested: their smallest p is 2/2^{n} = "
      f"{2 / 2**n:.2g}, over {LEVEL:g}. Read the intervals only; a test needs "
      f"{UNITS_NEEDED} {units}."
    )
  return text


def _how_drawn(study: Study) -> str:
  """How the interval over test classes is computed."""
  if _unit(study) == "search":
    return (
      "from random halves of the classes, with the gallery halved too, in the "
      f"first {HALVED_SEARCHES} searches"
    )
  return "by the bootstrap with a fixed gallery"


def _plural(study: Study) -> str:
  return {"search": "searches"}.get(_unit(study), f"{_unit(study)}s")


def _how_tested(study: Study, tested: Sequence[Comparison], family: int) -> str:
  """The note on p and the verdicts."""
  draws = ""
  if max(one.difference.n for one in tested) > EXACT_UP_TO:
    draws = f" (more than {EXACT_UP_TO}: {PATTERNS:,} random patterns)"
  text = (
    f" p: two-sided sign-flip test{draws}. p (family): corrected for the "
    f"family of {family} by the step-down maximum test, in which the signs of "
    "all comparisons are flipped together. p (equal): two one-sided t-tests "
    f"of a difference of at least {study.compared['delta']:g}, corrected by "
    f"Holm over the family. Verdicts: no difference: p (equal) ≤ {LEVEL:g}; "
    f"else better or worse: p (family) ≤ {LEVEL:g}; else unresolved. A verdict "
    "holds for these test classes."
  )
  if any(one.verdict.startswith("unresolved:") for one in tested):
    text += (
      " A run that diverged, or whose validation score is NaN, has no test "
      "score; a cell that lost runs is never called better or equal on the "
      "remaining ones."
    )
  return text


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
  text = as_latex(*filled(study, lines), notes(study, lines))
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
    text = f"{curve_table(study, curves)}\n\n{notes(study, lines)}\n"
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
