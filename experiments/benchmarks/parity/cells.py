"""What all tables of parity share: random batches, differences, cells."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import pml_sides
from experiments.benchmarks.pml_sides import Batch

Row = tuple[str, ...]
# Its title, its head, its rows.
Table = tuple[str, Row, Sequence[Row]]

# torch.cdist takes differences up to 25 points, and loses digits beyond.
ITEMS, DIM = 24, 8
# Where points coincide, our product form of a distance is exact to √ε.
NEAR = 1e-6


def batches(kinds: Sequence[str], seeds: int) -> Iterator[tuple[str, Batch]]:
  """Random batches of the kinds, `seeds` of each."""
  for kind in kinds:
    for seed in range(seeds):
      yield kind, pml_sides.make_batch(kind, ITEMS, DIM, seed)


def apart(ours: Any, theirs: Any) -> float:
  """The largest difference, relative to the largest of theirs; NaN is inf."""
  ours, theirs = np.ravel(np.asarray(ours)), np.ravel(np.asarray(theirs))
  difference = np.max(np.abs(ours - theirs), initial=0)
  if np.isnan(difference):
    return np.inf
  size = max(np.max(np.abs(theirs), initial=0), 1e-12)
  return float(difference / size)


def both_slopes(
  ours: Callable, theirs: Callable, x: np.ndarray
) -> tuple[float, float]:
  """How far apart two functions of an array are, and their gradients."""
  import torch

  value, slope = jax.value_and_grad(ours)(jnp.asarray(x))
  y = torch.tensor(x, requires_grad=True)
  found = theirs(y)
  found.backward()
  return apart(value, found.detach()), apart(slope, y.grad)


def tensor(x: np.ndarray) -> Any:
  """An array of NumPy as a tensor of PyTorch."""
  import torch

  return torch.tensor(x)


# --- Cells ------------------------------------------------------------------


def settings_text(settings: Any) -> str:
  """Settings in a few words."""
  said = []
  for name, value in settings.items():
    if value is None:
      continue
    if isinstance(value, float):
      value = f"{value:.6g}"
    elif isinstance(value, tuple) and value and isinstance(value[0], str):
      value = value[0] + brackets(value[1])
    said.append(f"{name} {value}")
  return ", ".join(said)


def brackets(options: Any) -> str:
  """Settings in brackets, behind the name of what they are of."""
  return f" ({settings_text(options)})" if options else ""


def number_text(value: float) -> str:
  """A difference with one digit."""
  return "0" if value == 0 else f"{value:.0e}"
