"""Embedding maps: the spaces of several runs side by side, on one scale."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from metric_learning.distances import pairwise
from metric_learning.figures.spaces import Space
from metric_learning.figures.style import (
  heading,
  legend_below,
  panels,
  point_style,
  styled,
)

MOST_CLASSES = 10
MOST_OF_A_CLASS = 50


@styled
def embedding_maps(spaces: Sequence[Space], part: str = "") -> Figure | None:
  """Maps of some spaces, classes told apart by color and marker.

  Embeddings of one or two dimensions are drawn as they are; if any has more,
  all are drawn by t-SNE of the distances under their own metric, the same each
  time. All panels have the same limits. Of many classes the ten largest are
  drawn (of equals, the first), of many images of a class the first 50. `part`
  is a word for the title, such as "test". None where images have several
  labels: a marker is of one class.
  """
  if any(space.has_several_labels for space in spaces):
    return None
  flat = all(space.embeddings.shape[1] <= 2 for space in spaces)
  place = _pad_to_plane if flat else tsne
  titles = [space.title for space in spaces]
  figure, axes = panels(titles, height=1.85, sharex=flat, sharey=flat)
  shown = [_shown(space.labels) for space in spaces]
  places = [
    place(space.embeddings[rows], space.metric)
    for space, rows in zip(spaces, shown, strict=True)
  ]
  limits = _square(np.concatenate(places))
  legends = []
  for axis, space, rows, points in zip(
    axes, spaces, shown, places, strict=True
  ):
    legends.append(_scatter(axis, points, space.labels[rows], space))
    axis.set(box_aspect=1, **limits)
    if not flat:
      axis.set(xticks=[], yticks=[])
      axis.spines[:].set(visible=True, color="0.7")
  # Spaces of other test classes give a marker another meaning in each panel.
  if all(list(legend) == list(legends[0]) for legend in legends):
    legend_below(figure, legends[0])
  heading(figure, _title(spaces, shown[0], flat, part))
  return figure


def tsne(
  embeddings: Float[np.ndarray, "n d"], metric: str = "l2"
) -> Float[np.ndarray, "n 2"]:
  """A plane in which neighbors under a metric stay neighbors; centered on 0.

  Its axes and its scale mean nothing, and neither do long distances.

  Source: van der Maaten, Hinton, JMLR 2008.
  """
  x = jnp.asarray(embeddings)
  distances = np.array(pairwise(metric, x, x, exact=True))
  distances -= distances.min()  # a dot product enters negated
  centered = embeddings - embeddings.mean(axis=0)
  u, scale, _ = np.linalg.svd(centered, full_matrices=False)
  start = _pad_to_plane((u * scale)[:, :2])
  # Starts small and in the plane of largest variance: nothing is random.
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


def _pad_to_plane(
  points: Float[np.ndarray, "n d"], metric: str = ""
) -> Float[np.ndarray, "n 2"]:
  """Points of one dimension lie on a line of the plane."""
  del metric
  return np.pad(points, [(0, 0), (0, 2 - points.shape[1])])


def _shown(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
  """The indices of the images that are drawn.

  >>> _shown(np.array([2, 2, *range(20)])).tolist()  # 2 is largest, then 0, 1
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
  """
  classes, sizes = np.unique(labels, return_counts=True)
  largest = classes[np.argsort(-sizes, kind="stable")[:MOST_CLASSES]]
  rows = [np.flatnonzero(labels == c)[:MOST_OF_A_CLASS] for c in largest]
  return np.sort(np.concatenate(rows))


def _square(points: Float[np.ndarray, "n 2"]) -> dict[str, tuple[float, float]]:
  """Limits of one length on both axes that hold all points, with some air.

  >>> _square(np.array([[0.0, 0.0], [1.0, 2.0]]))
  {'xlim': (-0.6..., 1.6...), 'ylim': (-0.1..., 2.1...)}
  """
  low, high = points.min(axis=0), points.max(axis=0)
  middle = (low + high) / 2
  # All points in one place are a place, too.
  half = 0.55 * float(np.max(high - low)) or 1.0
  x, y = map(float, middle)
  return {"xlim": (x - half, x + half), "ylim": (y - half, y + half)}


def _scatter(
  axis: Axes,
  points: Float[np.ndarray, "n 2"],
  labels: Int[np.ndarray, " n"],
  space: Space,
) -> dict[str, Any]:
  """Draws one class after another; the markers by the classes' names."""
  x, y = points.T
  return {
    space.name_of(label): axis.scatter(
      x[labels == label],
      y[labels == label],
      s=12,
      linewidth=0.7,
      **point_style(index),
    )
    for index, label in enumerate(np.unique(labels))
  }


def _title(
  spaces: Sequence[Space], rows: Int[np.ndarray, " m"], flat: bool, part: str
) -> str:
  labels = spaces[0].labels
  count, drawn = len(np.unique(labels)), len(np.unique(labels[rows]))
  what = f"{part.capitalize()} embeddings" if part else "Embeddings"
  of = f"{drawn} of {count} classes" if drawn < count else f"{count} classes"
  how = "as they are" if flat else "t-SNE under each run's own metric"
  return f"{what}, {of}: {how}" + ", on one scale" * (len(spaces) > 1)
