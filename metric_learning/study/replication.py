"""Replication: do the verdicts of two studies with disjoint seeds agree?"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metric_learning.errors import InputError
from metric_learning.evaluation import heading
from metric_learning.study.comparisons import Compared, compare_cells
from metric_learning.study.formats import as_markdown
from metric_learning.study.results import Study
from metric_learning.study.table_lines import in_words
from metric_learning.training import run_files

_DECIDED = ("better", "worse", "no difference")


class Replicated(NamedTuple):
  """A comparison that both studies made."""

  first: Compared
  second: Compared

  @property
  def verdicts(self) -> tuple[str, str]:
    """The verdicts of both studies, without the reasons."""
    first, second = (one.judged.verdict.partition(":")[0] for one in self)
    return first, second

  @property
  def is_tested(self) -> bool:
    """Whether both studies could test it."""
    return all(one.judged.is_tested for one in self)

  @property
  def agrees(self) -> bool:
    """Whether both decided the same way, or at least one is unresolved."""
    first, second = self.verdicts
    return first == second or "unresolved" in self.verdicts

  @property
  def flips(self) -> bool:
    """Whether it is better in one study and worse in the other."""
    return {*self.verdicts} == {"better", "worse"}

  @property
  def is_decided(self) -> bool:
    """Whether both studies decided it."""
    return all(verdict in _DECIDED for verdict in self.verdicts)


def replicated(first: Study, second: Study) -> list[Replicated]:
  """The comparisons of two scored studies, in the order of the first.

  Each comparison is judged in the family of its own study.

  Raises:
    InputError: if the studies share seeds, or have no comparison in common.
  """
  if shared := sorted(_seeds(first) & _seeds(second)):
    raise InputError(
      f"{first.folder} and {second.folder} share seeds, such as {shared[0]}: a "
      "replication needs its own seeds. Add 1000 or more to config.seed in one "
      "of the studies."
    )
  again = {_key(one): one for one in compare_cells(second)}
  both = [
    Replicated(one, again[_key(one)])
    for one in compare_cells(first)
    if _key(one) in again
  ]
  if not both:
    raise InputError(
      f"{first.folder} and {second.folder} have no comparison in common: is"
      " their config.study.reference the same?"
    )
  return both


def _key(one: Compared) -> str:
  return run_files.to_json([one.name, one.reference, one.column])


def _seeds(study: Study) -> set[int]:
  """The seeds of all runs, including the trials of a tuned study."""
  final = {
    run.spec.config.seed
    for cell in study.cells
    for setting in cell.settings
    for run in setting.runs
  }
  if any(cell.searches for cell in study.cells):
    # The seeds of the trials of a search precede those of its final runs.
    return {*range(study.config["seed"], max(final) + 1)}
  return final


def replication_page(both: Sequence[Replicated], names: Sequence[Study]) -> str:
  """The page of a replication: a summary, and every comparison."""
  heads = ["", "compared with", "score"]
  heads += ["first", "verdict", "second", "verdict", "agree"]
  lines = [
    [
      in_words(one.first.name),
      in_words(one.first.reference),
      heading(one.first.column),
      *(text for half in one for text in _half(half)),
      _said(one),
    ]
    for one in both
  ]
  first, second = names
  return (
    f"{_summary(both)}\n\n{as_markdown(heads, lines)}\n\n"
    f"first: {_about(first)}; second: {_about(second)}{_differing(*names)}."
    " Each comparison is judged in the family of its own study.\n"
  )


def _half(one: Compared) -> list[str]:
  mean, low, high, _ = one.judged.difference
  return [f"{mean:+.3f} ± {(high - low) / 2:.3f}", one.judged.verdict]


def _said(one: Replicated) -> str:
  if not one.is_tested:
    return "–"
  if one.flips:
    return "FLIPS"
  return "yes" if one.agrees else "no"


def _summary(both: Sequence[Replicated]) -> str:
  tested = [one for one in both if one.is_tested]
  agree = sum(one.agrees for one in tested)
  decided = [one for one in tested if one.is_decided]
  same = sum(one.agrees for one in decided)
  flips = sum(one.flips for one in tested)
  share = f" ({agree / len(tested):.0%})" if tested else ""
  text = (
    f"{agree} of {len(tested)} verdicts agree{share}: decided the same way, or"
    f" unresolved in one study or both. Both decided {len(decided)}, and the"
    f" same way {same} of these. From better to worse, or back: {flips}."
  )
  if len(tested) < len(both):
    text += f" Not tested in one study or both: {len(both) - len(tested)}."
  return text


def _about(study: Study) -> str:
  seeds = _seeds(study)
  tune = study.tune
  searches = f"{tune['searches']} searches, " if "searches" in tune else ""
  missing = f", UNFINISHED: {study.missing} runs" if study.missing else ""
  name = Path(study.folder).name
  return f"{name}, {searches}seeds {min(seeds)} to {max(seeds)}{missing}"


def _differing(first: Study, second: Study) -> str:
  """The differences between the configs, apart from the seed."""
  there, here = (
    {**study.config, "seed": 0, "study": study.compared, "tune": study.tune}
    for study in (first, second)
  )
  shown = run_files.difference(there, here)
  if not shown:
    return ""
  return f"; they differ (there: the first, now: the second) in {shown}"
