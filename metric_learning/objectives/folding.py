"""Folding: turns embeddings into rows, and rows into terms."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from metric_learning.devices import on_devices, sharers
from metric_learning.distances import (
  pairwise,
  unit_cosine,
)
from metric_learning.miners import MINERS
from metric_learning.objectives.blocks import block_rows
from metric_learning.relations import RELATIONS
from metric_learning.rows import (
  Context,
  Parts,
  Points,
  Row,
  make_terms,
  only_between,
  over_rows,
)
from metric_learning.signatures import (
  call_with,
)


class Sides(NamedTuple):
  """Anchors and candidates; `plain` holds both before a loss projects them."""

  anchors: Points
  candidates: Points
  plain: tuple[Points, Points]


class Maps(NamedTuple):
  """Functions that map a function of one row over many rows.

  anchors: over the rows of the anchors.
  candidates: over the rows of the candidates against each other.
  back: the second map that the context of the loss receives: `candidates`, or
    the map over the rows of the candidates against the anchors.
  """

  anchors: Callable[..., Any]
  candidates: Callable[..., Any]
  back: Callable[..., Any]


# The terms of all anchors, those of their mean distances, and the next state.
Folded = tuple[Parts, Parts, dict[str, Any]]


def _joined(
  over: Callable[..., Any], join: Callable[[Row], Row]
) -> Callable[..., Any]:
  """Like `over`, but applies `join` to each row first."""

  def mapped(f: Callable[..., Any], *own: Any, batched: bool = False) -> Any:
    first = jax.vmap(join) if batched else join
    return over(lambda row, *mine: f(first(row), *mine), *own, batched=batched)

  return mapped


def fold(
  objective: Any,
  hyper: dict[str, Any],
  met: Sides,
  affinity: Any,
  state: Any,
  key: Array | None,
) -> Folded:
  """The terms of all anchors; on a mesh, each device folds its own anchors."""
  same = met.candidates is met.anchors
  mirrored = affinity is not None and objective.entry.mirrored and not same
  affinities = affinity, affinity.T if mirrored else None
  names = "miner_options", "reduction_options", "relation_options"
  options = {name: getattr(objective, name) for name in names}

  def fold(whole: Any, affinities: Any) -> Any:
    options, hyper, met, *more = whole
    here = dataclasses.replace(objective, **options)
    if same:
      met = met._replace(candidates=met.anchors)
    rows = maps_of(here, hyper, met, *affinities)
    return _terms_of_all(here, hyper, met, rows, *more)

  whole = options, hyper, met, state, key
  if objective.mesh is None:
    return fold(whole, affinities)
  return on_devices(fold, objective.mesh, whole, affinities)


def _distance_of(objective: Any) -> Callable[..., Any]:
  """The function of two sides that computes the distances of the rows."""
  fixed = objective.entry.fixed_metric
  metric = fixed or objective.eval_metric
  if not fixed and (metric, objective.normalized) == ("cosine", "l2"):
    # The points have norm 1, or 0; `pairwise` would normalize them again.
    return unit_cosine
  return functools.partial(pairwise, metric)


def fold_pairs(
  objective: Any, hyper: dict[str, Any], met: Sides, *more: Any
) -> Folded:
  """Like `fold`, only for anchors with a positive: at most half of the items.

  For a loss with `one_pair`, in which the other anchors have no term.
  """
  index = _with_partner(met.anchors, met.candidates)
  pick = lambda points: Points(*(x[index] for x in points))
  plain = pick(met.plain[0]), met.plain[1]
  met_half = met._replace(anchors=pick(met.anchors), plain=plain)
  parts, seen, kept = fold(objective, hyper, met_half, *more)
  n = met.anchors.labels.shape[0]
  spread = lambda x: jnp.zeros((n, *x.shape[1:]), x.dtype).at[index].set(x)
  return *jax.tree.map(spread, (parts, seen)), kept


def _with_partner(anchors: Points, candidates: Points) -> Array:
  """The first n // 2 anchors, ordered so that those with a positive lead."""
  there = candidates.weight > 0
  # Sorted by label, with padding last.
  order = jnp.lexsort((candidates.labels, ~there))
  labels, count = candidates.labels[order], jnp.sum(there)
  last = jnp.iinfo(labels.dtype).max
  keys = jnp.where(jnp.arange(labels.shape[0]) < count, labels, last)
  at = jnp.searchsorted(keys, anchors.labels)
  found = (at < count) & (labels[at] == anchors.labels) & (anchors.weight > 0)
  n = anchors.labels.shape[0]
  return jnp.argsort(~found, stable=True)[: max(n // 2, 1)]


def maps_of(
  objective: Any,
  hyper: dict[str, Any],
  met: Sides,
  affinity: Any,
  back: Any = None,
) -> Maps:
  """Maps over the rows of the anchors, and over those of the candidates.

  `back` is the affinity of candidates and anchors, if a loss needs it.
  """
  entry, relation = objective.entry, RELATIONS[objective.relation].weights
  distance = _distance_of(objective)
  relation = functools.partial(relation, **objective.relation_options)
  devices = 1 if objective.mesh is None else sharers(objective.mesh)

  def over(side: Points, other: Points, affinity: Any) -> Callable[..., Any]:
    blocks = block_rows(
      objective.block_size,
      -(-side.labels.shape[0] // devices),
      other.labels.shape[0],
      recomputes_distances=entry.recomputes_distances,
    )
    return over_rows(
      side, other, distance, affinity, blocks, relation, objective.mesh
    )

  anchors, candidates = met.anchors, met.candidates
  rows = over(anchors, candidates, affinity)
  if candidates is anchors:
    return Maps(rows, rows, rows)
  if entry.join is not None:
    rows = _joined(rows, functools.partial(entry.call, entry.join, hyper))
  # Made on use, since few losses and miners need them.
  later = lambda *sides: lambda *args, **how: over(*sides)(*args, **how)
  among = later(candidates, candidates, None)
  if back is None:
    return Maps(rows, among, among)
  # An affinity compares anchors with references, not two references.
  return Maps(rows, among, later(candidates, anchors, back))


def _still(row: Row) -> Row:
  """The row with constant distances, as a miner sees it."""
  return row._replace(distances=jax.lax.stop_gradient(row.distances))


def _miner_of(
  objective: Any, met: Sides, rows: Maps, key: Array | None
) -> tuple[Context, Callable[..., Row]]:
  """The context of the miner, and `mined(row, own) -> row`."""
  miner, context = MINERS[objective.miner], Context()
  if miner.context is not None:
    context = call_with(
      objective.miner_options,
      miner.context,
      *(
        lambda f, over=over: over(lambda row: f(_still(row)))
        for over in (rows.anchors, rows.candidates)
      ),
      *jax.lax.stop_gradient(met.plain),
      key,
    )

  def mined(row: Row, own: Any) -> Row:
    """The row with the weights that the miner chose, as constants."""
    more = (Context(own, context.shared),) if miner.context else ()
    kept = call_with(objective.miner_options, miner.mine, _still(row), *more)
    return kept._replace(distances=row.distances)

  return context, mined


def _context_of(
  objective: Any,
  hyper: dict[str, Any],
  met: Sides,
  rows: Maps,
  mining: tuple[Context, Callable[..., Row]],
  state: Any,
) -> Context:
  """The context that the loss computes from the whole batch, if any."""
  entry, (of_miner, mined) = objective.entry, mining
  if entry.context is None:
    return Context()

  def over_mined(over: Callable[..., Any]) -> Callable[..., Any]:
    return lambda f: over(lambda row, own: f(mined(row, own)), of_miner.own)

  # The context of a miner covers the anchors, so other rows are not mined.
  mines_both = (
    MINERS[objective.miner].context is None or rows.back is rows.anchors
  )
  theirs = over_mined(rows.back) if mines_both else rows.back
  before = () if entry.state is None else (state,)
  return entry.call(
    entry.context, hyper, over_mined(rows.anchors), theirs, *met.plain, *before
  )


def _terms_of_all(
  objective: Any,
  hyper: dict[str, Any],
  met: Sides,
  rows: Maps,
  state: Any,
  key: Array | None,
) -> Folded:
  """The terms of every anchor, its mean distances, and the next state."""
  entry = objective.entry
  mining = of_miner, mined = _miner_of(objective, met, rows, key)
  context = _context_of(objective, hyper, met, rows, mining, state)

  def terms_of(row: Row, own_mining: Any, own: Any) -> Parts:
    more = (Context(own, context.shared),) if entry.context else ()
    return entry.call(entry.terms, hyper, mined(row, own_mining), *more)

  def terms_together(rows: Row, own_mining: Any, own: Any) -> Parts:
    rows = jax.vmap(mined)(rows, own_mining)
    embeddings, distance = met.candidates.embeddings, _distance_of(objective)
    return entry.call(entry.terms, hyper, rows, embeddings, distance)

  terms = terms_together if entry.batched else jax.vmap(terms_of)

  def of_rows(rows: Row, own_mining: Any, own: Any) -> tuple[Parts, Parts]:
    with _window(objective):
      parts = terms(rows, own_mining, own)
    # The terms of padding have weight 0, whatever a loss returns for an empty
    # row.
    real = rows.weight > 0
    parts = jax.tree.map(lambda x: jnp.where(real, x, 0), parts)
    distances = jax.lax.stop_gradient(rows.distances)
    each = jax.vmap(make_terms)
    seen = {
      "positive_distance": each(distances, rows.positives),
      "negative_distance": each(distances, rows.negatives),
    }
    return parts, seen

  parts, seen = rows.anchors(of_rows, of_miner.own, context.own, batched=True)
  kept = state or {} if entry.state is None else context.state
  return parts, seen, jax.lax.stop_gradient(kept)


def _window(objective: Any) -> contextlib.AbstractContextManager[None]:
  """The context of the value window of the reduction."""
  options = objective.reduction_options
  if not {"low", "high"} & set(options):
    return contextlib.nullcontext()
  return only_between(
    options.get("low", -math.inf), options.get("high", math.inf)
  )
