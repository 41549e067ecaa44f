"""Searches a gallery with faiss, which is faster than an exact search."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from metric_learning import evaluation
from metric_learning.distances import METRICS, MetricName, split_metric
from metric_learning.errors import InputError


def make_flat(points: Float[np.ndarray, "m d"], metric: MetricName) -> Any:
  """An exhaustive faiss index of a gallery.

  Raises:
    InputError: if faiss is not installed, if the metric is not a function of
      |x - y|², or if a point has length 0 and the metric compares directions.
  """
  name, _ = split_metric(metric)
  if METRICS[name].from_squared is None:
    fit = ", ".join(n for n, m in METRICS.items() if m.from_squared)
    raise InputError(
      f"faiss does not search by {name!r} here, but by {fit}: use"
      " engine='exact'."
    )
  try:
    import faiss
  except ImportError:
    raise InputError(
      "engine='faiss' needs faiss: pip install 'metric-learning[faiss]', or use"
      " engine='exact'."
    ) from None
  index = faiss.IndexFlatL2(points.shape[1])
  index.add(_normalized("points", points, name))
  return index


def search_flat(
  index: Any,
  queries: Float[np.ndarray, "n d"],
  points: Float[np.ndarray, "m d"],
  metric: MetricName,
  k: int,
  own: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
  """The k nearest points of each query and their exact distances, sorted.

  faiss rounds distances. Among nearly equal candidates for the last place, it
  may thus choose another one than an exact search.

  Args:
    index: the index of `points`, from `make_flat`.
    queries, points: the queries, and the gallery.
    metric: the metric that compares them.
    k: the number of neighbors.
    own: the place of each query in the gallery, where it does not find itself;
      -1 if the query is not in the gallery.
  """
  name, _ = split_metric(metric)
  has_own = bool((own >= 0).any())
  _, hits = index.search(_normalized("queries", queries, name), k + has_own)
  if has_own:
    # Moves the query itself to the end, then drops the last hit of each query.
    order = np.argsort(hits == own[:, None], axis=1, kind="stable")
    hits = np.take_along_axis(hits, order, axis=1)[:, :k]
  rows = np.repeat(np.arange(len(queries)), k)
  distances = evaluation.pair_distances(
    queries[rows], points[hits.ravel()], metric
  ).reshape(hits.shape)
  order = np.lexsort((hits, distances), axis=1)
  indices = np.take_along_axis(hits, order, axis=1)
  return indices, np.take_along_axis(distances, order, axis=1)


def _normalized(
  kind: str, points: Float[np.ndarray, "n d"], name: str
) -> Float[np.ndarray, "n d"]:
  """Points for |x - y|²: scaled to length 1 if the metric needs it."""
  points = np.ascontiguousarray(points, np.float32)
  if not METRICS[name].on_sphere:
    return points
  lengths = np.linalg.norm(points, axis=1, keepdims=True)
  if not lengths.all():
    raise InputError(
      f"{kind}: row {int(np.argmin(lengths))} is 0 and has no direction, but"
      f" {name} compares directions: leave the row out, or use engine='exact'."
    )
  return points / lengths
