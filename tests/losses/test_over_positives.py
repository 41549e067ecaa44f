"""The loop over positives against the plain sum, which autodiff handles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning.losses.over_positives import over_positives
from metric_learning.rows import Row, make_terms
from tests.quick import quick_jit

M = 9


def per_triplet(own, row, scale, shifts):
  values = jax.nn.softplus(scale * (own - row.distances) + shifts)
  return make_terms(values, row.negatives)


def per_positive(own, row, scale, shifts):
  """A soft rank of the positive among all candidates."""
  ahead = jax.nn.sigmoid(scale * (own - row.distances) + shifts)
  same, other = (jnp.sum(w * ahead) for w in (row.positives, row.negatives))
  return make_terms((1 + same) / (1 + same + other), jnp.ones_like(own))


def plainly(terms):
  """The same sum, unrolled: every positive takes part with its weight."""

  def of_row(row, *numbers):
    sums = []
    for p in range(M):
      others = row._replace(positives=row.positives.at[p].set(0))
      found = terms(row.distances[p], others, *numbers)
      sums.append(jax.tree.map(lambda x, p=p: row.positives[p] * x, found))
    return jax.tree.map(lambda *xs: sum(xs), *sums)

  return of_row


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def example(seed):
  generator = np.random.default_rng(seed)
  positives = generator.uniform(size=M) * (generator.uniform(size=M) > 0.5)
  negatives = generator.uniform(size=M) * (generator.uniform(size=M) > 0.3)
  row = Row(
    jnp.asarray(generator.uniform(size=M)),
    jnp.asarray(positives),
    jnp.asarray(negatives),
    jnp.array(1.0),
    jnp.array(0),
  )
  return row, 3.0, jnp.asarray(generator.normal(size=M))


@pytest.mark.parametrize("terms", [per_triplet, per_positive])
def test_terms_and_all_derivatives_equal_the_plain_sum(terms, x64):
  def everything(looped):
    f = over_positives(terms) if looped else plainly(terms)

    def total(distances, scale, shifts, row):
      found = f(row._replace(distances=distances), scale, shifts)
      return 2 * found.total + found.active_total, found

    return quick_jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))

  ours, plain = everything(True), everything(False)
  for seed in range(3):
    row, *numbers = example(seed)
    got, expected = (run(row.distances, *numbers, row) for run in (ours, plain))
    for a, b in zip(
      jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_numbers_may_be_traced_in_a_map_of_blocks(x64):
  rows = jax.tree.map(lambda *x: jnp.stack(x), *(example(i)[0] for i in (0, 1)))
  shifts = example(0)[2]
  f = over_positives(per_triplet)

  def total(scale, shifts, rows):
    each = jax.lax.map(
      jax.checkpoint(lambda row: f(row, scale, shifts).total), rows
    )
    return jnp.sum(each)

  slope = jax.grad(total, (0, 1))
  scales = jnp.array([0.5, 3.0])
  both = quick_jit(jax.vmap(slope, (0, None, None)))(scales, shifts, rows)
  for i, scale in enumerate(scales):
    one = quick_jit(slope)(scale, shifts, rows)
    for a, b in zip(both, one, strict=True):
      np.testing.assert_allclose(a[i], b, rtol=1e-12)


def test_a_row_without_positives_says_nothing():
  row = example(0)[0]._replace(positives=jnp.zeros(M))
  f = over_positives(per_positive)
  total = lambda d: f(row._replace(distances=d), 3.0, jnp.zeros(M)).total
  value, slopes = quick_jit(jax.value_and_grad(total))(row.distances)
  assert value == 0 and (slopes == 0).all()
