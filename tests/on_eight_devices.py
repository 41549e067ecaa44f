"""One objective of each kind on one device and on eight, in its own process.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 \
      python -m tests.on_eight_devices

Prints as JSON, for each kind, the largest difference (in value, logged numbers,
state and gradients) and the largest slope, with the other results that the test
checks. `experiments.benchmarks.devices` covers all losses.
"""

import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import metric_learning as ml
from experiments.benchmarks import devices
from metric_learning.objectives import folding as module
from tests.quick import quick_jit

MESH = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
AXES = PartitionSpec(("a", "b"))
SHARDED = NamedSharding(MESH, AXES)
WHOLE = NamedSharding(MESH, PartitionSpec())
N, DIM = 10, 5  # Of ten, three of eight devices have none.


def cases():
  """For each kind: how numbers become options, the numbers, the batch."""
  generator = np.random.default_rng(0)
  where = {"where": np.arange(N) % 5 < 4}
  normal = lambda n: generator.normal(size=(n, DIM)).astype(np.float32)
  x, labels, gallery = normal(N), np.arange(N) % 3, normal(7)
  affinity = generator.uniform(size=(N, 7)).astype(np.float32)
  affinity[2, 3] = np.nan
  others = {"references": gallery, "reference_labels": np.arange(7) % 3}
  both = {
    "references": np.concatenate([gallery, x]),
    "reference_labels": np.concatenate([np.arange(7) % 3, labels]),
    "self_index": 7 + np.arange(N),
  }
  weights = {"weights": generator.uniform(size=N).astype(np.float32)}

  def window(margin):
    return {"margin": margin, "reduction": ("mean", {"high": margin**2 / 2})}

  def semihard(margin):
    own = {"triplets": "semihard", "margin": margin}
    return {"margin": margin, "miner": ("triplet_margin", own), "block_size": 1}

  def with_options(**options):
    return lambda **numbers: {**options, **numbers}

  by_item = with_options(metric="l1", reduction="none", block_size=1)
  learned = with_options(metric="mahalanobis", block_size=1)
  blocks, plain = with_options(block_size=1), with_options()
  return {
    "contrastive": (window, {"margin": 1.5}, x, labels, both),
    "triplet": (semihard, {"margin": 0.7}, x, labels, weights),
    "supcon": (by_item, {"temperature": 0.5}, x, labels, where),
    "lifted": (blocks, {}, x, labels, {**others, "affinity": affinity}),
    "histogram": (plain, {}, x, labels, {}),
    "vicreg": (plain, {}, x, np.arange(N) % 5, where),
    "arcface": (plain, {"scale": 5.0}, x, labels, {}),
    "triplet_swap": (learned, {}, x, labels, {}),
  }


def of(name, mesh):
  """The program of a case, for value and gradients; and its arguments."""
  options, numbers, x, labels, more = cases()[name]

  def value(params, x, numbers, labels, more):
    objective = ml.make_objective(name, mesh=mesh, **options(**numbers))
    if name == "triplet_swap":
      objective = ml.with_memory(objective, size=16)
    state = objective.init_state(embedding_dim=DIM)
    value, aux = objective(params, x, labels, state=state, **more)
    return jnp.sum(jnp.sin(value)), (value, aux)

  program = jax.value_and_grad(value, (0, 1, 2), has_aux=True)
  params = ml.make_objective(name, **options(**numbers)).init(
    jax.random.key(0), num_classes=3, embedding_dim=DIM
  )
  if name == "triplet":  # A population, whose members differ in a margin.
    numbers = {"margin": jnp.array([0.7, 1.4])}
    program = jax.vmap(program, (None, None, 0, None, None))
  return quick_jit(program), (params, x, numbers, labels, more)


def difference(one, eight):
  """The largest difference of two trees, relative for numbers above 1."""
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True)
  return max(
    float(np.max(np.abs(a - b) / np.maximum(1, np.abs(a))))
    for a, b in (tuple(map(np.float64, pair)) for pair in pairs)
  )


def sharded_batch():
  """Differences for a batch that comes in shards, with and without the mesh."""
  x = np.random.default_rng(1).normal(size=(16, DIM)).astype(np.float32)
  labels = np.arange(16) % 4

  def program(mesh):
    objective = ml.make_objective("contrastive", mesh=mesh)
    return quick_jit(
      jax.value_and_grad(lambda x, labels: objective({}, x, labels)[0])
    )

  one = program(None)(x, labels)
  shards = jax.device_put((x, labels), SHARDED)
  return [difference(one, program(mesh)(*shards)) for mesh in (MESH, None)]


def gathered(shift):
  """Value and gradient if each device compares its items with all items.

  Like data-parallel code without a mesh: `self_index` says which of the
  gathered items each device owns. Returns the difference from one device.
  """
  x = np.random.default_rng(2).normal(size=(16, DIM)).astype(np.float32)
  labels = np.arange(16) % 4
  objective = ml.make_objective("contrastive", reduction="sum", margin=3.0)

  def on_each(x, labels):
    all_of = lambda own: jax.lax.all_gather(own, ("a", "b"), tiled=True)
    first = jax.lax.axis_index(("a", "b")) * len(labels)
    value, _ = objective(
      {},
      x,
      labels,
      references=all_of(x),
      reference_labels=all_of(labels),
      self_index=(first + shift + jnp.arange(len(labels))) % 16,
    )
    return jax.lax.psum(value, ("a", "b"))

  sharded = jax.shard_map(
    on_each, mesh=MESH, in_specs=(AXES, AXES), out_specs=PartitionSpec()
  )
  alone = lambda x, labels: objective({}, x, labels)[0]
  one, eight = (
    quick_jit(jax.value_and_grad(f))(x, labels) for f in (alone, sharded)
  )
  return difference(one, eight)


def padding():
  """How much the padding changes a value, and the slope with respect to it."""
  x, labels = (np.asarray(a) for a in cases()["contrastive"][2:4])
  where = np.arange(N) % 5 < 3
  objective = ml.make_objective("contrastive", mesh=MESH, margin=3.0)
  program = quick_jit(
    jax.value_and_grad(lambda x: objective({}, x, labels, where=where)[0])
  )
  one = program(x)
  other = program(np.where(where[:, None], x, 100 * x))
  return difference(one, other), float(np.max(np.abs(one[1][~where])))


def large():
  """Bytes that a device needs for a batch of 8,192, for two losses."""
  return [devices.held(loss) for loss in ("contrastive", "supcon")]


def main():
  """Prints the results."""
  found, texts, rows = {}, {}, {}
  for name in cases():
    both = []
    for count, mesh in ((1, None), (8, MESH)):
      program, arguments = of(name, mesh)
      if mesh is not None:
        arguments = jax.device_put(arguments, WHOLE)
      plan = module.block_rows
      with mock.patch.object(module, "block_rows", wraps=plan) as planned:
        compiled = program.lower(*arguments).compile()
      rows[name, count] = planned.call_args.args[1]
      texts[name, count] = compiled.as_text()
      both.append(compiled(*arguments))
    slopes = [float(np.max(np.abs(g))) for g in jax.tree.leaves(both[0][1])]
    found[name] = difference(*both), min(slopes)
  holds = lambda name, count, n: f"f32[{n},{N}]" in texts[name, count]
  said = {
    "devices": jax.device_count(),
    "cases": found,
    "sharded": sharded_batch(),
    "gathered": [gathered(shift) for shift in (0, 1, 2)],
    "padding": padding(),
    "held": large(),
    "rows": [rows["arcface", count] for count in (1, 8)],
    "whole matrix": [holds("histogram", count, N) for count in (1, 8)],
    "share of it": [holds(name, 8, 2) for name in ("histogram", "supcon")],
  }
  print(json.dumps(said))


if __name__ == "__main__":
  main()
