"""The tables of losses and of reducers: values and gradients, both sides."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.parity.cells import (
  NEAR,
  Row,
  Table,
  apart,
  batches,
  number_text,
  settings_text,
)
from experiments.benchmarks.pml import Pair
from experiments.benchmarks.pml_sides import Batch

_HEAD = (
  "ours",
  "our settings",
  "theirs",
  "their settings",
  "value",
  "gradient",
  "equal points",
  "agree",
  "note",
)


def tables(seeds: int) -> Iterator[Table]:
  """The tables, from `seeds` batches of each kind."""
  rows = lambda pairs: [loss_row(pair, seeds) for pair in pairs]
  yield "Losses", _HEAD, rows(pml.LOSSES)
  yield "Reducers", _HEAD, [*rows(pml.REDUCERS), *more_reducers(seeds)]


def their_slopes(pair: Pair, batch: Batch) -> tuple[float, list[np.ndarray]]:
  """Their value, and its gradients by embeddings and by what is learned."""
  import torch

  value, learned = pml_sides.their_side(pair, batch)
  points, labels = pml_sides.inputs(pair, batch)
  x: Any = torch.tensor(points, requires_grad=True)
  found = value(x, torch.tensor(labels))
  found.backward()
  slopes = [x.grad.numpy()]
  if learned is not None and pair.theirs != "P2SGradLoss":
    slopes.append(pml_sides.their_gradient(pair, learned))
  return float(found.detach().sum()), slopes


def differences(pair: Pair, seeds: int) -> dict[str, tuple[float, float]]:
  """For each kind of batch, how far apart values and gradients are at most."""
  worst: dict[str, tuple[float, float]] = {}
  both = None
  for kind, batch in batches(pair.kinds, seeds):
    value, params = pml_sides.our_side(pair, batch)
    both = both or jax.jit(jax.value_and_grad(value, argnums=(1, 0)))
    ours, (by_x, by_params) = both(params, *pml_sides.inputs(pair, batch))
    theirs, slopes = their_slopes(pair, batch)
    our_slopes = [by_x, *jax.tree.leaves(by_params)]
    gradient = max(map(apart, our_slopes, slopes))
    before = worst.get(kind, (0.0, 0.0))
    worst[kind] = (
      max(before[0], apart(ours, theirs)),
      max(before[1], gradient),
    )
  return worst


def loss_row(pair: Pair, seeds: int) -> Row:
  """A line of the page."""
  worst = differences(pair, seeds)
  near = worst.pop("duplicates", None)
  values, gradients = zip(*worst.values(), strict=True)
  agree = max(*values, *gradients) <= pair.tolerance
  agree &= near is None or max(near) <= max(NEAR, pair.tolerance)
  missing = [kind for kind in pml.KINDS if kind not in pair.kinds]
  skipped = f"not compared: {', '.join(missing)}" if missing else ""
  return (
    pair.name,
    settings_text(pair.ours),
    pair.theirs + (f" after {pair.miner[0]}" if pair.miner else ""),
    settings_text(pair.arguments),
    number_text(max(values)),
    number_text(max(gradients)),
    "–" if near is None else number_text(max(near)),
    "=" if agree else "≠",
    "; ".join(filter(None, (pair.note, skipped))),
  )


def more_reducers(seeds: int) -> Iterator[Row]:
  """The reducers that are no plain reduction."""
  own = "the divisor of a loss is part of its terms: see margin, proxy_anchor"
  one = (
    "one reduction serves all parts of a loss; weights and reductions of"
    " several losses: combine"
  )
  pair = Pair("nca", "NCALoss", {"normalize": "l2", "reduction": "none"})
  worst = 0.0
  for _, batch in batches(pml.KINDS, seeds):
    value, params = pml_sides.our_side(pair, batch)
    theirs = _unreduced(batch)
    worst = max(worst, apart(value(params, batch.x, batch.labels), theirs))
  agree = "=" if worst < NEAR else "≠"
  ours = "`none`"
  yield (
    *("nca, DoNothingReducer", ours, "NCALoss", "", number_text(worst)),
    *("–", "–", agree, "one value for each anchor, 0 without a term"),
  )
  yield ("DivisorReducer", "", "", "", "–", "–", "–", "by design", own)
  yield ("MultipleReducers", "", "", "", "–", "–", "–", "by design", one)


def _unreduced(batch: Batch) -> np.ndarray:
  import torch

  loss = pml_sides.made(
    "losses", ("NCALoss", {"reducer": ("DoNothingReducer", {})})
  )
  found = loss(torch.tensor(batch.x), torch.tensor(batch.labels))["loss"]
  values = np.zeros(len(batch.x))
  values[found["indices"].numpy()] = found["losses"].numpy()
  return values
