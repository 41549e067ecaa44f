"""Their values on small batches, frozen: the tests hold ours against them."""

import importlib.metadata
from typing import Any

import numpy as np

from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.parity.cells import tensor
from experiments.benchmarks.parity.miners import chosen
from experiments.benchmarks.pml import Pair
from experiments.benchmarks.pml_sides import Batch
from metric_learning.training.run_files import to_json

_COMMAND = (
  "python -m experiments.benchmarks.parity --golden=tests/golden/pml.json"
)
_ITEMS, _DIM = 12, 4


def frozen() -> dict[str, Any]:
  """Their values and counts on one small batch of each kind."""
  small = {
    kind: pml_sides.make_batch(kind, _ITEMS, _DIM, 0) for kind in pml.KINDS
  }
  small = {
    kind: Batch(np.round(b.x, 4), b.labels, np.round(b.table, 4))
    for kind, b in small.items()
  }
  losses = {
    pair.name: {
      kind: _digits(_their_number(pair, small[kind])) for kind in pair.kinds
    }
    for pair in pml.FROZEN
  }
  miners = {
    choice.name: {
      kind: len(chosen(choice, small[kind])[1]) for kind in pml.DISTINCT
    }
    for choice in pml.MINERS
  }
  return {
    "command": _COMMAND,
    "versions": versions(),
    "batches": {
      kind: {name: array.tolist() for name, array in b._asdict().items()}
      for kind, b in small.items()
    },
    "losses": losses,
    "miners": miners,
  }


def _their_number(pair: Pair, batch: Batch) -> float:
  value, _ = pml_sides.their_side(pair, batch)
  found = value(*map(tensor, pml_sides.inputs(pair, batch)))
  return float(found.detach().sum())


def _digits(value: float) -> float:
  return float(f"{value:.12g}")


def compact(tree: dict[str, Any]) -> str:
  """JSON with a line for each entry of the second level."""
  parts = []
  for key, value in tree.items():
    if isinstance(value, dict):
      lines = ",\n".join(
        f"    {to_json(k, ensure_ascii=False)}: {to_json(v)}"
        for k, v in value.items()
      )
      parts.append(f"  {to_json(key)}: {{\n{lines}\n  }}")
    else:
      parts.append(f"  {to_json(key)}: {to_json(value)}")
  return "{\n" + ",\n".join(parts) + "\n}\n"


def versions() -> dict[str, str]:
  """The versions of what was compared."""
  names = ("jax", "torch", "pytorch-metric-learning")
  return {name: importlib.metadata.version(name) for name in names}
