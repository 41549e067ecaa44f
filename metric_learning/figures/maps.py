"""Embedding maps: the spaces of several runs side by side at the same scale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metric_learning.figures.projections import as_they_are, quality, tsne
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
  """Maps of several spaces, where each class has a color and a marker.

  Embeddings of one or two dimensions are drawn as they are. If any space has
  more, all are drawn by t-SNE of the distances under their own metric, which
  gives the same map each time. All panels have the same limits. At most ten
  classes are drawn, the largest ones (the first of equally large ones), and of
  each at most the first 50 images. Below each map stands the `quality` of the
  points that are drawn. `part` is a word for the title, such as "test". Returns
  None if images have several labels, since a marker stands for one class.
  """
  if any(space.has_several_labels for space in spaces):
    return None
  flat = all(space.embeddings.shape[1] <= 2 for space in spaces)
  place = as_they_are if flat else tsne
  titles = [space.title for space in spaces]
  figure, axes = panels(titles, height=2.4, sharex=flat, sharey=flat)
  row_lists = [_rows(space.labels) for space in spaces]
  places = [
    place(space.embeddings[rows], space.metric)
    for space, rows in zip(spaces, row_lists, strict=True)
  ]
  limits = square(np.concatenate(places))
  legends, words = [], []
  for axis, space, rows, points in zip(
    axes, spaces, row_lists, places, strict=True
  ):
    legends.append(scatter(axis, points, space.labels[rows], space))
    axis.set(box_aspect=1, **limits)
    if not flat:
      axis.set(xticks=[], yticks=[])
      axis.spines[:].set(visible=True, color="0.7")
    drawn = space.embeddings[rows], points, space.labels[rows], space.metric
    scores = str(quality(*drawn))
    axis.set_xlabel(scores)
    words.append(f"{space.title}: {scores.replace(chr(10), ', ')}.")
  # If spaces have different test classes, a marker has another meaning in each
  # panel, and there is no common legend.
  if all(list(legend) == list(legends[0]) for legend in legends):
    legend_below(figure, legends[0])
  title = _title(spaces, row_lists[0], flat, part)
  heading(figure, title)
  figure.set_label(" ".join([f"{title}.", *words]))
  # The layout of square panels is right from the second drawing on: in the
  # first, texts may overlap.
  figure.draw_without_rendering()
  return figure


def _rows(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
  """The indices of the images that are drawn.

  >>> _rows(np.array([2, 2, *range(20)])).tolist()  # 2 is largest, then 0, 1
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
  """
  classes, sizes = np.unique(labels, return_counts=True)
  largest = classes[np.argsort(-sizes, kind="stable")[:MOST_CLASSES]]
  rows = [np.flatnonzero(labels == c)[:MOST_OF_A_CLASS] for c in largest]
  return np.sort(np.concatenate(rows))


def square(points: Float[np.ndarray, "n 2"]) -> dict[str, tuple[float, float]]:
  """Axis limits of equal length that hold all points, with a small border.

  >>> square(np.array([[0.0, 0.0], [1.0, 2.0]]))
  {'xlim': (-0.6..., 1.6...), 'ylim': (-0.1..., 2.1...)}
  """
  low, high = points.min(axis=0), points.max(axis=0)
  middle = (low + high) / 2
  # If all points lie in one place, the length must still be positive.
  half = 0.55 * float(np.max(high - low)) or 1.0
  x, y = map(float, middle)
  return {"xlim": (x - half, x + half), "ylim": (y - half, y + half)}


def scatter(
  axis: Axes,
  points: Float[np.ndarray, "n 2"],
  labels: Int[np.ndarray, " n"],
  space: Space,
) -> dict[str, Any]:
  """Draws each class, and returns its markers by the name of the class."""
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
  subject = f"{part.capitalize()} embeddings" if part else "Embeddings"
  classes = f"{count} classes"
  if drawn < count:
    classes = f"{drawn} of {classes}"
  method = (
    "as they are"
    if flat
    else "t-SNE (distances in the map are not those of the metric)"
  )
  scale = ", on one scale" * (len(spaces) > 1)
  return f"{subject}, {classes}: {method}{scale}"
