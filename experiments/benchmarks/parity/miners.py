"""The table of miners: what ours and theirs choose of a batch, as sets."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.parity.cells import (
  DIM,
  ITEMS,
  Row,
  Table,
  batches,
  settings_text,
)
from experiments.benchmarks.pml import Choice
from experiments.benchmarks.pml_sides import Batch

_HEAD = (
  "ours",
  "theirs",
  "their settings",
  "compared",
  "chosen",
  "differ",
  "agree",
  "note",
)


def table(seeds: int) -> Table:
  """The table, from `seeds` batches of each kind."""
  rows = [miner_row(choice, seeds) for choice in pml.MINERS]
  return "Miners", _HEAD, [*rows, *random_miners()]


def their_triplets(choice: Choice, x: np.ndarray, labels: np.ndarray) -> set:
  """Their choice as triplets: every pair of pairs of an anchor."""
  import torch
  from pytorch_metric_learning.utils import loss_and_miner_utils

  found = pml_sides.their_choice(choice, x, labels)
  found = loss_and_miner_utils.convert_to_triplets(found, torch.tensor(labels))
  return set(zip(*(index.tolist() for index in found), strict=True))


def chosen(choice: Choice, batch: Batch) -> tuple[set, set]:
  """What our miner and theirs choose of a batch, as sets."""
  x, labels = pml_sides.unit(batch.x), batch.labels
  rows = pml_sides.our_choice(choice, jnp.asarray(x), jnp.asarray(labels))
  if choice.compared == "triplets":
    triplets = np.argwhere(np.asarray(pml_sides.our_triplets(rows)) > 0)
    return set(map(tuple, triplets.tolist())), their_triplets(choice, x, labels)
  found = pml_sides.their_choice(choice, x, labels)
  distances = np.asarray(rows.distances)
  sides = []
  for weights, (a, b) in zip(
    (rows.positives, rows.negatives), (found[:2], found[2:]), strict=True
  ):
    pairs = (
      np.argwhere(np.asarray(weights) > 0),
      np.stack([a.numpy(), b.numpy()], axis=1),
    )
    sides.append([_set(each, distances, choice) for each in pairs])
  ours, theirs = (
    {(side, *entry) for side, sets in enumerate(sides) for entry in sets[i]}
    for i in (0, 1)
  )
  return ours, theirs


def _set(pairs: np.ndarray, distances: np.ndarray, choice: Choice) -> set:
  """Pairs; or their distances with a running number for equal ones."""
  if choice.compared == "pairs":
    return set(map(tuple, pairs.tolist()))
  values = np.sort(np.round(distances[tuple(pairs.T)], 6))
  return set(enumerate(values.tolist()))


def miner_row(choice: Choice, seeds: int) -> Row:
  """A line of the page."""
  number = differ = 0
  for _, batch in batches(pml.DISTINCT, seeds):
    ours, theirs = chosen(choice, batch)
    number += len(theirs)
    differ += len(ours ^ theirs)
  return (
    choice.name,
    choice.theirs,
    settings_text(choice.arguments),
    choice.compared,
    str(number),
    str(differ),
    "≠" if differ else "=",
    choice.note,
  )


_DRAWS = 400


def random_miners() -> Iterator[Row]:
  """The miners that draw: what they may draw, and how often they do."""
  batch = pml_sides.make_batch("unbalanced", ITEMS, DIM, 0)
  x, labels = pml_sides.unit(batch.x), batch.labels
  weighted = Choice("distance_weighted", "DistanceWeightedMiner")
  law = _law(x, labels)
  ours, theirs = _draws_of_both(weighted, x, labels)
  outside = int(np.sum((ours + theirs)[law == 0]))
  off = [_variation(counts, law) for counts in (ours, theirs)]
  yield (
    *(weighted.name, weighted.theirs, "", "law of the negatives"),
    f"{int(np.sum(ours))} and {int(np.sum(theirs))}",
    f"{outside} outside; total variation from the law {off[0]:.3f} (ours),"
    f" {off[1]:.3f} (theirs)",
    "=" if not outside and max(off) < 0.08 else "≠",
    "ours draws one negative for each positive, theirs for as many random"
    " positives as the class has items; theirs subtracts one maximum for the"
    " whole matrix, and loses anchors by underflow at d = 128",
  )
  options = {"positives_per_bin": 4, "negatives_per_bin": 6, "num_bins": 10}
  uniform = Choice(
    ("uniform_histogram", options),
    "UniformHistogramMiner",
    {"num_bins": 10, "pos_per_bin": 4, "neg_per_bin": 6},
  )
  differ, number = _bins_apart(uniform, x, labels)
  yield (
    *(uniform.name, uniform.theirs, settings_text(uniform.arguments)),
    *("draws in each bin", str(number), str(differ)),
    "≠" if differ else "=",
    "pairs are drawn with replacement in both",
  )


def _law(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The law of the negatives of each anchor, from its formula."""
  d = x.shape[1]
  distances = np.linalg.norm(x[:, None] - x[None], axis=2)
  cut = np.maximum(distances, 0.5)
  allowed = (labels[:, None] != labels) & (distances < 1.4)
  room = np.where(allowed, 1 - cut**2 / 4, 1)
  weight = np.where(allowed, cut ** (2 - d) * room ** ((3 - d) / 2), 0)
  return weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)


def _variation(counts: np.ndarray, law: np.ndarray) -> float:
  some = counts.sum(axis=1) > 0
  shares = counts[some] / counts[some].sum(axis=1, keepdims=True)
  return float(np.mean(np.abs(shares - law[some]).sum(axis=1) / 2))


def _draws_of_both(
  choice: Choice, x: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """How often each (anchor, negative) was drawn."""
  import torch

  torch.manual_seed(0)
  arrays = jnp.asarray(x), jnp.asarray(labels)
  count = lambda key: jnp.sum(
    pml_sides.our_triplets(pml_sides.our_choice(choice, *arrays, key)), axis=1
  )
  keys = jax.random.split(jax.random.key(0), _DRAWS)
  ours = np.asarray(jnp.sum(jax.jit(jax.vmap(count))(keys), axis=0))
  theirs = np.zeros_like(ours)
  for _ in range(_DRAWS):
    found = pml_sides.their_choice(choice, x, labels)
    np.add.at(theirs, (found[0].numpy(), found[2].numpy()), 1)
  return ours, theirs


def _bins_apart(
  choice: Choice, x: np.ndarray, labels: np.ndarray
) -> tuple[int, int]:
  """Draws of both that are in other bins, and draws."""
  key = jax.random.key(0)
  rows = pml_sides.our_choice(choice, jnp.asarray(x), jnp.asarray(labels), key)
  found = pml_sides.their_choice(choice, x, labels)
  same = (labels[:, None] == labels) & ~np.eye(len(x), dtype=bool)
  distances = np.asarray(rows.distances)
  differ = number = 0
  for weights, exists, (a, b) in (
    (rows.positives, same, found[:2]),
    (rows.negatives, labels[:, None] != labels, found[2:]),
  ):
    values = distances[exists]
    edges = np.linspace(values.min(), values.max(), 11)
    edges[[0, -1]] += (-1e-9, 1e-9)
    ours, _ = np.histogram(distances, edges, weights=np.asarray(weights))
    theirs, _ = np.histogram(distances[a.numpy(), b.numpy()], edges)
    differ += int(np.sum(np.abs(ours - theirs)))
    number += int(np.sum(theirs))
  return differ, number
