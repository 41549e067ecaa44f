"""The tables of regularizers, distances and wrappers of losses."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metric_learning as ml
from experiments.benchmarks import pml, pml_sides
from experiments.benchmarks.parity.cells import (
  DIM,
  ITEMS,
  NEAR,
  Row,
  Table,
  apart,
  batches,
  both_slopes,
  brackets,
  number_text,
  settings_text,
  tensor,
)

_HEAD = (
  "ours",
  "theirs",
  "their settings",
  "value",
  "gradient",
  "agree",
  "note",
)


def tables(seeds: int) -> Iterator[Table]:
  """The tables, from `seeds` batches of each kind."""
  yield "Regularizers", _HEAD, list(regularizer_rows(seeds))
  yield "Distances", _HEAD, list(distance_rows(seeds))
  yield "Wrappers", _HEAD, list(wrapper_rows(seeds))


def _plain_row(
  name: str,
  theirs: pml.Made,
  found: Any,
  note: str = "",
  tolerance: float = 1e-9,
) -> Row:
  values, gradients = zip(*found, strict=True)
  agree = max(*values, *gradients) <= tolerance
  return (
    name,
    theirs[0],
    settings_text(theirs[1]),
    number_text(max(values)),
    number_text(max(gradients)),
    "=" if agree else "≠",
    note,
  )


def regularizer_rows(seeds: int) -> Iterator[Row]:
  """Each regularizer of embeddings, of class weights, of centers."""
  for name, options, theirs, of in pml.REGULARIZERS:
    function = ml.REGULARIZERS[name]
    loss = pml_sides.made("regularizers", theirs)
    found = []
    for _, batch in batches(pml.DISTINCT, seeds):
      x = {"embeddings": batch.x, "weights": batch.table[:, 0]}.get(
        of, batch.table
      )
      shape = (-1, x.shape[-1])
      found.append(
        both_slopes(
          lambda x, f=function, o=options: f(x, **o),
          lambda x, f=loss, shape=shape: f(x.reshape(shape)),
          x,
        )
      )
    yield _plain_row(f"{name}{brackets(options)}", theirs, found)


def distance_rows(seeds: int) -> Iterator[Row]:
  """Each distance as a matrix, multiplied by random numbers."""
  for metric, normalize, theirs in pml.DISTANCES:
    distance = pml_sides.made("distances", theirs)
    # Their similarities rise where our distances fall; a cosine is 1 - D.
    sign = -1 if distance.is_inverted else 1
    shift = 1 if metric == "cosine" else 0
    found = []
    for seed, (_, batch) in enumerate(batches(pml.DISTINCT, seeds)):
      weights = np.random.RandomState(seed).normal(size=(ITEMS, ITEMS))
      # At distance 0 to itself the slope of a root is a matter of choice.
      np.fill_diagonal(weights, 0)

      def ours(
        x: Any,
        weights: np.ndarray = weights,
        metric: Any = metric,
        normalize: str = normalize,
      ) -> jax.Array:
        x = ml.NORMALIZATIONS[normalize](x)
        return jnp.sum(weights * ml.pairwise(metric, x, x))

      def value(
        x: Any,
        weights: np.ndarray = weights,
        distance: Any = distance,
        sign: int = sign,
        shift: int = shift,
      ) -> Any:
        import torch

        return torch.sum(torch.tensor(weights) * (shift + sign * distance(x)))

      found.append(both_slopes(ours, value, batch.x))
    name, options = (metric, {}) if isinstance(metric, str) else metric
    label = f"{name}{brackets(options)}, normalize {normalize}"
    yield _plain_row(label, theirs, found)


def wrapper_rows(seeds: int) -> Iterator[Row]:
  """Sums, two views, and the cross-batch memory."""
  yield _sum_row(seeds)
  for symmetric in (True, False):
    yield _views_row(symmetric, seeds)
  yield _memory_row(seeds)
  yield _dynamic_row()
  why = (
    "theirs takes class labels for places in the batch and compares an item"
    " with itself; ours is cross-entropy against the other view"
  )
  yield ("instance", "InstanceLoss", "", "–", "–", "by design", why)
  why = (
    "theirs multiplies the items of a classification loss by how often a miner"
    " chose them; ours mines the row of classes of each item"
  )
  yield ("miners of classifiers", "", "", "–", "–", "by design", why)


def _sum_row(seeds: int) -> Row:
  losses = ("ContrastiveLoss", "MultiSimilarityLoss")
  names = ("contrastive_linear", "multi_similarity")
  weights = (0.5, 2.0)
  objective = ml.combine(
    [(w, ml.make_objective(n)) for w, n in zip(weights, names, strict=True)]
  )
  params: dict[str, Any] = {"0": {}, "1": {}}
  built = [pml_sides.made("losses", (name, {})) for name in losses]
  theirs = pml_sides.made("losses", ("MultipleLosses", {"losses": built}))
  theirs.weights = weights
  found = []
  for _, batch in batches(pml.DISTINCT, seeds):
    labels = batch.labels
    found.append(
      both_slopes(
        lambda x, labels=labels: objective(params, x, labels)[0],
        lambda x, labels=labels: theirs(x, tensor(labels)),
        batch.x,
      )
    )
  note = "contrastive_linear and multi_similarity"
  return _plain_row("combine", ("MultipleLosses", {}), found, note)


def _views_row(symmetric: bool, seeds: int) -> Row:
  objective: Any = ml.make_objective("infonce_per_pair")
  inner = pml_sides.made("losses", ("NTXentLoss", {}))
  arguments = {"loss": inner, "symmetric": symmetric}
  theirs = pml_sides.made("losses", ("SelfSupervisedLoss", arguments))
  half = ITEMS // 2
  labels = np.arange(half)

  def ours(x: Any) -> jax.Array:
    if symmetric:
      return objective({}, x, np.tile(labels, 2))[0]
    views = {"references": x[half:], "reference_labels": labels}
    return objective({}, x[:half], labels, **views)[0]

  found = [
    both_slopes(ours, lambda x: theirs(x[:half], x[half:]), batch.x)
    for _, batch in batches(("balanced",), seeds)
  ]
  name = "labels twice" if symmetric else "references"
  row = ("SelfSupervisedLoss", {"symmetric": symmetric})
  return _plain_row(name, row, found, "infonce_per_pair")


def _memory_row(seeds: int) -> Row:
  """Steps with a memory that fills and then wraps around."""
  size = 2 * ITEMS + ITEMS // 2
  ours = ml.with_memory(ml.make_objective("contrastive_linear"), size)
  state = ours.init_state(embedding_dim=DIM)
  state = jax.tree.map(
    lambda x: x.astype(float) if x.dtype == jnp.float32 else x, state
  )
  inner = pml_sides.made("losses", ("ContrastiveLoss", {}))
  arguments = {"loss": inner, "embedding_size": DIM, "memory_size": size}
  theirs = pml_sides.made("losses", ("CrossBatchMemory", arguments))
  found = []
  for _, batch in batches(pml.DISTINCT, seeds):
    value = lambda x, labels=batch.labels, state=state: ours(
      {}, x, labels, state=state
    )
    found.append(
      both_slopes(
        lambda x, value=value: value(x)[0],
        lambda x, labels=batch.labels: theirs(x, tensor(labels)),
        batch.x,
      )
    )
    state = value(batch.x)[1].state
  note = f"contrastive_linear, {len(found)} steps; enqueue_first"
  arguments = {"memory_size": size}
  return _plain_row(
    "with_memory", ("CrossBatchMemory", arguments), found, note, NEAR
  )


def _dynamic_row() -> Row:
  """The first batch of the dynamic margin, and how far the next is apart."""
  objective = ml.make_objective("triplet_dynamic_soft")
  theirs = pml_sides.made("losses", ("DynamicSoftMarginLoss", {}))
  state = jax.tree.map(lambda x: x.astype(float), objective.init_state())
  off = []
  for seed in (0, 1):
    batch = pml_sides.make_batch("balanced", ITEMS, DIM, seed)
    x, labels = pml_sides.unit(batch.x), batch.labels
    arrays = jnp.asarray(x), jnp.asarray(labels)
    value, aux = objective({}, *arrays, state=state)
    state = aux.state
    off.append(apart(value, theirs(tensor(x), tensor(labels))))
  note = (
    f"value of the first batch {number_text(off[0])}, of a second"
    f" {number_text(off[1])}: theirs adds counts to a histogram of sum 1, so"
    " that a batch of T triplets weighs T times the momentum; theirs has a"
    " gradient through the histogram, does not save it, and fails beyond 1.6"
  )
  return (
    "triplet_dynamic_soft",
    *("DynamicSoftMarginLoss", "", number_text(off[0]), "–"),
    "by design" if off[0] < 1e-9 else "≠",
    note,
  )
