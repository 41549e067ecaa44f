"""Meshes of devices: replicated and sharded arrays."""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from metric_learning.errors import InputError

# The axes of the mesh of a run: members of a population are divided along the
# first, and items of a batch along the second.
MEMBERS, BATCH = "members", "batch"


@functools.cache
def wide_vectors() -> dict[str, int]:
  """Options for `jax.jit` that use the full width of the vectors of a CPU.

  XLA prefers 256 bits even on a CPU with vectors of 512 bits. With these
  options, L1 distances take three quarters of the time on such a CPU. A CPU
  with narrower vectors compiles the same program as without them.

  >>> _ = jax.jit(jnp.sin, compiler_options=wide_vectors())(0.0)
  """
  if jax.default_backend() != "cpu":
    return {}
  return {"xla_cpu_prefer_vector_width": 512}


def check_mesh(mesh: Any) -> None:
  """Raises an InputError unless the mesh is None or has automatic axes."""
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


@functools.cache
def mesh_of(batch: int, *, population: bool = False) -> Mesh:
  """The `members` × `batch` mesh of a run, with `batch` devices per member.

  A single run has one member. A population uses all devices.

  >>> dict(mesh_of(1).shape)
  {'members': 1, 'batch': 1}

  Raises:
    InputError: if there are too few devices, if a population cannot fill them,
      or if one of several processes would have no device in the run.
  """
  available = jax.device_count()
  if batch > available:
    raise InputError(
      f"config.mesh.batch={batch}, but there are {available} devices: set it to"
      f" {available} or less. (JAX_NUM_CPU_DEVICES={batch} simulates {batch} on"
      " a CPU.)"
    )
  if jax.process_count() > 1 and batch != available:
    raise InputError(
      f"config.mesh.batch={batch}, but the {jax.process_count()} processes of"
      f" this run have {available} devices: set it to {available}."
    )
  if population and available % batch:
    raise InputError(
      f"config.mesh.batch={batch} does not divide the {available} devices over"
      " which a population is spread: set it to a divisor."
    )
  members = available // batch if population else 1
  # With automatic axes, losses index and broadcast as on one device.
  return jax.make_mesh(
    (members, batch),
    (MEMBERS, BATCH),
    axis_types=(AxisType.Auto,) * 2,
    devices=jax.devices()[: members * batch],
  )


def batch_axes(mesh: Mesh) -> tuple[str, ...]:
  """The axes whose devices share a batch: all but the axis of a population."""
  return tuple(name for name in mesh.axis_names if name != MEMBERS)


def sharers(mesh: Mesh) -> int:
  """The number of devices that share a batch."""
  return math.prod(mesh.shape[name] for name in batch_axes(mesh))


def put(tree: Any, mesh: Mesh, *axes: str) -> Any:
  """Places arrays on a mesh: whole on each device, or split by the first axis.

  Every process must pass the same arrays.
  """
  sharding = NamedSharding(mesh, PartitionSpec(*axes))

  def put_one(x: Any) -> Any:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      numbers = put_one(jax.random.key_data(x))
      return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(x))
    if sharding.is_fully_addressable:
      return jax.device_put(x, sharding)
    # `device_put` would check that all processes pass the same array.
    x = np.array(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

  return jax.tree.map(put_one, tree)


def rows_here(count: int, mesh: Mesh | None) -> Int[np.ndarray, " r"]:
  """The indices, of `count` sharded items, on devices of this process.

  >>> rows_here(3, mesh_of(1))
  array([0, 1, 2])
  """
  rows = np.arange(count)
  if mesh is None:
    return rows
  sharding = NamedSharding(mesh, PartitionSpec(BATCH))
  shares = sharding.addressable_devices_indices_map((count,)).values()
  return np.unique(np.concatenate([rows[share] for share in shares]))


def put_rows(
  tree: Any, here: Int[np.ndarray, " r"], count: int, mesh: Mesh
) -> Any:
  """Arrays of `count` rows sharded over a mesh.

  Each process passes only its own rows, with the indices `here`.
  """
  sharding, rows = NamedSharding(mesh, PartitionSpec(BATCH)), np.arange(count)

  def put_one(x: Any) -> jax.Array:
    return cast(Any, jax.make_array_from_callback)(
      (count, *x.shape[1:]),
      sharding,
      lambda share: x[np.searchsorted(here, rows[share[0]])],
    )

  return jax.tree.map(put_one, tree)


def constrain(tree: Any, mesh: Mesh, *axes: str) -> Any:
  """Like `put`, but inside a compiled program, where XLA moves the data."""
  return jax.lax.with_sharding_constraint(
    tree, NamedSharding(mesh, PartitionSpec(*axes))
  )


def on_devices(
  function: Callable[[Any, Any], Any], mesh: Mesh, whole: Any, split: Any
) -> Any:
  """`function(whole, split)` on each device that shares a batch.

  Each device gets all of `whole`, a tree whose arrays are gathered, and its
  share of `split`, a tree of arrays that are divided along the first axis and
  padded with zeros. The result must be the same on all devices. The function
  must not close over arrays, which would belong to another mesh.
  """
  axes, count = batch_axes(mesh), sharers(mesh)
  leaves, tree = jax.tree.flatten(whole)
  # An array that occurs twice is gathered once.
  arrays = {id(x): x for x in leaves if isinstance(x, jax.Array)}
  place = {identity: i for i, identity in enumerate(arrays)}

  def of_device(arrays: Any, split: Any) -> Any:
    local = [arrays[place[id(x)]] if id(x) in place else x for x in leaves]
    return function(jax.tree.unflatten(tree, local), split)

  def pad(x: Any) -> jax.Array:
    return jnp.pad(x, [(0, -len(x) % count)] + [(0, 0)] * (x.ndim - 1))

  everywhere = PartitionSpec()
  mapped = jax.shard_map(
    of_device,
    mesh=mesh,
    in_specs=(everywhere, PartitionSpec(axes)),
    out_specs=everywhere,
    # Unchecked: the check does not know that gathered arrays are equal on all
    # devices, and would need the initial values of each loop to be marked.
    check_vma=False,
  )
  # Without jit, each operation would run alone, which is several times slower.
  return jax.jit(mapped)(list(arrays.values()), jax.tree.map(pad, split))
