"""Compares every loss, miner and reducer with pytorch-metric-learning.

python -m experiments.benchmarks.parity --output=results/parity.md \\
  --golden=tests/golden/pml.json

It compares values and gradients in float64 over random batches: balanced,
unbalanced, with classes of one item, and with equal embeddings. The page shows
the differences, or why they are intended. --golden also stores the values of
the rival, with which the tests compare ours without torch. Needs the extra: pip
install -e '.[bench]'.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import cli
from experiments.benchmarks.parity import golden, losses, miners, others
from experiments.benchmarks.parity.cells import DIM, ITEMS, Table
from metric_learning.errors import InputError

_OUTPUT = cli.define_path("output", "results/parity.md", "The page.")
_GOLDEN = cli.define_path("golden", None, "A JSON file of their values.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Batches of each kind.", 1)


def main() -> None:
  """Writes the page and the golden file."""
  if importlib.util.find_spec("pytorch_metric_learning") is None:
    raise InputError("no pytorch_metric_learning: pip install -e '.[bench]'.")
  jax.config.update("jax_enable_x64", True)
  seeds = _SEEDS.value
  tables = [*losses.tables(seeds), miners.table(seeds), *others.tables(seeds)]
  output = Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  output.write_text(page(tables, seeds))
  print(f"The page is {output}.")
  if _GOLDEN.value:
    values = Path(_GOLDEN.value)
    values.parent.mkdir(parents=True, exist_ok=True)
    values.write_text(golden.compact(golden.frozen()))
    print(f"The golden values are in {values}.")
  bad = [row[0] for _, _, rows in tables for row in rows if "≠" in row]
  if bad:
    print("They disagree: " + "; ".join(bad))
    sys.exit(1)


def page(tables: Sequence[Table], seeds: int) -> str:
  """The whole page as Markdown."""
  said = ", ".join(f"{k} {v}" for k, v in golden.versions().items())
  text = [
    "# Parity with pytorch-metric-learning",
    "",
    f"Written by `python -m experiments.benchmarks.parity`: {said}; float64 on"
    f" both sides. The batches have {ITEMS} items in {DIM} dimensions; there"
    f" are {seeds} of each kind: balanced, unbalanced, with classes of one"
    " item, and with equal points.",
    "",
    "Numbers are the largest difference, relative to the largest number of the"
    " rival. Gradients are with respect to embeddings and learned parameters."
    " Only settings that differ from the defaults are shown. Where points"
    " coincide (`equal points`), our matrix-product form of a distance is exact"
    " to √ε.",
    "",
  ]
  for title, head, rows in tables:
    text += [f"## {title}", "", _line(head), _line(["---"] * len(head))]
    text += [*map(_line, rows), ""]
  return "\n".join(text)


def _line(cells: Sequence[str]) -> str:
  return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
  cli.run(main, __doc__)
