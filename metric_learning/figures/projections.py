"""Ways from embeddings to a plane, and how far a plane can be trusted."""

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

# Neighbors that the quality of a map looks at.
NEIGHBORS = 10
# Of more points than these, that many are drawn by lot for its quality: it
# needs all distances among them.
MOST_POINTS = 2000


def as_they_are(embeddings: Points, metric: str = "") -> Plane:
  """Points of two dimensions, or of one, which lie on a line of the plane.

  >>> as_they_are(np.array([[3.0], [4.0]])).tolist()
  [[3.0, 0.0], [4.0, 0.0]]
  """
  del metric
  return np.pad(embeddings, [(0, 0), (0, 2 - embeddings.shape[1])])


def pca(embeddings: Points, metric: str = "") -> Plane:
  """The two directions of largest variance, centered on 0.

  The largest step of each is positive, so that the sign is the same each time.

  >>> pca(np.array([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])).tolist()
  [[-1.5, 0.0], [1.5, 0.0]]
  """
  del metric
  return on_plane_of(embeddings, embeddings)


def on_plane_of(embeddings: Points, others: Points) -> Plane:
  """Other points on the plane of `pca` of some: its center and its axes.

  >>> first = np.array([[1.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
  >>> others = np.array([[2.0, 9.0, 0.0], [2.5, 0.0, 9.0]])
  >>> on_plane_of(first, others).tolist()
  [[-0.5, 0.0], [0.0, 0.0]]
  """
  center = embeddings.mean(axis=0)
  _, sizes, axes = np.linalg.svd(embeddings - center, full_matrices=False)
  # A direction of no variance is none: its sign and place are rounding alone.
  axes = np.where((sizes > 1e-6 * sizes.max(initial=0))[:, None], axes, 0)
  largest = np.take_along_axis(
    axes, np.abs(axes).argmax(axis=1)[:, None], axis=1
  )
  found = (others - center) @ (axes * np.sign(largest))[:2].T
  return np.pad(found, [(0, 0), (0, 2 - found.shape[1])]) + 0.0  # no -0.0


def tsne(embeddings: Points, metric: str = "l2") -> Plane:
  """A plane in which neighbors under a metric stay neighbors; centered on 0.

  Its axes and its scale mean nothing, and neither do long distances.

  Source: van der Maaten, Hinton, JMLR 2008.
  """
  distances = distances_of(embeddings, metric)
  # Starts small and in the plane of largest variance: nothing is random.
  start = pca(embeddings)
  start *= 1e-4 / max(float(start.std(axis=0).max()), 1e-30)
  method = TSNE(
    metric="precomputed",
    init=start.astype(np.float32),
    perplexity=min(15.0, (len(embeddings) - 1) / 3),
  )
  # Sums over several threads come in any order, and so few points run faster
  # in one.
  with threadpool_limits(1):
    points = method.fit_transform(distances)
  return points - points.mean(axis=0)


def umap(embeddings: Points, metric: str = "l2") -> Plane:
  """Another plane of neighbors under a metric (extra umap); centered on 0.

  Source: McInnes, Healy, Melville, arXiv 1802.03426.

  Raises:
    InputError: without umap-learn.
  """
  if not importlib.util.find_spec("umap"):
    raise InputError(
      "UMAP is drawn by umap-learn: pip install 'metric-learning[umap]', or"
      " choose another projection."
    )
  import warnings

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies
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
  """A way to a plane.

  place: from embeddings and the name of their metric to the plane.
  about: what a reader must know of distances in it.
  most: the most dimensions that it takes; None for any number.
  follow: from the embeddings and those of another step to the place of these
    on the same plane; None where a plane is of one step alone.
  """

  place: Callable[[Points, str], Plane]
  about: str
  most: int | None = None
  follow: Callable[[Points, Points], Plane] | None = None


# A new projection is its function and one entry.
PROJECTIONS = {
  "as is": Projection(
    as_they_are,
    "The embeddings as they are.",
    most=2,
    follow=lambda embeddings, others: as_they_are(others),
  ),
  "pca": Projection(
    pca,
    "The plane of largest variance: all other directions are left out, and"
    " distances in it are at most those of L2.",
    follow=on_plane_of,
  ),
  "tsne": Projection(
    tsne,
    "t-SNE keeps neighbors under the trained metric. Distances in it are not"
    " the metric: neither gaps between groups nor their sizes mean anything.",
  ),
  "umap": Projection(
    umap,
    "UMAP keeps neighbors under the trained metric. Distances in it are not"
    " the metric: neither gaps between groups nor their sizes mean anything.",
  ),
}


class Quality(NamedTuple):
  """How far a map can be trusted, from 0 to 1.

  trustworthiness: 1 if the neighbors of a point in the map are among its
    neighbors under the metric; less for each intruder, by its rank.
  hit: the share of a point's neighbors in the map that are of its class.
  """

  trustworthiness: float
  hit: float

  def __str__(self) -> str:
    """Both, in words."""
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
  """Of the 10 nearest in a map, who belongs there; fewer of few points.

  NaN of fewer than three points. An image with several labels hits one that
  shares any of them.

  >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
  >>> quality(square, square, np.array([0, 0, 1, 1]))
  Quality(trustworthiness=1.0, hit=1.0)

  Sources: Venna, Kaski, ICANN 2001; Paulovich et al., IEEE TVCG 14, 2008.
  """
  if len(labels) > MOST_POINTS:
    lot = np.random.default_rng(0).permutation(len(labels))[:MOST_POINTS]
    embeddings, points, labels = embeddings[lot], points[lot], labels[lot]
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
  near = np.argpartition(plane, k - 1, axis=1)[:, :k]
  if labels.ndim > 1:
    hits = np.einsum("nc,nkc->nk", labels, labels[near]) > 0
  else:
    hits = labels[near] == labels[:, None]
  return Quality(float(trusted), float(hits.mean()))


def distances_of(embeddings: Points, metric: str) -> Float[np.ndarray, "n n"]:
  """All distances under a metric, none below 0 and each 0 to itself."""
  x = jnp.asarray(embeddings)
  distances = np.array(pairwise(metric, x, x, exact=True))
  distances -= distances.min()  # a dot product enters negated
  np.fill_diagonal(distances, 0)
  return distances
