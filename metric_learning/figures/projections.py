"""Projections of embeddings to a plane, and how far they can be trusted."""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from metric_learning.distances import pairwise
from metric_learning.errors import InputError

Points = Float[np.ndarray, "n d"]
Plane = Float[np.ndarray, "n 2"]

# The number of neighbors from which the quality of a map is computed.
NEIGHBORS = 10
# The quality of a larger map is computed on a random sample of this size, since
# it needs all pairwise distances.
MOST_POINTS = 2000


def as_they_are(embeddings: Points, metric: str = "") -> Plane:
  """The embeddings themselves; one-dimensional ones are placed on a line.

  >>> as_they_are(np.array([[3.0], [4.0]])).tolist()
  [[3.0, 0.0], [4.0, 0.0]]
  """
  del metric
  return np.pad(embeddings, [(0, 0), (0, 2 - embeddings.shape[1])])


def pca(embeddings: Points, metric: str = "") -> Plane:
  """The two directions of largest variance, centered on 0.

  The largest coefficient of each direction is positive, so that the sign is
  the same each time.

  >>> pca(np.array([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])).tolist()
  [[-1.5, 0.0], [1.5, 0.0]]
  """
  del metric
  return on_plane_of(embeddings, embeddings)


def on_plane_of(embeddings: Points, others: Points) -> Plane:
  """Projects `others` with the center and the axes of `pca(embeddings)`.

  >>> first = np.array([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
  >>> others = np.array([[2.0, 9.0, 0.0], [2.5, 0.0, 9.0]])
  >>> on_plane_of(first, others).tolist()
  [[-0.5, 0.0], [0.0, 0.0]]
  """
  center = embeddings.mean(axis=0)
  _, sizes, axes = np.linalg.svd(embeddings - center, full_matrices=False)
  # Drops directions without variance, which would come from rounding alone.
  axes = np.where((sizes > 1e-6 * sizes.max(initial=0))[:, None], axes, 0)
  largest = np.take_along_axis(
    axes, np.abs(axes).argmax(axis=1)[:, None], axis=1
  )
  plane = (others - center) @ (axes * np.sign(largest))[:2].T
  return np.pad(plane, [(0, 0), (0, 2 - plane.shape[1])]) + 0.0  # no -0.0


def tsne(embeddings: Points, metric: str = "l2") -> Plane:
  """A plane in which neighbors under a metric stay neighbors; centered on 0.

  Its axes and its scale mean nothing, and neither do long distances.

  Source: van der Maaten, Hinton, JMLR 2008.
  """
  distances = distances_of(embeddings, metric)
  # Starts small and in the plane of largest variance, so nothing is random.
  start = pca(embeddings)
  start *= 1e-4 / max(float(start.std(axis=0).max()), 1e-30)
  method = TSNE(
    metric="precomputed",
    init=start.astype(np.float32),
    perplexity=min(15.0, (len(embeddings) - 1) / 3),
  )
  # Several threads would sum in a random order. So few points also run faster
  # in one thread.
  with threadpool_limits(1):
    points = method.fit_transform(distances)
  return points - points.mean(axis=0)


def umap(embeddings: Points, metric: str = "l2") -> Plane:
  """A plane of neighbors under a metric, by UMAP; centered on 0.

  Source: McInnes, Healy, Melville, arXiv 1802.03426.

  Raises:
    InputError: if umap-learn (the extra `umap`) is not installed.
  """
  if not importlib.util.find_spec("umap"):
    raise InputError(
      "UMAP needs umap-learn: pip install 'metric-learning[umap]', or choose"
      " another projection."
    )
  import warnings

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from dependencies of umap-learn
    from umap import UMAP

    method = UMAP(
      metric="precomputed",
      n_neighbors=min(15, len(embeddings) - 1),
      random_state=0,
      n_jobs=1,
    )
    points = method.fit_transform(distances_of(embeddings, metric))
  return points - points.mean(axis=0)


class Projection(NamedTuple):
  """A projection of embeddings to a plane.

  place: maps embeddings and the name of their metric to the plane.
  about: what a reader must know about distances in the plane.
  most: the highest number of dimensions of embeddings; None for any number.
  follow: maps the embeddings, and the embeddings of another training step, to
    the places of the latter on the same plane; None if the projection cannot
    place points that it was not fitted to.
  """

  place: Callable[[Points, str], Plane]
  about: str
  most: int | None = None
  follow: Callable[[Points, Points], Plane] | None = None


# A new projection needs its function and one entry here.
PROJECTIONS = {
  "as is": Projection(
    as_they_are,
    "The embeddings as they are.",
    most=2,
    follow=lambda embeddings, others: as_they_are(others),
  ),
  "pca": Projection(
    pca,
    "The plane of largest variance. All other directions are left out, so a"
    " distance in the plane is at most the L2 distance.",
    follow=on_plane_of,
  ),
  "tsne": Projection(
    tsne,
    "t-SNE keeps neighbors under the trained metric. Distances in the map are"
    " not those of the metric: gaps between groups and the sizes of groups mean"
    " nothing.",
  ),
  "umap": Projection(
    umap,
    "UMAP keeps neighbors under the trained metric. Distances in the map are"
    " not those of the metric: gaps between groups and the sizes of groups mean"
    " nothing.",
  ),
}


class Quality(NamedTuple):
  """How far a map can be trusted, from 0 to 1.

  trustworthiness: 1 if all neighbors of a point in the map are also its
    neighbors under the metric; each other point lowers it by its rank.
  hit: the share of the neighbors of a point in the map that have its class, a
    mean over points. A point has as many neighbors as its class has other
    points, so that 1 is possible; points without others do not count.
  """

  trustworthiness: float
  hit: float

  def __str__(self) -> str:
    """Both numbers with their names."""
    return (
      f"trustworthiness {self.trustworthiness:.2f}\n"
      f"neighborhood hit {self.hit:.2f}"
    )


def quality(
  embeddings: Points,
  points: Plane,
  labels: Int[np.ndarray, " n *k"],
  metric: str = "l2",
) -> Quality:
  """Judges a map by the 10 nearest neighbors of each point.

  Small maps and classes use fewer neighbors; maps of fewer than three points
  give NaN.
  With several labels per image, a neighbor that shares any label is a hit.

  >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
  >>> quality(square, square, np.array([0, 0, 1, 1]))
  Quality(trustworthiness=1.0, hit=1.0)

  Sources: Venna, Kaski, ICANN 2001; Paulovich et al., IEEE TVCG 14, 2008, who
  take the same number of neighbors for every point.
  """
  if len(labels) > MOST_POINTS:
    rows = np.random.default_rng(0).permutation(len(labels))[:MOST_POINTS]
    embeddings, points, labels = embeddings[rows], points[rows], labels[rows]
  k = min(NEIGHBORS, (len(labels) - 1) // 2)
  if k < 1:
    return Quality(float("nan"), float("nan"))
  trusted = trustworthiness(
    distances_of(embeddings, metric),
    points,
    n_neighbors=k,
    metric="precomputed",
  )
  plane = distances_of(points.astype(np.float32), "l2")
  np.fill_diagonal(plane, np.inf)
  if labels.ndim > 1:
    related = labels @ labels.T > 0
  else:
    related = labels[:, None] == labels
  np.fill_diagonal(related, False)
  counts = np.minimum(related.sum(axis=1), k)[:, None]
  near = np.argsort(plane, axis=1, kind="stable")[:, :k]
  hits = np.take_along_axis(related, near, axis=1) & (np.arange(k) < counts)
  shares = hits.sum(axis=1)[counts[:, 0] > 0] / counts[counts > 0]
  hit = float(shares.mean()) if len(shares) else float("nan")
  return Quality(float(trusted), hit)


def distances_of(embeddings: Points, metric: str) -> Float[np.ndarray, "n n"]:
  """All pairwise distances under a metric, shifted to be at least 0.

  The distance of a point to itself is 0.
  """
  x = jnp.asarray(embeddings)
  distances = np.array(pairwise(metric, x, x, exact=True))
  distances -= distances.min()  # a dot product is negated, so it may be below 0
  np.fill_diagonal(distances, 0)
  return distances
