"""All triplets without triplets: a loop over the positives of one row."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from metric_learning.rows import Row, Terms


def over_positives(terms: Callable[..., Terms]) -> Callable[..., Terms]:
  """Adds `terms` over the positives of a row, one positive at a time.

  `terms(own, row, *numbers) -> Terms` meets one positive: `own` is its
  distance, and `row` is the row without it (its weight in `row.positives` is
  0). A term for each triplet is `make_terms(value, row.negatives)` with a
  value for each candidate; a term for each positive is
  `make_terms(value, jnp.ones(()))` with one value. The sums are weighted by
  the weight of the positive. Values must be >= 0: the total is then that of
  the active terms, and has the same derivative.

  The result is a function `(row, *numbers) -> Terms`. The derivatives by the
  distances and by each number are taken in the same pass, positive by
  positive, so that a row of m candidates needs O(m) memory and the backward
  pass only scales. Whatever is traced must be among the numbers (arrays of any
  shape): one that `terms` closed over would fail under `vmap` of `lax.map`.
  Weights are constants. Reverse mode only.

  >>> from metric_learning.rows import make_terms
  >>> hinge = over_positives(lambda own, row, margin: make_terms(
  ...   jax.nn.relu(own - row.distances + margin), row.negatives))
  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> hinge(row, 0.5).total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)
  """

  def one(own, distances, numbers, p, row):
    """What the positive p says: the total to differentiate, and all sums."""
    index = jnp.arange(distances.shape[0])
    others = jnp.where(index == p, 0, row.positives)
    found = terms(
      own, row._replace(distances=distances, positives=others), *numbers
    )
    found = jax.tree.map(lambda x: row.positives[p] * x, found)
    return found.total, found

  def total(row, *numbers):
    def step(p, sums):
      own = row.distances[p]
      _, found = one(own, row.distances, numbers, p, row)
      return jax.tree.map(jnp.add, sums, found)

    return _each_positive(row.positives, step, _no_terms(row))

  def total_and_slopes(row, *numbers):
    def step(p, carry):
      sums, slopes, number_slopes = carry
      own = row.distances[p]
      (_, found), (by_own, by_row, by_numbers) = jax.value_and_grad(
        one, argnums=(0, 1, 2), has_aux=True
      )(own, row.distances, numbers, p, row)
      index = jnp.arange(slopes.shape[0])
      return (
        jax.tree.map(jnp.add, sums, found),
        slopes + by_row + jnp.where(index == p, by_own, 0),
        jax.tree.map(jnp.add, number_slopes, by_numbers),
      )

    zeros = jax.tree.map(jnp.zeros_like, (row.distances, numbers))
    start = (_no_terms(row), *zeros)
    sums, *slopes = _each_positive(row.positives, step, start)
    return sums, tuple(slopes)

  def scaled(slopes, bar):
    by_row, by_numbers = jax.tree.map(
      lambda x: (bar.total + bar.active_total) * x, slopes
    )
    return Row(by_row, None, None, None, None), *by_numbers

  differentiable = jax.custom_vjp(total)
  differentiable.defvjp(total_and_slopes, scaled)

  def of_row(row: Row, *numbers: float | Array) -> Terms:
    dtype = row.distances.dtype
    return differentiable(row, *(jnp.asarray(x, dtype) for x in numbers))

  return of_row


def _no_terms(row: Row) -> Terms:
  zero = jnp.zeros((), row.distances.dtype)
  return Terms(zero, zero, zero, zero)


def _each_positive(positives: Float[Array, " m"], step, start):
  """Applies step(p, carry) to each p of weight > 0, in order."""
  index = jnp.arange(positives.shape[0])

  def following(p):
    """The first positive after p, or m."""
    later = (index > p) & (positives > 0)
    return jnp.where(jnp.any(later), jnp.argmax(later), index.shape[0])

  return jax.lax.while_loop(
    lambda state: state[0] < index.shape[0],
    lambda state: (following(state[0]), step(*state)),
    (following(-1), start),
  )[1]
