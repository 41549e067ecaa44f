"""Soft histograms: the forms for CPUs and for accelerators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metric_learning.losses import histograms

# Inside, on edges, at both ends and outside of 0 to 4, in two rows.
VALUES = np.array([[0.3, 1.0, 2.75, 4.0, 9.0], [-1.0, 0.0, 3.2, 2.0, 1.9]])
WEIGHTS = np.array([[1.0, 0.5, 2.0, 1.0, 0.25], [1.0, 2.0, 0.0, 1.0, 3.0]])
SLOPES = np.array([[0.5, -1.0, 2.0, 0.25, 3.0], [1.0, 0.0, 4.0, -2.0, 0.5]])
BINS = 4


def edges_of(values, weights):
  """Shares the weight of each value between its two edges, by nearness."""
  found = np.zeros((len(values), BINS + 1))
  for i, row in enumerate(values):
    for value, weight in zip(np.clip(row, 0, BINS), weights[i], strict=True):
      for edge in range(BINS + 1):
        found[i, edge] += weight * max(0.0, 1 - abs(value - edge))
  return found


def of_rows(values, weights):
  return jax.vmap(
    lambda v, w: histograms.soft_histogram(v, w, BINS, (0.0, 4.0))
  )(values, weights)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_value_and_gradient(monkeypatch, backend):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  inputs = jnp.float32(VALUES), jnp.float32(WEIGHTS)
  found, back = jax.vjp(of_rows, *inputs)
  np.testing.assert_allclose(found, edges_of(VALUES, WEIGHTS), atol=1e-6)
  by_value, by_weight = back(jnp.float32(SLOPES))
  # Linear in each weight: its slope is the histogram of a weight of 1.
  single = [
    [edges_of([[value]], [[1.0]])[0] for value in row] for row in VALUES
  ]
  np.testing.assert_allclose(
    by_weight, np.einsum("ive,ie->iv", single, SLOPES), atol=1e-6
  )
  # Within a bin the slope by the value is that from edge to edge.
  left = np.clip(np.floor(VALUES), 0, BINS - 1).astype(int)
  rise = np.take_along_axis(SLOPES, left + 1, 1)
  rise -= np.take_along_axis(SLOPES, left, 1)
  inside = (VALUES > 0) & (VALUES < BINS)
  wanted = np.where(inside, WEIGHTS * rise, by_value)
  np.testing.assert_allclose(by_value, wanted, atol=1e-6)
  outside = (VALUES < 0) | (VALUES > BINS)
  assert not np.any(np.asarray(by_value)[outside])


def test_accelerators_add_nothing_at_indices_where_edges_are_few(monkeypatch):
  """Scattered additions are slow on accelerators."""

  def program(num_bins):
    one = lambda v, w: histograms.soft_histogram(v, w, num_bins, (0.0, 4.0))
    return str(jax.make_jaxpr(one)(jnp.ones(3), jnp.ones(3)))

  assert "scatter-add" in program(10)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert "scatter-add" not in program(10)
  assert "scatter-add" in program(100)
