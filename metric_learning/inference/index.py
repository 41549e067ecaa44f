"""A gallery of labeled points: nearest neighbors and identification."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from metric_learning import evaluation
from metric_learning.distances import MetricName
from metric_learning.errors import InputError, check_choice
from metric_learning.evaluation.tiles import check_embeddings, check_labels
from metric_learning.inference import thresholds
from metric_learning.inference.flat import make_flat, search_flat

ENGINES = ("exact", "faiss")


class Hits(NamedTuple):
  """The nearest gallery items of each query, nearest first.

  labels: the labels of these items; None if the gallery has no labels.
  """

  distances: Float[np.ndarray, "n k"]
  indices: Int[np.ndarray, "n k"]
  labels: Shaped[np.ndarray, "n k"] | None


class Identified(NamedTuple):
  """The identity of each probe.

  labels: the label of the nearest gallery item, or None if it is too far.
  distances, indices: of the nearest gallery item, even if it is too far.
  """

  labels: list[Any]
  distances: Float[np.ndarray, " n"]
  indices: Int[np.ndarray, " n"]
  threshold: thresholds.Threshold


@dataclasses.dataclass(frozen=True)
class Index:
  """A gallery, compared under the metric of a run; see `FinishedRun.index`.

  flat: the faiss index to search; None for an exact search.
  """

  points: Float[np.ndarray, "m d"]
  labels: Shaped[np.ndarray, " m"] | None
  metric: MetricName
  validation: Callable[[], thresholds.Validation]
  flat: Any = None

  def search(
    self,
    queries: Float[np.ndarray | Array, "n d"],
    k: int = 5,
    *,
    exclude_self: bool | Int[np.ndarray | Array, " n"] = False,
  ) -> Hits:
    """The k nearest gallery items of each query, by exact distances.

    With `exclude_self`, a query in the gallery does not find itself. It is True
    if query i is item i; or the index of each query in the gallery, -1 for a
    query that is not in the gallery.

    Raises:
      InputError: if k is larger than the gallery.
    """
    self._check_k(k, exclude_self)
    if self.flat is None:
      indices, distances = evaluation.neighbors(
        queries, self.points, k, metric=self.metric, exclude_self=exclude_self
      )
    else:
      indices, distances = self._search_flat(queries, k, exclude_self)
    labels = None if self.labels is None else self.labels[indices]
    return Hits(distances, indices, labels)

  def _check_k(self, k: int, exclude_self: Any) -> None:
    """Raises `InputError` if a query cannot find k items."""
    own = np.asarray(-1 if exclude_self is False else exclude_self)
    most = len(self.points) - bool(np.any(own >= 0))
    if not most:
      raise InputError(
        "the gallery holds one item, which does not find itself: add items to"
        " the gallery, or give queries that are not in it."
      )
    if not 1 <= k <= most:
      raise InputError(
        f"k={k}: the gallery has {most} items to find; choose a k from 1 to"
        f" {most}."
      )

  def _search_flat(
    self, queries: Any, k: int, exclude_self: Any
  ) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    queries = check_embeddings("queries", queries)
    own = np.full(len(queries), -1)
    if exclude_self is True:
      own = np.arange(len(queries))
    elif exclude_self is not False:
      own = np.asarray(exclude_self)
    return search_flat(self.flat, queries, self.points, self.metric, k, own)

  def identify(
    self, probes: Float[np.ndarray | Array, "n d"], *, far: float
  ) -> Identified:
    """Names each probe after its nearest gallery item, or leaves it unknown.

    The threshold is learned on validation items, so that at most a share `far`
    of unknown probes is named; see `thresholds.of_nearest`.

    Raises:
      InputError: if the gallery has no labels, or if the rate needs more
        validation items.
    """
    if self.labels is None:
      raise InputError(
        "the gallery has no labels to name probes by: put its images in class"
        " folders, or use run.index(points, labels)."
      )
    threshold = thresholds.of_nearest(
      self.validation(),
      self.points,
      np.unique(self.labels).tolist(),
      self.metric,
      far,
    )
    hits = self.search(probes, 1)
    distances, indices = hits.distances[:, 0], hits.indices[:, 0]
    # In float64, since a rounded threshold might equal a distance.
    is_near = distances.astype(np.float64) <= threshold.distance
    nearest = self.labels[indices].tolist()
    labels = [
      label if near else None
      for label, near in zip(nearest, is_near, strict=True)
    ]
    return Identified(labels, distances, indices, threshold)


def make_index(
  points: Any,
  labels: Any,
  metric: MetricName,
  validation: Callable[[], thresholds.Validation],
  engine: str = "exact",
) -> Index:
  """Checks points and labels and makes their index; see `FinishedRun.index`."""
  check_choice("engine", engine, ENGINES)
  points = check_embeddings("points", points)
  if labels is not None:
    labels = check_labels("labels", labels, len(points))
  flat = make_flat(points, metric) if engine == "faiss" else None
  return Index(points, labels, metric, validation, flat)
