"""The page of the simulated studies."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.power.simulation import (
  CHOSEN,
  CLASSES,
  DELTA,
  DIFFERENCE,
  DRAWS,
  FAMILIES,
  FINAL_SEEDS,
  PERMUTATIONS,
  SEARCH,
  SEARCHES,
  SEED,
  SHAPES,
  SHARED,
  SMALLER_SPREADS,
  TRUTHS,
)
from metric_learning.study.formats import as_markdown


def _percent(value: float) -> str:
  return "–" if np.isnan(value) else f"{100 * value:.1f}"


def _grid(
  lines: list[dict[str, Any]],
  rows: str,
  columns: str,
  value: str,
  how: Callable[[list[float]], float] = np.mean,
) -> str:
  """A table in percent: one field down, another across, the rest by `how`."""
  down = list(dict.fromkeys(line[rows] for line in lines))
  across = list(dict.fromkeys(line[columns] for line in lines))
  texts = []
  for name in down:
    cells = [
      [
        line[value]
        for line in lines
        if (line[rows], line[columns]) == (name, c)
      ]
      for c in across
    ]
    texts.append([str(name), *(_percent(float(how(some))) for some in cells)])
  return as_markdown(["", *map(str, across)], texts)


def _where(lines: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
  return [x for x in lines if all(x[k] == v for k, v in fields.items())]


def page(found: dict[str, Any]) -> str:
  """The tables, with what each of them is of."""
  parts = [
    _head(found),
    *_on_false_verdicts(found["tests"]),
    *_on_power(found["tests"], found["needed"]),
    *_on_equality(found["tests"], found["needed"]),
    *_on_classes(found["classes"]),
    *_on_the_smallest_p(),
  ]
  return "\n\n".join(parts) + "\n"


def _head(found: dict[str, Any]) -> str:
  error = 100 * (0.05 * 0.95 / found["studies"]) ** 0.5
  return f"""# Which test: simulated studies

```
python -m experiments.power --studies={found["studies"]}
```

{found["studies"]} studies for each line, on one core in {found["minutes"]:.0f}
minutes; commit {found["commit"]}. All numbers but p are percent; the standard
error of 5.0 is {error:.1f}. Deviations of test MAP@R as measured on glyphs:
between searches {SEARCH}, between seeds {SEED}, {FINAL_SEEDS} final runs for
each search. Cells share {SHARED:.0%} of the variance between searches of one
number. Beyond ten searches the step-down test takes {DRAWS:,} random patterns
here, and others {PERMUTATIONS:,}; a study enumerates all up to 20 searches. How
searches scatter:

{_meanings({name: shape.about for name, shape in SHAPES.items()})}

What is true:

{_meanings({name: about for name, (about, _) in TRUTHS.items()})}"""


def _on_false_verdicts(lines: list[dict[str, Any]]) -> list[str]:
  at_ten = _where(lines, searches=10)
  return [
    "## False verdicts",
    """Families in which a cell that does not differ is called better or worse,
or a sign is wrong. At most 5 is wanted. The largest over shapes, truths and
sizes of the family, by the number of searches: the largest of so many shares is
above its true value by about two standard errors.""",
    _grid(lines, "test", "searches", "false", np.max),
    "By shape, with ten searches: the largest over truths and families.",
    _grid(at_ten, "test", "shape", "false", np.max),
    "By size of the family, with ten searches, all cells normal, none differs.",
    _grid(
      _where(at_ten, shape="normal", truth="none"), "test", "family", "false"
    ),
  ]


def _on_power(
  lines: list[dict[str, Any]], more: list[dict[str, Any]]
) -> list[str]:
  at_ten = _where(lines, searches=10, shape="normal")
  return [
    "## Power",
    f"""Of cells that differ by {DIFFERENCE}, those that were found, with ten
searches, by the size of the family; all cells normal.""",
    _grid(_where(at_ten, truth="half ±.02"), "test", "family", "found"),
    "The same where they differ by .05.",
    _grid(_where(at_ten, truth="half ±.05"), "test", "family", "found"),
    "## How many searches",
    f"""Power of “{CHOSEN}” for a difference of {DIFFERENCE}, by the number of
searches. Down: the deviation between searches, {SEARCH} as measured, or less,
as with more folds and seeds in each search.""",
    *(
      f"Family of {m}:\n\n"
      + _grid(
        _where(more, family=m, truth="half ±.02"), "spread", "searches", "found"
      )
      for m in dict.fromkeys(line["family"] for line in more)
    ),
  ]


def _on_equality(
  lines: list[dict[str, Any]], more: list[dict[str, Any]]
) -> list[str]:
  apart = _where(lines, test=CHOSEN, truth="half ±δ")
  return [
    "## “No difference”",
    f"""Two one-sided t-tests against δ = {DELTA}, corrected by Holm over the
family. Families with a false “no difference” where cells differ by δ: the
largest over families.""",
    _grid(apart, "shape", "searches", "equal_false", np.max),
    "Families with any false verdict, of either kind:",
    _grid(apart, "shape", "searches", "any", np.max),
    """With a deviation of .005 between searches, where “no difference” can be
reached: false verdicts of either kind in families of 23.""",
    _grid(
      _where(more, family=23, spread=min(SMALLER_SPREADS), truth="half ±δ"),
      "spread",
      "searches",
      "any",
    ),
    """Of equal cells, those that were found to be equal, in families of 23, by
the deviation between searches:""",
    _grid(
      _where(more, family=23, truth="half ±.02"),
      "spread",
      "searches",
      "equal_found",
    ),
  ]


def _on_classes(lines: list[dict[str, Any]]) -> list[str]:
  return [
    "## Other test classes",
    f"""All searches of a study meet the same test classes, and a verdict is
about these. Read as one about other classes too, the difference of two cells
has a part that no number of searches takes away. Families of 23 with a false
verdict where no cell differs over all classes, by the deviation of that part (a
bootstrap over classes gives about {CLASSES} for cells that are near):""",
    _grid(lines, "classes", "searches", "false"),
  ]


def _on_the_smallest_p() -> list[str]:
  texts = [["step-down maximum, any", *(f"{2 / 2**n:.2g}" for n in SEARCHES)]]
  for m in FAMILIES:
    texts.append(
      [f"Holm, {m}", *(f"{min(1, m * 2 / 2**n):.2g}" for n in SEARCHES)]
    )
  return [
    "## The smallest p",
    "Of sign flips, by the number of searches, and the size of the family:",
    as_markdown(["", *map(str, SEARCHES)], texts),
  ]


def _meanings(about: dict[str, str]) -> str:
  return "\n".join(f"- {name}: {text}" for name, text in about.items())
