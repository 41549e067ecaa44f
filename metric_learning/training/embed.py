"""Embeddings of many items by a trained state."""

from typing import Any

import numpy as np
from jaxtyping import Float

from metric_learning import data
from metric_learning.data.stream import read_ahead
from metric_learning.training.step import Program

# Items that are embedded at a time.
_BATCH = 512


def embed_all(
  program: Program, state: dict[str, Any], inputs: np.ndarray | data.ImageFiles
) -> Float[np.ndarray, "n d"]:
  """Embeddings of all stored items, in batches of one shape."""
  found = []
  starts = range(0, len(inputs), _BATCH)
  read = lambda start: np.asarray(inputs[start : start + _BATCH])
  on_disk = isinstance(inputs, data.ImageFiles)
  for some in read_ahead(read, starts) if on_disk else map(read, starts):
    short = _BATCH - len(some)
    padded = np.pad(some, [(0, short)] + [(0, 0)] * (inputs.ndim - 1))
    found.append(np.asarray(program.embed(state, padded))[: len(some)])
  return np.concatenate(found)
