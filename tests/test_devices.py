"""Objectives on a mesh: each device folds its own anchors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import metric_learning as ml
from metric_learning.devices import check_mesh
from tests.scripts import script


@pytest.mark.slow
def test_eight_devices_equal_one():
  """For every kind of objective; no device holds the whole matrix."""
  said = script("from tests.on_eight_devices import main; main()", devices=8)
  assert said["devices"] == 8
  assert len(said["cases"]) == 8
  for name, (difference, slope) in said["cases"].items():
    assert difference < 1e-5, name
    assert slope > 1e-3, name
  assert max(said["sharded"]) < 1e-5
  # Eight devices have at most two of ten anchors each.
  assert said["rows"] == [10, 2]
  assert said["whole matrix"] == [True, False]
  # What pads changes nothing.
  assert max(said["padding"]) == 0
  # An item that takes another for itself is found, of its device or the next.
  right, *shifted = said["gathered"]
  assert right < 1e-5 and min(shifted) > 1e-3
  # Of 8,192 items, in all: the matrix alone would be four times as much.
  assert max(said["held"]) < 4 * 8192**2 / 4


def mesh_of(axis_type):
  return jax.make_mesh((1,), ("data",), axis_types=(axis_type,))


def test_a_mesh_of_one_device_changes_nothing():
  """Even outside jit, where labels are checked."""
  mesh = mesh_of(AxisType.Auto)
  x, labels = jax.random.normal(jax.random.key(1), (4, 2)), jnp.arange(4) % 2
  plain, meshed = (
    ml.make_objective("arcface", block_size=3, mesh=each)
    for each in (None, mesh)
  )
  params = plain.init(jax.random.key(0), num_classes=2, embedding_dim=2)
  one, four = (o(params, x, labels) for o in (plain, meshed))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)
  np.testing.assert_allclose(
    plain.logits(params, x), meshed.logits(params, x), rtol=1e-6
  )
  with pytest.raises(ml.InputError, match="label 9 is outside"):
    meshed(params, x, labels.at[3].set(9))


def test_what_is_no_mesh_of_automatic_axes():
  with pytest.raises(ml.InputError, match=r"a jax\.sharding\.Mesh, got 'data'"):
    check_mesh("data")
  with pytest.raises(ml.InputError, match=r"AxisType\.Auto, got \(.*Explicit"):
    ml.make_objective("triplet", mesh=mesh_of(AxisType.Explicit))
