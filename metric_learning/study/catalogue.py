"""Several studies of the same cells as one page: which losses, which metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metric_learning.errors import InputError
from metric_learning.evaluation import heading, lower_is_better
from metric_learning.study.best import may_be_best
from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study, by_unit
from metric_learning.study.table_lines import Line, in_words, table_lines
from metric_learning.study.table_notes import how_compared, notes
from metric_learning.study.tables import filled, interval_text, signed_text

_TWIN = {"metric.name": "l2"}
_MARK = {True: "✓", False: ""}


class _Set(NamedTuple):
  """What the page says about one study.

  best: for each cell, as text, whether no other cell is shown to beat it.
  against: the comparison of each cell with the reference of the study.
  twins: the comparison of each loss under another metric with the same loss
    under L2.
  """

  title: str
  study: Study
  best: dict[str, bool]
  against: dict[str, Compared]
  twins: list[Compared]


def titled(given: Sequence[str]) -> dict[str, str]:
  """Folders of studies by title, from strings TITLE=FOLDER.

  Raises:
    InputError: without strings, without a title, or if two titles are equal.

  >>> titled(["birds=runs/birds"])
  {'birds': 'runs/birds'}
  """
  if not given:
    raise InputError("name the studies, such as --study=birds=runs/birds.")
  folders: dict[str, str] = {}
  for text in given:
    title, equals, folder = text.partition("=")
    if not (title and equals and folder):
      raise InputError(
        f"--study={text} has no title: write --study={Path(text).name}={text}."
      )
    if title in folders:
      raise InputError(f"two studies have the title {title}: change one.")
    folders[title] = folder
  return folders


def page(studies: Mapping[str, Study]) -> str:
  """The page of scored studies by their titles: a summary, then each table.

  The first column that a study compares decides which cells are best.
  """
  sets = [_set(title, _with_eer(study)) for title, study in studies.items()]
  text = [_over_sets(sets), "", _metrics(sets)]
  for one in sets:
    text += ["", f"## {one.title}", "", _table(one), "", _notes(one)]
  return "\n".join(text) + "\n"


def _with_eer(study: Study) -> Study:
  """The study with the equal error rate among its columns."""
  scores = study.config["eval"]
  columns = list(dict.fromkeys([*scores["columns"], "own/eer"]))
  scores = scores | {"columns": columns}
  return study._replace(config=study.config | {"eval": scores})


def _set(title: str, study: Study) -> _Set:
  column = study.compared["columns"][0]
  first = study._replace(compared=study.compared | {"columns": [column]})
  of_twins = {**first.compared, "reference": _TWIN}
  return _Set(
    title,
    study,
    _best(study, column),
    {in_words(one.name): one for one in compare_cells(first)},
    compare_cells(first._replace(compared=of_twins)),
  )


def _best(study: Study, column: str) -> dict[str, bool]:
  """For each cell with runs, whether it may be the best in a column."""
  scores = {
    in_words(cell.name): by_unit(
      cell.chosen.runs, lambda run: run.tested.selected[column]
    )
    for cell in study.cells
  }
  units = sorted({unit for found in scores.values() for unit in found})
  sign = -1 if lower_is_better(column) else 1
  table = [[sign * s.get(u, np.nan) for u in units] for s in scores.values()]
  best = may_be_best(np.array(table))
  # A cell that lost a search is not compared and not marked.
  whole = [bool(np.isfinite(line).all()) for line in table]
  return {n: bool(b and w) for n, b, w in zip(scores, best, whole, strict=True)}


def _over_sets(sets: Sequence[_Set]) -> str:
  """The cells that no other cell is shown to beat, by the number of sets."""
  names = list(dict.fromkeys(name for one in sets for name in one.best))
  count = {
    name: sum(one.best.get(name, False) for one in sets) for name in names
  }
  shown = sorted((n for n in names if count[n]), key=lambda n: -count[n])
  heads = ["", *(one.title for one in sets)]
  lines = [
    [name, *(_MARK[one.best.get(name, False)] for one in sets)]
    for name in shown
  ]
  never = (
    f"{len(names) - len(shown)} of {len(names)} cells are beaten on every set."
  )
  return (
    "## Never shown to be worse than the best\n\n"
    f"{as_markdown(heads, lines)}\n\n"
    "✓: no other cell is shown to be better on this set (all pairs of its cells"
    f" are one family of the step-down maximum test, at 5 %). {never}"
  )


def _metrics(sets: Sequence[_Set]) -> str:
  """Each loss under each metric, compared with the same loss under L2."""
  verdicts = {
    one.title: {in_words(twin.name): twin for twin in one.twins} for one in sets
  }
  names = list(dict.fromkeys(name for of in verdicts.values() for name in of))
  column = heading(sets[0].study.compared["columns"][0])
  lines = [
    [name, *(_difference(verdicts[one.title].get(name)) for one in sets)]
    for name in names
  ]
  heads = ["", *(one.title for one in sets)]
  return (
    f"## Against the same loss under L2\n\n{as_markdown(heads, lines)}\n\n"
    f"The difference in {column} with a 95 % t-interval, and the verdict; the"
    " comparisons of a set are a family."
  )


def _difference(one: Compared | None) -> str:
  if one is None:
    return "–"
  return f"{signed_text(one.judged.difference)} {one.judged.verdict}"


def _table(one: _Set) -> str:
  """The baselines and cells of a study, by the deciding column, best first."""
  columns = one.study.config["eval"]["columns"]
  first = one.study.compared["columns"][0]
  sign = 1 if lower_is_better(first) else -1

  def order(line: Line) -> float:
    return sign * line[first].mean if first in line else np.inf

  def texts(line: Line) -> list[str]:
    name, against = line["name"], one.against.get(line["name"])
    return [
      name,
      *(
        interval_text(line[c], line["interval"]) if c in line else "–"
        for c in columns
      ),
      _difference(against),
      _MARK[one.best.get(name, False)],
      line["chosen"],
    ]

  reference = next(iter(one.against.values())).reference
  heads = ["", *map(heading, columns), f"against {in_words(reference)}"]
  lines = sorted(table_lines(one.study), key=order)
  return as_markdown(
    [*heads, "not beaten", "chosen on validation"], [*map(texts, lines)]
  )


def _notes(one: _Set) -> str:
  lines = table_lines(one.study)
  how = how_compared(one.study, [*one.against.values()])
  heads, _ = filled(one.study, lines)
  return f"{notes(one.study, lines, heads)} {how}"
