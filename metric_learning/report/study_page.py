"""A study as one page: tables, verdicts, figures and retrieved images."""

import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metric_learning.evaluation import heading
from metric_learning.figures.chosen import MOST_PANELS, best_run
from metric_learning.figures.projections import PROJECTIONS
from metric_learning.report.pages import inlined, write_page
from metric_learning.report.retrieved import Retrieved, retrieved
from metric_learning.study import tables
from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.results import Study, check_scored
from metric_learning.study.table_lines import Line, in_words, table_lines
from metric_learning.study.table_notes import how_compared, notes
from metric_learning.study.tables import trace
from metric_learning.training import run_files

REPORT = "report.html"
# The sections of figures: a title, a description, and the names of the figures.
SECTIONS = (
  (
    "Differences and spread",
    "Each cell against its reference. The gray band holds the differences that"
    " were declared negligible before the runs.",
    ("differences", "spread"),
  ),
  (
    "Margins and temperatures",
    "The validation score of each tried value, under each metric.",
    ("curves", "budget"),
  ),
  (
    "Maps of the embedding spaces",
    f"Two dimensions are drawn as they are. {PROJECTIONS['tsne'].about}",
    ("maps",),
  ),
  (
    "Distances of pairs",
    "Where the two histograms overlap, every threshold makes errors.",
    ("histograms",),
  ),
  (
    "Verification",
    "The errors at every threshold: first on a logarithmic axis, then on axes"
    " of normal deviates.",
    ("roc", "det"),
  ),
  ("Identification", "", ("identification",)),
  ("Training", "", ("training",)),
  ("Pair potentials of the losses", "", ("potentials",)),
)
# The figures that draw `chosen_runs` only.
OF_A_PART = {"maps", "histograms", "roc", "identification", "training"}


class Cell(NamedTuple):
  """One cell of the table; a cell with `more` is folded away at first."""

  text: str
  more: bool


def write_report(study: Study, drawn: Sequence[Path]) -> Path:
  """Writes report.html of a scored study into its folder.

  `drawn` are the files that `figures.draw_study` wrote; the page shows the SVG
  files. Its pictures come from the first run of the cell that is best on
  validation.

  Raises:
    InputError: if the study is not scored.
  """
  check_scored(study)
  figures = {p.stem: inlined(p) for p in drawn if p.suffix == ".svg"}
  compared, best = compare_cells(study), best_run(study)
  lines = table_lines(study)
  known = {name for *_, names in SECTIONS for name in names}
  sections = [
    (
      title,
      f"{about} {_left_out(study, names)}".strip(),
      [figures[name] for name in names if name in figures],
    )
    for title, about, names in SECTIONS
  ]
  # Figures that a module of the user adds.
  others = [f for name, f in figures.items() if name not in known]
  comparison = (
    tables.comparison_texts(study, compared) if compared else ([], [])
  )
  return write_page(
    study.folder / REPORT,
    "study.html",
    title=study.folder.name,
    question=_question(study),
    states=_states(study),
    table=_table(study, lines, compared),
    notes=notes(study, lines, tables.filled(study, lines)[0]),
    verdicts=_verdicts(compared),
    comparison=comparison,
    how=how_compared(study, compared) if compared else "",
    sections=[s for s in [*sections, ("More", "", others)] if s[2]],
    best=None if best is None else in_words(best[0].name) or "the one cell",
    pictures=retrieved(best[1]) if best else Retrieved([], [], [], "No run."),
    cost=_cost(study),
    commands=_commands(study),
    trace=trace(study),
  )


def _left_out(study: Study, names: Collection[str]) -> str:
  """What figures of a part of the cells leave out, as a sentence."""
  count = sum(bool(cell.chosen.runs) for cell in study.cells)
  if count <= MOST_PANELS or not OF_A_PART.intersection(names):
    return ""
  return f"Of {count} cells, the {MOST_PANELS} best on validation are drawn."


def _question(study: Study) -> str:
  """The question of the study, as a sentence."""
  fields = dict.fromkeys(f for name in study.names for f in name)
  words = [f.removesuffix(".name").replace(".", " ") for f in fields]
  data = study.config["data"]
  columns = study.compared["columns"] or [study.config["eval"]["select"]]
  scores = " and ".join(heading(column) for column in columns)
  where = f"on test classes of {data['name']} ({data['protocol']})"
  if not words or len(study.names) == 1:
    return f"How good is one cell in {scores} {where}?"
  differ = " and ".join([", ".join(words[:-1])] * bool(words[1:]) + words[-1:])
  return (
    f"Which of {len(study.names)} cells, which differ in {differ}, is best in"
    f" {scores} {where}?"
  )


def _states(study: Study) -> list[str]:
  """The problems of the study, one sentence each."""
  states = []
  if study.missing:
    states.append(
      f"Incomplete: {_runs(study.missing)} missing. Repeat the command that"
      " started the study, and it continues."
    )
  if study.stale:
    states.append(
      f"{_runs(len(study.stale))} left out, because the config has changed"
      f" since: {', '.join(study.stale)}."
    )
  for cell in study.cells:
    name = in_words(cell.name) or "the one cell"
    if cell.diverged:
      states.append(f"Diverged: {cell.diverged} of the runs of {name}.")
    if cell.unscored:
      states.append(
        f"{name}: {_runs(cell.unscored)} without a validation score."
      )
  names = [cell.name for cell in study.cells]
  states += [
    f"No run of {in_words(name)} is finished."
    for name in study.names
    if name not in names
  ]
  return states


def _runs(count: int) -> str:
  """A number of runs, with its verb.

  >>> _runs(1), _runs(2)
  ('1 run is', '2 runs are')
  """
  return "1 run is" if count == 1 else f"{count} runs are"


def _unbroken(text: str) -> str:
  """Keeps a number and its interval on one line each.

  >>> _unbroken("0.9 ± 0.1 [0.7, 1.0]")  # a no-break space is one character
  '0.9\\xa0±\\xa00.1 [0.7,\\xa01.0]'
  """
  text = text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
  return re.sub(r"(\[\S+,) (\S+\])", "\\1\N{NO-BREAK SPACE}\\2", text)


def _table(
  study: Study, lines: Sequence[Line], compared: Sequence[Compared]
) -> tuple[list[Cell], list[list[Cell]]]:
  """The main table: the few main columns, then those folded away at first."""
  heads, texts = tables.filled(study, lines)
  columns = study.compared["columns"]
  verdict = {
    in_words(one.name): one.judged.verdict
    for one in compared
    if one.column == columns[0]
  }
  references = {in_words(one.reference) for one in compared}
  scores = dict.fromkeys([*study.config["eval"]["columns"], *columns])
  # The column "chosen on validation" is empty if nothing was tuned.
  unfolded = [
    head
    for head, column in zip(heads, zip(*texts, strict=True), strict=True)
    if head in ("", "chosen on validation") and any(column)
  ]
  unfolded += [h for h in map(heading, scores) if h in heads][:1]
  unfolded += [
    heading(c)
    for c in columns
    if heading(c) in heads and heading(c) not in unfolded
  ][:1]
  unfolded += [h for h in ("seeds", "s/run") if h in heads and not compared]
  heads = [*heads, *["verdict"] * bool(compared)]
  rows = []
  for line, text in zip(lines, texts, strict=True):
    name = line["name"]
    decision = verdict.get(name, "reference" if name in references else "–")
    rows.append([*map(_unbroken, text), *[decision] * bool(compared)])
  is_more = [head not in (*unfolded, "verdict") for head in heads]
  cells = [
    [Cell(text, more) for text, more in zip(row, is_more, strict=True)]
    for row in [[head or "cell" for head in heads], *rows]
  ]
  # Moves the verdict before the columns that are folded away.
  cells = [sorted(row, key=lambda cell: cell.more) for row in cells]
  return cells[0], cells[1:]


def _verdicts(compared: Sequence[Compared]) -> list[tuple[str, int]]:
  """How many comparisons have each verdict."""
  kinds = [one.judged.verdict.partition(":")[0] for one in compared]
  return [(kind, kinds.count(kind)) for kind in dict.fromkeys(kinds)]


def _cost(study: Study) -> tuple[list[str], list[list[str]]]:
  """The trials, runs and training time of each cell."""
  heads = ["cell", "trials", "runs", "seconds per run", "minutes in total"]
  lines = []
  for cell in study.cells:
    runs = [run for setting in cell.settings for run in setting.runs]
    seconds = [run.result["seconds"] for run in runs]
    searched = sum(entry["seconds"] for entry in cell.searches)
    mean = f"{np.mean(seconds):.1f}" if seconds else "–"
    lines.append(
      [
        in_words(cell.name) or "the one cell",
        str(cell.trials),
        str(len(runs)),
        mean,
        f"{(sum(seconds) + searched) / 60:.1f}",
      ]
    )
  return heads, lines


def _commands(study: Study) -> list[tuple[str, str]]:
  """The commits of the chosen runs, and the commands that made them."""
  commands = []
  for run in itertools.chain(*(cell.chosen.runs for cell in study.cells)):
    path = run.folder / run_files.ENVIRONMENT
    about = run_files.read_json(path) if path.exists() else {}
    commands.append((run.result["commit"], about.get("command", "")))
  return sorted(set(commands))
