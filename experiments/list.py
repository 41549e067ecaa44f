"""Lists the entries of a kind, such as losses or metrics, one line each.

python -m experiments.list losses

Without a kind, it lists the kinds.
"""

import functools
import inspect
import re
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import metric_learning as ml
from metric_learning import data, figures, models, study
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation import scores
from metric_learning.study import launchers, standard_sweeps
from metric_learning.training import optimizers


def first_line(thing: Any) -> str:
  """The first line of the docstring of an entry.

  An entry that holds functions has the line of the first one; a partial has the
  line of its function.
  """
  if isinstance(thing, functools.partial):
    return first_line(thing.func)
  if not callable(thing):
    fields = thing if isinstance(thing, tuple) else vars(thing).values()
    return first_line(next(field for field in fields if callable(field)))
  return (inspect.getdoc(thing) or "").split("\n")[0]


def _loss(entry: Any) -> str:
  metrics = ", ".join(m for m in ("l2", "l1", "cosine") if m in entry.metrics)
  fixed = entry.fixed_metric or "its own metric"
  return f"{first_line(entry)} [{metrics or fixed}]"


def _of_set(name: str) -> str:
  """What the module of a data set says after its name, as in "`name`: text"."""
  load = data.DATASETS[name]
  load = load.func if isinstance(load, functools.partial) else load
  text = inspect.getdoc(inspect.getmodule(load)) or ""
  match = re.search(rf"^`{name}(?::<name>)?`: (.*)$", text, re.MULTILINE)
  return match[1] if match else ""


def _sweep(sweep: study.Sweep) -> str:
  return first_line(sweep.overrides)


# The registry of each kind, and the function that describes an entry.
KINDS: dict[str, tuple[Mapping[str, Any], Callable[[Any], str]]] = {
  "losses": (ml.LOSSES, _loss),
  "metrics": (ml.METRICS, first_line),
  "normalizations": (ml.NORMALIZATIONS, first_line),
  "miners": (ml.MINERS, first_line),
  "reductions": (ml.REDUCTIONS, first_line),
  "regularizers": (ml.REGULARIZERS, first_line),
  "relations": (ml.RELATIONS, first_line),
  "models": (models.MODELS, first_line),
  "data": ({name: _of_set(name) for name in data.DATASETS}, str),
  "optimizers": (optimizers.OPTIMIZERS, first_line),
  "schedules": (optimizers.SCHEDULES, first_line),
  "scores": (scores.SCORES, lambda score: score.about),
  "sweeps": (standard_sweeps.sweeps(((32, 4),)), _sweep),
  "launchers": (launchers.LAUNCHERS, lambda entry: entry.usage),
  "figures": (figures.FIGURES, first_line),
}


def lines(kind: str) -> list[str]:
  """A line for each entry of a kind.

  Raises:
    InputError: if there is no such kind.
  """
  check_choice("kind", kind, KINDS)
  entries, describe = KINDS[kind]
  width = max(map(len, entries))
  return [
    f"{name:{width}}  {describe(x)}".rstrip() for name, x in entries.items()
  ]


def main() -> None:
  """Prints the entries of the given kinds; without any kind, the kinds."""
  # The end of a pipe, such as `head`, may close it.
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  if "--help" in sys.argv:
    print(__doc__)
    sys.argv[1:] = []
  try:
    for kind in sys.argv[1:]:
      print("\n".join(lines(kind)))
  except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  if len(sys.argv) < 2:
    print("python -m experiments.list KIND lists one of " + ", ".join(KINDS))


if __name__ == "__main__":
  main()
