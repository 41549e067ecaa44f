"""Uses an exported model; needs only jax, numpy and flatbuffers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np


def load(folder: str | Path) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Returns `embed(items)` and `distances(points, others)`."""
  data = (Path(folder) / "model.safetensors").read_bytes()
  start = 8 + int.from_bytes(data[:8], "little")
  arrays = {}
  for name, entry in json.loads(data[8:start]).items():
    first, last = (start + place for place in entry["data_offsets"])
    kind, bits = entry["dtype"][0].lower(), int(entry["dtype"][1:])
    numbers = np.frombuffer(data[first:last], f"<{kind}{bits // 8}")
    arrays[name] = numbers.reshape(entry["shape"])
  mean = arrays.pop("scale.mean", None)
  factor: Any = arrays.pop("scale.factor", None)
  weights = jax.device_put(arrays)

  def program(name: str) -> Callable[..., Any]:
    content = (Path(folder) / f"{name}.stablehlo").read_bytes()
    return jax.jit(jax.export.deserialize(bytearray(content)).call)

  network, matrix = program("embed"), program("distances")

  def embed(items: np.ndarray, batch_size: int = 512) -> np.ndarray:
    if mean is not None:
      items = ((items.astype(np.float64) - mean) * factor).astype(np.float32)
    size = min(batch_size, 1 << (len(items) - 1).bit_length())
    padding = [(0, -len(items) % size)] + (items.ndim - 1) * [(0, 0)]
    blocks = np.pad(items, padding).reshape(-1, size, *items.shape[1:])
    points = [network(weights, block) for block in blocks]
    return np.concatenate(points)[: len(items)]

  return embed, lambda points, others: np.asarray(matrix(points, others))
