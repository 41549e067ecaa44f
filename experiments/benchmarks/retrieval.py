"""The part `retrieval` of the accelerator run: neighbors in a test set."""

import functools
from collections.abc import Iterator

import numpy as np

from experiments.benchmarks.clock import (
  Clock,
  Line,
  attempt,
  timed,
  torch_and_device,
  torch_line,
)
from metric_learning import evaluation

_DIM, _NEIGHBORS = 128, 10


def retrieval(clock: Clock) -> Iterator[Line]:
  """The nearest neighbors of each point of a test set among the others."""
  n, classes = (600, 110) if clock.tiny else (60_500, 11_316)
  random = np.random.default_rng(0)
  labels = np.arange(n) % classes
  x = random.standard_normal((classes, _DIM))[labels]
  x = x + 1.3 * random.standard_normal((n, _DIM))
  x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
  for metric in ("l2", "l1"):
    indices: dict[str, np.ndarray] = {}
    sides = {
      side: attempt(functools.partial(measure, clock, x, metric, indices))
      for side, measure in (("ours", _our_nearest), ("theirs", _their_nearest))
    }
    line: Line = {"name": f"{_NEIGHBORS} neighbors", "metric": metric, "n": n}
    if len(indices) == 2:
      first, second = (np.sort(found, axis=1) for found in indices.values())
      line["equal"] = float(np.mean(first == second))
    yield {**line, **sides}
  scores = lambda: evaluation.retrieval(x, labels, metric="l2", ks=(1,))
  yield {
    "name": "Recall@1, R-precision and MAP@R",
    "metric": "l2",
    "n": n,
    "ours": attempt(lambda: timed(clock, scores)),
    "theirs": {"failed": "no counterpart"},
  }


def _our_nearest(
  clock: Clock, x: np.ndarray, metric: str, indices: dict
) -> Line:
  def call() -> None:
    indices["ours"], _ = evaluation.neighbors(
      x, x, _NEIGHBORS, metric=metric, exclude_self=True
    )

  return timed(clock, call)


def _their_nearest(
  clock: Clock, x: np.ndarray, metric: str, indices: dict
) -> Line:
  """As faiss does it: products, or L1 distances, and the best k, in blocks."""
  torch, where = torch_and_device()
  block = 4096

  def call() -> None:
    points = torch.tensor(x, device=where)
    parts = []
    for start in range(0, len(x), block):
      some = points[start : start + block]
      if metric == "l2":
        # On points of norm 1 the nearest has the largest product.
        near = some @ points.T
      else:
        near = -torch.cdist(some, points, p=1.0)
      rows = torch.arange(len(some), device=where)
      near[rows, start + rows] = -torch.inf
      parts.append(near.topk(_NEIGHBORS, dim=1).indices.cpu())
    indices["theirs"] = torch.cat(parts).numpy()

  return torch_line(clock, torch, call)
