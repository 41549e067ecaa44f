"""Uses an exported model; needs jax, numpy and flatbuffers alone."""

import json
from pathlib import Path

import jax
import jax.export
import numpy as np


def load(folder):
  """Gives `embed(items)`, as stored, and `distances(points, others)`."""
  folder = Path(folder)
  data = (folder / "model.safetensors").read_bytes()
  start = 8 + int.from_bytes(data[:8], "little")
  arrays = {}
  for name, entry in json.loads(data[8:start]).items():
    first, last = entry["data_offsets"]
    kind = {"F": "<f", "I": "<i", "U": "<u"}[entry["dtype"][0]]
    kind += str(int(entry["dtype"][1:]) // 8)
    some = np.frombuffer(data[start + first : start + last], kind)
    arrays[name] = some.reshape(entry["shape"])
  mean, factor = (
    arrays.pop("scale.mean", None),
    arrays.pop("scale.factor", None),
  )
  weights = jax.device_put(arrays)

  def program(name):
    code = bytearray((folder / f"{name}.stablehlo").read_bytes())
    return jax.jit(jax.export.deserialize(code).call)

  network, matrix = program("embed"), program("distances")

  def embed(items, batch_size=512):
    if mean is not None:
      items = ((items.astype(np.float64) - mean) * factor).astype(np.float32)
    size = min(batch_size, 1 << (len(items) - 1).bit_length())
    found = []
    for i in range(0, len(items), size):
      block = items[i : i + size]
      padding = [(0, size - len(block))] + (block.ndim - 1) * [(0, 0)]
      found.append(network(weights, np.pad(block, padding))[: len(block)])
    return np.concatenate(found)

  return embed, lambda points, others: np.asarray(matrix(points, others))
