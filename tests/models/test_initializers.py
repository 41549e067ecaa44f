"""Initial weights have the variance that their names promise, and differ."""

import jax
import numpy as np
import pytest

from metric_learning.models.initializers import glorot_normal, lecun_normal


@pytest.mark.parametrize(
  ("initializer", "shape", "variance"),
  [
    (lecun_normal, (300, 400), 1 / 300),
    (lecun_normal, (3, 3, 64, 64), 1 / (9 * 64)),
    (glorot_normal, (300, 500), 2 / 800),
    (glorot_normal, (6, 6, 15, 45), 2 / (36 * (15 + 45))),
  ],
)
def test_variance(initializer, shape, variance):
  weights = np.asarray(initializer(jax.random.key(0), shape))
  assert weights.shape == shape
  # Standard errors of mean and variance, six of them.
  error = 6 * np.sqrt(variance / weights.size)
  assert abs(weights.mean()) < error
  assert weights.var() == pytest.approx(
    variance, rel=6 * np.sqrt(2 / weights.size)
  )


def test_blocks_and_keys_do_not_repeat():
  weights = np.asarray(lecun_normal(jax.random.key(0), (500, 400)))
  other = np.asarray(lecun_normal(jax.random.key(1), (500, 400)))
  # 200,000 numbers, more than three blocks. Float32 draws coincide now and
  # then; a repeated block would leave half of them.
  assert len(np.unique(weights)) > 0.95 * weights.size
  assert np.mean(weights == other) < 0.01
