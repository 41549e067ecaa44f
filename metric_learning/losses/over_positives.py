"""All triplets without triplets: a loop over the positives of one row."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from metric_learning.rows import Row, Terms, each_positive, made_here


def over_positives(
  terms: Callable[..., Terms], signed: bool = False
) -> Callable[..., Terms]:
  """Adds `terms` over the positives of a row, one positive at a time.

  `terms(own, row, *numbers) -> Terms` meets one positive: `own` is its
  distance, and `row` is the row without it (its weight in `row.positives` is
  0). A term for each triplet is `make_terms(value, row.negatives)` with a
  value for each candidate; a term for each positive is
  `make_terms(value, jnp.ones(()))` with one value. The sums are weighted by
  the weight of the positive. Values must be >= 0: the total is then that of
  the active terms, and has the same derivative. With `signed` they may be
  negative, and both derivatives are taken.

  The result is a function `(row, *numbers) -> Terms`. The derivatives by the
  distances and by each number are taken in the same pass, positive by
  positive, so that a row of m candidates needs O(m) memory and the backward
  pass only scales. Where a miner chose triplets, `row.negatives` are those that
  it chose for this positive. Whatever is traced must be among the numbers
  (arrays of any shape): one that `terms` closed over would fail under `vmap` of
  `lax.map`. Weights are constants. Reverse mode only.

  >>> from metric_learning.rows import make_terms
  >>> hinge = over_positives(lambda own, row, margin: make_terms(
  ...   jax.nn.relu(own - row.distances + margin), row.negatives))
  >>> row = Row(jnp.array([1.0, 0.9, 3.0]), jnp.array([1.0, 0.0, 0.0]),
  ...           jnp.array([0.0, 1.0, 1.0]), jnp.array(1.0), jnp.array(0))
  >>> hinge(row, 0.5).total  # 1 - .9 + .5, and 0
  Array(0.6, dtype=float32)
  """

  def of_row(row: Row, *numbers: float | Array) -> Terms:
    row, dtype = _with_chosen(row), row.distances.dtype
    summed = _differentiable(made_here(terms), signed)
    return summed(row, *(jnp.asarray(x, dtype) for x in numbers))

  return of_row


def _differentiable(terms, signed):
  """The sum over positives with its derivative, of Terms made by `terms`."""

  def one(own, distances, numbers, p, row):
    """What the positive p says: the totals to differentiate, and all sums."""
    index = jnp.arange(distances.shape[0])
    row = _meeting(p, row)
    others = jnp.where(index == p, 0, row.positives)
    found = terms(
      own, row._replace(distances=distances, positives=others), *numbers
    )
    found = jax.tree.map(lambda x: row.positives[p] * x, found)
    totals = (found.total, found.active_total)
    return totals if signed else totals[:1], found

  def total(row, *numbers):
    def step(p, sums):
      own = row.distances[p]
      _, found = one(own, row.distances, numbers, p, row)
      return jax.tree.map(jnp.add, sums, found)

    return each_positive(row.positives, step, _no_terms(row))

  def total_and_slopes(row, *numbers):
    def step(p, carry):
      totals, pull, found = jax.vjp(
        lambda *moved: one(*moved, p, row),
        *(row.distances[p], row.distances, numbers),
        has_aux=True,
      )
      index = jnp.arange(row.distances.shape[0])

      def slopes_of(which):
        chosen = jnp.arange(len(totals)) == which
        by_own, by_row, by_numbers = pull(
          tuple(x.astype(row.distances.dtype) for x in chosen)
        )
        return by_row + jnp.where(index == p, by_own, 0), by_numbers

      found = found, tuple(map(slopes_of, range(len(totals))))
      return jax.tree.map(jnp.add, carry, found)

    zeros = jax.tree.map(jnp.zeros_like, (row.distances, numbers))
    start = (_no_terms(row), (zeros,) * (2 if signed else 1))
    return each_positive(row.positives, step, start)

  def scaled(slopes, bar):
    bars = (bar.total, bar.active_total)
    bars = bars if signed else (sum(bars),)
    by_row, by_numbers = jax.tree.map(
      lambda *each: sum(b * x for b, x in zip(bars, each, strict=True)),
      *slopes,
    )
    return Row(by_row, None, None, None, None), *by_numbers

  differentiable = jax.custom_vjp(total)
  differentiable.defvjp(total_and_slopes, scaled)
  return differentiable


def over_positive_rows(terms: Callable[..., Terms]) -> Callable[..., Terms]:
  """As `over_positives`, for terms that need the row of the positive too.

  `terms(own, row, theirs, *numbers) -> Terms` also gets `theirs`, the
  distances of the positive to all candidates, `[m]`. The result is a function
  `(rows, embeddings, distance, *numbers) -> Terms` of a block of n rows and
  of the candidates, for a loss with `batched=True`.

  Step k meets the k-th positive of all anchors: it gathers their embeddings
  and computes their rows, n * m numbers; the backward pass does so again, and
  adds to the embeddings that were gathered. Reverse mode only.

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
    rows, dtype = _with_chosen(rows), rows.distances.dtype
    summed = _differentiable_rows(_meeting_one(made_here(terms), distance))
    return summed(rows, embeddings, *(jnp.asarray(x, dtype) for x in numbers))

  return of_rows


def _meeting_one(make, distance):
  """What one positive of each anchor says, with the rows of the positives."""

  def step(p, own, distances, embeddings, numbers, rows):
    """The Terms of the positive p of each anchor, 0 where p is m."""

    def one(p, own, distances, theirs, row):
      index = jnp.arange(distances.shape[0])
      others = jnp.where(index == p, 0, row.positives)
      # A product form of the distance would not give 0 to itself.
      theirs = jnp.where(index == p, 0, theirs)
      row = _meeting(p, row)
      row = row._replace(distances=distances, positives=others)
      return make(own, row, theirs, *numbers)

    theirs = distance(embeddings[p], embeddings)
    found = jax.vmap(one)(p, own, distances, theirs, rows)
    weight = jax.vmap(lambda w, p: w.at[p].get(mode="fill", fill_value=0))
    return _weighted(found, weight(rows.positives, p))

  return step


def _differentiable_rows(step):
  """The sum of `step` over the positives of a block of rows."""

  def total(rows, embeddings, *numbers):
    def add(p, sums):
      own = _at(rows.distances, p)
      found = step(p, own, rows.distances, embeddings, numbers, rows)
      return jax.tree.map(jnp.add, sums, found)

    return each_positive(rows.positives, add, _no_terms(rows))

  def forward(*args):
    return total(*args), args

  def backward(args, bar):
    rows, embeddings, *numbers = args
    numbers = tuple(numbers)

    def add(p, slopes):
      own = _at(rows.distances, p)
      _, pull = jax.vjp(
        lambda *moved: step(p, *moved, rows),
        *(own, rows.distances, embeddings, numbers),
      )
      by_own, *found = pull(bar)
      by_rows, *others = jax.tree.map(jnp.add, slopes, tuple(found))
      index = jnp.arange(rows.distances.shape[1])
      by_own = jnp.where(index == p[:, None], by_own[:, None], 0)
      return by_rows + by_own, *others

    zeros = jax.tree.map(jnp.zeros_like, (rows.distances, embeddings, numbers))
    slopes = each_positive(rows.positives, add, zeros)
    by_rows, by_embeddings, by_numbers = slopes
    return Row(by_rows, None, None, None, None), by_embeddings, *by_numbers

  differentiable = jax.custom_vjp(total)
  differentiable.defvjp(forward, backward)
  return differentiable


def _with_chosen(row: Row) -> Row:
  """The row with the positives of its chosen triplets, if there are any."""
  if row.triplets is None:
    return row
  return row._replace(positives=row.triplets.positives)


def _meeting(p: Int[Array, ""], row: Row) -> Row:
  """The row with the negatives that its positive p meets."""
  if row.triplets is None:
    return row
  return row._replace(negatives=row.triplets.of(p, row.distances))


def _at(values: Float[Array, "n m"], p: Int[Array, " n"]) -> Float[Array, " n"]:
  return jnp.take_along_axis(values, p[:, None], axis=1, mode="clip")[:, 0]


def _weighted(terms: Terms, weight: Float[Array, "*n"]) -> Terms:
  """The terms times a weight; what weighs 0 may be anything."""
  return jax.tree.map(lambda x: jnp.where(weight > 0, weight * x, 0), terms)


def _no_terms(row: Row) -> Terms:
  zero = jnp.zeros(row.distances.shape[:-1], row.distances.dtype)
  return Terms(zero, zero, zero, zero)
