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

  labels: None for a gallery without labels.
  """

  distances: Float[np.ndarray, "n k"]
  indices: Int[np.ndarray, "n k"]
  labels: Shaped[np.ndarray, "n k"] | None


class Identified(NamedTuple):
  """The identity of each probe.

  labels: the label of the nearest gallery item, or None if it is too far.
  distances, indices: those of the nearest item, even if it is too far.
  """

  labels: list[Any]
  distances: Float[np.ndarray, " n"]
  indices: Int[np.ndarray, " n"]
  threshold: thresholds.Threshold


@dataclasses.dataclass(frozen=True)
class Index:
  """A gallery, compared under the metric of a run; see `FinishedRun.index`.

  flat: a faiss index that searches; None for exact distances.
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

    With `exclude_self`, a query in the gallery does not find itself: True if
    query i is item i; or the index of each query in the gallery, -1 if it is
    not in the gallery.

    Raises:
      InputError: for a k larger than the gallery.
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
    """Raises `InputError` for a k that the gallery does not have."""
    shown = np.asarray(-1 if exclude_self is False else exclude_self)
    most = len(self.points) - bool(np.any(shown >= 0))
    if not most:
      raise InputError(
        "the gallery holds one item, which does not find itself: add others to"
        " the gallery, or give queries that are not in it."
      )
    if not 1 <= k <= most:
      raise InputError(
        f"k={k}: the gallery has {most} to find; choose a k from 1 to {most}."
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

    At most a share `far` of unknown probes is named, as estimated on
    validation; see `thresholds.of_nearest`.

    Raises:
      InputError: for a gallery without labels, and for a rate that needs more
        validation items.
    """
    if self.labels is None:
      raise InputError(
        "the gallery has no labels to name probes by: put its images in class"
        " folders, or give run.index(points, labels)."
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
    # In float64: rounded, the threshold might fall on a distance.
    named = distances.astype(np.float64) <= threshold.distance
    found = [
      label if near else None
      for label, near in zip(self.labels[indices].tolist(), named, strict=True)
    ]
    return Identified(found, distances, indices, threshold)


def make_index(
  points: Any,
  labels: Any,
  metric: MetricName,
  validation: Callable[[], thresholds.Validation],
  engine: str = "exact",
) -> Index:
  """An index of checked points and labels; its engine is exact or faiss."""
  check_choice("engine", engine, ENGINES)
  points = check_embeddings("points", points)
  if labels is not None:
    labels = check_labels("labels", labels, len(points))
  flat = make_flat(points, metric) if engine == "faiss" else None
  return Index(points, labels, metric, validation, flat)
