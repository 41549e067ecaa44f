"""Many devices: what all of them know, and what each has its share of."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from metric_learning.errors import InputError


def check_mesh(mesh: Any) -> None:
  """Raises an InputError for what is no mesh of automatic axes."""
  if mesh is None:
    return
  if not isinstance(mesh, Mesh):
    raise InputError(f"mesh must be a jax.sharding.Mesh, got {mesh!r}.")
  if set(mesh.axis_types) != {AxisType.Auto}:
    raise InputError(
      f"a mesh needs axes of AxisType.Auto, got {mesh.axis_types}: make it with"
      " jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,) *"
      " len(names))."
    )


def on_devices(
  function: Callable[[Any, Any], Any], mesh: Mesh, whole: Any, split: Any
) -> Any:
  """`function(whole, split)` on each device of a mesh, over all of its axes.

  Of `whole`, a tree, each device has all: arrays are gathered, and what is no
  array stays as it is. Of `split`, a tree of arrays, it has its share of the
  first axis, which zeros fill. The result must be the same on all devices. The
  function closes over no arrays: they would be those of another mesh.
  """
  leaves, tree = jax.tree.flatten(whole)
  # An array that stands there twice is gathered once.
  arrays = {id(x): x for x in leaves if isinstance(x, jax.Array)}
  place = {identity: i for i, identity in enumerate(arrays)}

  def of_device(arrays, split):
    there = [arrays[place[id(x)]] if id(x) in place else x for x in leaves]
    return function(jax.tree.unflatten(tree, there), split)

  def pad(x):
    return jnp.pad(x, [(0, -len(x) % mesh.size)] + [(0, 0)] * (x.ndim - 1))

  everywhere = PartitionSpec()
  mapped = jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=(everywhere, PartitionSpec(mesh.axis_names)),
    out_specs=everywhere,
    # Unchecked: the check does not know that what was gathered is the same on
    # all, and would have each loop begin with zeros marked as one device's.
    check_vma=False,
  )
  # Outside jit it would run op by op, which takes several times as long.
  return jax.jit(mapped)(list(arrays.values()), jax.tree.map(pad, split))
