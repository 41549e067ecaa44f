"""Memory that the compiler reserves: no triplet arrays, blocks linear in n."""

import functools

import jax
import jax.numpy as jnp
import loss_cases as cases
import pytest

from tests.quick import quick_jit


@functools.cache
def temporary_bytes(loss, n, metric=None, block_size=None):
  """Temporary memory for value and gradient of n float32 embeddings."""
  value = functools.partial(
    cases.value_of(loss, metric, block_size=block_size), {}, {}
  )
  lowered = quick_jit(jax.value_and_grad(value)).lower(
    jax.ShapeDtypeStruct((n, 16), jnp.float32),
    jax.ShapeDtypeStruct((n,), jnp.int32),
  )
  return lowered.compile().memory_analysis().temp_size_in_bytes


ROWS = [
  ("contrastive", "l1"),
  ("lifted", "cosine"),  # two passes
  ("histogram", "cosine"),  # a context
  ("smooth_ap", "cosine"),  # a loop over positives
]


@pytest.mark.parametrize(("loss", "metric"), ROWS)
def test_blocks_need_memory_linear_in_the_batch(loss, metric):
  small, large = (
    temporary_bytes(loss, n, metric, block_size=32) for n in (1024, 2048)
  )
  assert large < 3 * small  # 2 if linear, 4 if quadratic
  matrix = 4 * 2048 * 2048
  assert large < matrix / 2


def test_the_memory_of_the_dense_form_is_seen():
  """The measure works: without blocks, it shows the n * n matrix."""
  assert temporary_bytes("supcon", 2048, "cosine") > 4 * 2048 * 2048


@pytest.mark.parametrize(
  ("loss", "metric"),
  [
    ("triplet", "squared_l2"),
    ("triplet_semihard", "squared_l2"),
    ("triplet_soft", "l2"),
    ("triplet_swap", "l2"),
    ("angular", "cosine"),
    ("smooth_ap", "squared_l2"),
    ("pnp", "squared_l2"),
  ],
)
def test_triplets_are_never_an_array(loss, metric):
  n = 256
  used = temporary_bytes(loss, n, metric)
  assert used < 16 * 4 * n**2  # n³ numbers would be 256 matrices


def test_quadruplets_are_never_an_array():
  """A sort with its sums takes some fifty matrices; pairs of pairs take n²."""
  n = 256
  assert temporary_bytes("quadruplet", n, "l2") < 64 * 4 * n**2
