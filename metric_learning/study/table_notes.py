"""The notes under the tables of a study."""

from collections.abc import Sequence

from metric_learning.study.comparisons import Compared
from metric_learning.study.results import Study
from metric_learning.study.runs import HALVED_SEARCHES
from metric_learning.study.spread_table import cost_note
from metric_learning.study.statistics import (
  EXACT_UP_TO,
  LEVEL,
  PATTERNS,
  TOO_FEW,
  UNITS_NEEDED,
  Comparison,
)
from metric_learning.study.table_lines import Line, unit_of, without_values

# Notes on columns, shown if the column is.
_MEANINGS = {
  "active": "active: the share of nonzero terms of the loss at the last step; "
  "– if no term can be 0, as in a softmax",
  "trials": "trials: the number of settings from which validation chose",
  "eff. rank": "eff. rank: how many dimensions the embeddings use, from the "
  "entropy of their singular values",
  "searched": "searched: the number of hyperparameters that each trial drew, "
  "and the learning rate if that was drawn too",
}


def notes(study: Study, lines: Sequence[Line], heads: Sequence[str]) -> str:
  """The notes on intervals, choice of settings, data and commit.

  They explain the columns with these heads.
  """
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
  noted = [
    f"{data['name']}, split {data['split']!r}, {data['protocol']}",
    *study.parts,
    *study.provenance,
    *(over[kind] for kind in over if kind in kinds and kind != skipped),
    _how_chosen(study),
    *cost_note(study),
    *without_values(study, heads),
    "own: neighbors under the metric of training",
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
    n, units = max(one.difference.n for one in few), plural(study)
    text += (
      f" {n} {units} cannot be tested: their smallest p is 2/2^{n} = "
      f"{2 / 2**n:.2g}, over {LEVEL:g}. So this table does not show that any "
      f"two lines differ; a test needs {UNITS_NEEDED} {units}."
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


def plural(study: Study) -> str:
  """The units of pairing: seeds, folds or searches."""
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
