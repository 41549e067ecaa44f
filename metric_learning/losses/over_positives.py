"""Sums over all triplets of a row, by a loop over its positives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metric_learning.rows import Row, Terms, each_positive, made_here


def over_positives(
  terms: Callable[..., Terms], signed: bool = False
) -> Callable[..., Terms]:
  """Sums `terms` over the positives of a row, one positive at a time.

  `terms(positive_distance, row, *numbers) -> Terms` handles one positive. Its
  arguments are the distance of this positive, and the row without it (its
  weight in `row.positives` is 0). If a miner chose triplets, `row.negatives`
  are the negatives that it chose for this positive. For one term per triplet,
  return `make_terms(value, row.negatives)` with a value for each candidate. For
  one term per positive, return `make_terms(value, jnp.ones(()))` with one
  value. The weight of the positive multiplies these Terms. Values must be >= 0,
  so that the total equals the active total and has the same derivative. With
  `signed`, values may be negative, and both derivatives are computed.

  Returns a function `(row, *numbers) -> Terms`. Its forward pass also computes
  the derivatives with respect to the distances and to each number, positive by
  positive. A row of m candidates thus needs O(m) memory, and the backward pass
  only scales. Every traced value that `terms` uses must be one of the numbers
  (arrays of any shape); a traced value in its closure would fail under `vmap`
  of `lax.map`. Weights are constants. Reverse mode only.

  >>> from metric_learning.rows import make_terms
  >>> hinge = over_positives(lambda own, row, margin: make_terms(
  ...   jax.nn.relu(own - row.distances + margin), row.negatives))
  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> hinge(row, 0.5).total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)
  """

  def of_row(row: Row, *numbers: float | Array) -> Terms:
    row, dtype = _with_chosen_positives(row), row.distances.dtype
    summed = _differentiable(made_here(terms), signed)
    return summed(row, *(jnp.asarray(x, dtype) for x in numbers))

  return of_row


def _differentiable(
  terms: Callable[..., Terms], signed: bool
) -> Callable[..., Terms]:
  """The sum of `terms` over the positives, with a custom derivative."""

  def one_positive(
    positive_distance: Array,
    distances: Array,
    numbers: tuple[Array, ...],
    p: Array,
    row: Row,
  ) -> tuple[tuple[Array, ...], Terms]:
    """For the positive p: the totals to differentiate, and all its Terms."""
    index = jnp.arange(distances.shape[0])
    row = _with_chosen_negatives(p, row)
    others = jnp.where(index == p, 0, row.positives)
    rest = row._replace(distances=distances, positives=others)
    result = terms(positive_distance, rest, *numbers)
    result = jax.tree.map(lambda x: row.positives[p] * x, result)
    totals = (result.total, result.active_total)
    return totals if signed else totals[:1], result

  def total(row: Row, *numbers: Array) -> Terms:
    def step(p: Array, sums: Terms) -> Terms:
      positive_distance = row.distances[p]
      _, result = one_positive(
        positive_distance, row.distances, numbers, p, row
      )
      return jax.tree.map(jnp.add, sums, result)

    return each_positive(row.positives, step, _no_terms(row))

  def total_and_slopes(row: Row, *numbers: Array) -> tuple[Terms, Any]:
    def step(p: Array, carry: Any) -> Any:
      totals, pull, result = jax.vjp(
        lambda own, each, given: one_positive(own, each, given, p, row),
        *(row.distances[p], row.distances, numbers),
        has_aux=True,
      )
      index = jnp.arange(row.distances.shape[0])

      def slopes_of(which: int) -> tuple[Array, Any]:
        chosen = jnp.arange(len(totals)) == which
        by_positive, by_row, by_numbers = pull(
          tuple(x.astype(row.distances.dtype) for x in chosen)
        )
        return by_row + jnp.where(index == p, by_positive, 0), by_numbers

      slopes = tuple(map(slopes_of, range(len(totals))))
      return jax.tree.map(jnp.add, carry, (result, slopes))

    zeros = jax.tree.map(jnp.zeros_like, (row.distances, numbers))
    start = (_no_terms(row), (zeros,) * (2 if signed else 1))
    return each_positive(row.positives, step, start)

  def backward(slopes: Any, bar: Terms) -> tuple[Any, ...]:
    bars: tuple[Any, ...] = (bar.total, bar.active_total)
    bars = bars if signed else (sum(bars),)
    by_row, by_numbers = jax.tree.map(
      lambda *each: sum(b * x for b, x in zip(bars, each, strict=True)),
      *slopes,
    )
    none: Any = None
    return Row(by_row, none, none, none, none), *by_numbers

  differentiable = jax.custom_vjp(total)
  differentiable.defvjp(total_and_slopes, backward)
  return differentiable


def over_positive_rows(terms: Callable[..., Terms]) -> Callable[..., Terms]:
  """Like `over_positives`, for terms that also need the row of the positive.

  `terms(positive_distance, row, positive_row, *numbers) -> Terms` also gets the
  distances of the positive to all candidates, `[m]`. Returns a function
  `(rows, embeddings, distance, *numbers) -> Terms` of a block of n rows and the
  embeddings of the candidates, for a loss with `batched=True`.

  Step k handles the k-th positive of every anchor: it gathers the embeddings of
  these positives and computes their rows, n * m numbers. The backward pass
  computes them again, and adds the gradients to the gathered embeddings.
  Reverse mode only.

  >>> from metric_learning.distances import l1_matrix
  >>> from metric_learning.rows import make_terms
  >>> swap = over_positive_rows(lambda own, row, theirs: make_terms(
  ...   jax.nn.relu(own - jnp.minimum(row.distances, theirs)), row.negatives))
  >>> x = jnp.array([[2.0], [-1.0]])  # anchor 0: D_ap = 2, D_an = 1, D_pn = 3
  >>> rows = Row(jnp.array([[2.0, 1.0]]), jnp.array([[1.0, 0.0]]),
  ...            jnp.array([[0.0, 1.0]]), jnp.ones(1), jnp.zeros(1, int))
  >>> swap(rows, x, l1_matrix).total
  Array([1.], dtype=float32)
  """

  def of_rows(
    rows: Row,
    embeddings: Float[Array, "m d"],
    distance: Callable[[Array, Array], Array],
    *numbers: float | Array,
  ) -> Terms:
    rows, dtype = _with_chosen_positives(rows), rows.distances.dtype
    summed = _differentiable_rows(_step(made_here(terms), distance))
    return summed(rows, embeddings, *(jnp.asarray(x, dtype) for x in numbers))

  return of_rows


def _step(
  terms: Callable[..., Terms], distance: Callable[[Array, Array], Array]
) -> Callable[..., Terms]:
  """A function that handles one positive of each anchor."""

  def step(
    p: Array,
    positive_distances: Array,
    distances: Array,
    embeddings: Array,
    numbers: tuple[Array, ...],
    rows: Row,
  ) -> Terms:
    """The Terms of the positive p of each anchor; 0 where p is m."""

    def one_anchor(
      p: Array,
      positive_distance: Array,
      distances: Array,
      positive_row: Array,
      row: Row,
    ) -> Terms:
      index = jnp.arange(distances.shape[0])
      others = jnp.where(index == p, 0, row.positives)
      # A product form would not give exactly 0 as the distance of p to itself.
      positive_row = jnp.where(index == p, 0, positive_row)
      row = _with_chosen_negatives(p, row)
      row = row._replace(distances=distances, positives=others)
      return terms(positive_distance, row, positive_row, *numbers)

    positive_rows = distance(embeddings[p], embeddings)
    result = jax.vmap(one_anchor)(
      p, positive_distances, distances, positive_rows, rows
    )
    weight = jax.vmap(lambda w, p: w.at[p].get(mode="fill", fill_value=0))
    return _weighted(result, weight(rows.positives, p))

  return step


def _differentiable_rows(step: Callable[..., Terms]) -> Callable[..., Terms]:
  """The sum of `step` over positives of a block, with a custom derivative."""

  def total(rows: Row, embeddings: Array, *numbers: Array) -> Terms:
    def add(p: Array, sums: Terms) -> Terms:
      positive_distances = _at(rows.distances, p)
      result = step(
        p, positive_distances, rows.distances, embeddings, numbers, rows
      )
      return jax.tree.map(jnp.add, sums, result)

    return each_positive(rows.positives, add, _no_terms(rows))

  def forward(*args: Any) -> tuple[Terms, Any]:
    return total(*args), args

  def backward(args: Any, bar: Terms) -> tuple[Any, ...]:
    rows, embeddings, *numbers = args
    numbers = tuple(numbers)

    def add(p: Array, slopes: Any) -> tuple[Any, ...]:
      positive_distances = _at(rows.distances, p)
      _, pull = jax.vjp(
        lambda *inputs: step(p, *inputs, rows),
        *(positive_distances, rows.distances, embeddings, numbers),
      )
      by_positive, *by_inputs = pull(bar)
      by_rows, *others = jax.tree.map(jnp.add, slopes, tuple(by_inputs))
      index = jnp.arange(rows.distances.shape[1])
      by_positive = jnp.where(index == p[:, None], by_positive[:, None], 0)
      return by_rows + by_positive, *others

    zeros = jax.tree.map(jnp.zeros_like, (rows.distances, embeddings, numbers))
    slopes = each_positive(rows.positives, add, zeros)
    by_rows, by_embeddings, by_numbers = slopes
    none: Any = None
    return Row(by_rows, none, none, none, none), by_embeddings, *by_numbers

  differentiable = jax.custom_vjp(total)
  differentiable.defvjp(forward, backward)
  return differentiable


def _with_chosen_positives(row: Row) -> Row:
  """The row with the positives of its chosen triplets, if there are any."""
  if row.triplets is None:
    return row
  return row._replace(positives=row.triplets.positives)


def _with_chosen_negatives(p: Int[Array, ""], row: Row) -> Row:
  """The row with the negatives chosen for its positive p, if any are chosen."""
  if row.triplets is None:
    return row
  return row._replace(negatives=row.triplets.of(p, row.distances))


def _at(values: Float[Array, "n m"], p: Int[Array, " n"]) -> Float[Array, " n"]:
  return jnp.take_along_axis(values, p[:, None], axis=1, mode="clip")[:, 0]


def _weighted(terms: Terms, weight: Float[Array, "*n"]) -> Terms:
  """The terms times a weight, or 0 where the weight is 0 (even if NaN)."""
  return jax.tree.map(lambda x: jnp.where(weight > 0, weight * x, 0), terms)


def _no_terms(row: Row) -> Terms:
  zero = jnp.zeros(row.distances.shape[:-1], row.distances.dtype)
  return Terms(zero, zero, zero, zero)
