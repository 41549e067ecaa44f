"""A gallery in faiss: the same neighbors, found by matrix products."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from metric_learning import evaluation
from metric_learning.distances import METRICS, MetricName, split_metric
from metric_learning.errors import InputError


def make_flat(points: Float[np.ndarray, "m d"], metric: MetricName) -> Any:
  """An exhaustive index of faiss.

  Raises:
    InputError: without faiss, for a metric that |x - y|² does not give, and for
      a point of length 0 where directions are compared.
  """
  name, _ = split_metric(metric)
  if METRICS[name].from_squared is None:
    fit = ", ".join(n for n, m in METRICS.items() if m.from_squared)
    raise InputError(
      f"faiss does not search by {name!r} here, but by {fit}: leave"
      " engine='exact'."
    )
  try:
    import faiss
  except ImportError:
    raise InputError(
      "engine='faiss' needs faiss: pip install 'metric-learning[faiss]', or"
      " leave engine='exact'."
    ) from None
  index = faiss.IndexFlatL2(points.shape[1])
  index.add(_as_seen("points", points, name))
  return index


def search_flat(
  index: Any,
  queries: Float[np.ndarray, "n d"],
  points: Float[np.ndarray, "m d"],
  metric: MetricName,
  k: int,
  own: Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
  """The k nearest and their exact distances, nearest first.

  faiss rounds, so that of nearly equal candidates for the last place it may
  take another than an exact search.

  Args:
    index: of `make_flat`.
    queries, points: what is looked for, and the gallery.
    metric: what compares them.
    k: how many.
    own: the place of each query in the gallery, which it does not find; -1 if
      it is not there.
  """
  name, _ = split_metric(metric)
  hidden = bool((own >= 0).any())
  _, found = index.search(_as_seen("queries", queries, name), k + hidden)
  if hidden:
    # The own one goes last, or else the last does.
    order = np.argsort(found == own[:, None], axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)[:, :k]
  rows = np.repeat(np.arange(len(queries)), k)
  far = evaluation.pair_distances(
    queries[rows], points[found.ravel()], metric
  ).reshape(found.shape)
  order = np.lexsort((found, far), axis=1)
  indices = np.take_along_axis(found, order, axis=1)
  return indices, np.take_along_axis(far, order, axis=1)


def _as_seen(
  kind: str, points: Float[np.ndarray, "n d"], name: str
) -> Float[np.ndarray, "n d"]:
  """Points as squared differences are to see them: perhaps of length 1."""
  points = np.ascontiguousarray(points, np.float32)
  if not METRICS[name].on_sphere:
    return points
  lengths = np.linalg.norm(points, axis=1, keepdims=True)
  if not lengths.all():
    raise InputError(
      f"{kind}: row {int(np.argmin(lengths))} is 0 and has no direction, which"
      f" {name} compares: leave it out, or take engine='exact'."
    )
  return points / lengths
