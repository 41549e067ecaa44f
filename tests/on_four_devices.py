"""One objective of each kind on one device and on four: a process of its own.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 \
      python -m tests.on_four_devices

Prints as JSON the largest difference of each kind (value, what is logged, state
and gradients), its largest slope, and what else the test looks at.
"""

import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import metric_learning as ml
from metric_learning.objectives import folding as module
from tests.quick import quick_jit

MESH = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
SHARDED = NamedSharding(MESH, PartitionSpec(("a", "b")))
WHOLE = NamedSharding(MESH, PartitionSpec())
N, DIM = 10, 5  # Four devices do not divide ten.


def cases():
  """Of each kind: options by its numbers, these, and the batch."""
  generator = np.random.default_rng(0)
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
    return {"margin": margin, "miner": ("triplet_margin", own), "block_size": 2}

  def with_options(**options):
    return lambda **numbers: {**options, **numbers}

  by_item = with_options(metric="l1", reduction="none", block_size=2)
  learned = with_options(metric="mahalanobis", block_size=2)
  blocks, plain = with_options(block_size=2), with_options()
  return {
    "contrastive": (window, {"margin": 1.5}, x, labels, both),
    "triplet": (semihard, {"margin": 0.7}, x, labels, weights),
    "supcon": (by_item, {"temperature": 0.5}, x, labels, {}),
    "lifted": (blocks, {}, x, labels, {**others, "affinity": affinity}),
    "histogram": (plain, {}, x, labels, {}),
    "vicreg": (plain, {}, x, np.arange(N) % 5, {}),
    "arcface": (plain, {"scale": 5.0}, x, labels, {}),
    "triplet_swap": (learned, {}, x, labels, {}),
  }


def of(name, mesh):
  """The program of a case, value and gradients; and its arguments."""
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


def difference(one, four):
  """The largest, of trees, where a number is large as a share of it."""
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True)
  return max(
    float(np.max(np.abs(a - b) / np.maximum(1, np.abs(a))))
    for a, b in (tuple(map(np.float64, pair)) for pair in pairs)
  )


def sharded_batch():
  """Differences of a batch that comes in shards, with the mesh and without."""
  x = np.random.default_rng(1).normal(size=(12, DIM)).astype(np.float32)
  labels = np.arange(12) % 4

  def program(mesh):
    objective = ml.make_objective("contrastive", mesh=mesh)
    return quick_jit(
      jax.value_and_grad(lambda x, labels: objective({}, x, labels)[0])
    )

  one = program(None)(x, labels)
  shards = jax.device_put((x, labels), SHARDED)
  return [difference(one, program(mesh)(*shards)) for mesh in (MESH, None)]


def main():
  """Prints what was found."""
  found, texts, rows = {}, {}, {}
  for name in cases():
    both = []
    for devices, mesh in ((1, None), (4, MESH)):
      program, arguments = of(name, mesh)
      if mesh is not None:
        arguments = jax.device_put(arguments, WHOLE)
      plan = module.block_rows
      with mock.patch.object(module, "block_rows", wraps=plan) as planned:
        compiled = program.lower(*arguments).compile()
      rows[name, devices] = planned.call_args.args[1]
      texts[name, devices] = compiled.as_text()
      both.append(compiled(*arguments))
    slopes = [float(np.max(np.abs(g))) for g in jax.tree.leaves(both[0][1])]
    found[name] = difference(*both), min(slopes)
  holds = lambda name, devices, n: f"f32[{n},{N}]" in texts[name, devices]
  said = {
    "devices": jax.device_count(),
    "cases": found,
    "sharded": sharded_batch(),
    "rows": [rows["arcface", devices] for devices in (1, 4)],
    "whole matrix": [holds("histogram", devices, N) for devices in (1, 4)],
    "share of it": [holds(name, 4, 3) for name in ("histogram", "supcon")],
  }
  print(json.dumps(said))


if __name__ == "__main__":
  main()
