"""Pictures of nearest neighbors, and the classes that they confuse."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metric_learning import evaluation
from metric_learning.errors import InputError
from metric_learning.figures.spaces import Space
from metric_learning.figures.style import (
  BLACK,
  BLUE,
  VERMILION,
  heading,
  styled,
)


@styled
def neighbor_strip(
  space: Space,
  images: UInt8[np.ndarray, "n h w c"],
  queries: Sequence[int] | Int[np.ndarray, " q"],
  k: int = 8,
) -> Figure:
  """A row of pictures for each query: the query, then its k nearest neighbors.

  `images[i]` is the image of `space.embeddings[i]`. The distance of a neighbor
  is written below its picture.

  Raises:
    InputError: if the numbers of images and embeddings differ, or if images
      have several labels.
  """
  _check_one_label(space)
  if len(images) != len(space.labels):
    raise InputError(
      f"{len(images)} images for {len(space.labels)} embeddings: pass the"
      " images that the run embedded, in the same order."
    )
  queries = np.asarray(queries)
  neighbors, distances = _neighbors(space, k)
  figure = Figure(
    figsize=(0.75 * (k + 1), 1.0 * len(queries) + 0.4), layout="constrained"
  )
  rows = figure.subplots(len(queries), k + 1, squeeze=False)
  for query, axes in zip(queries, rows, strict=True):
    _picture(axes[0], images[query], space.name_of(space.labels[query]))
    _frame(axes[0], BLACK, "-")
    for axis, other, distance in zip(
      axes[1:], neighbors[query], distances[query], strict=True
    ):
      _picture(axis, images[other], f"{distance:.2f}")
      if space.labels[other] == space.labels[query]:
        _frame(axis, BLUE, "-")
      else:
        _frame(axis, VERMILION, ":")
  heading(
    figure,
    f"{space.title}: an image and its {k} nearest neighbors with their"
    f" {space.metric} distances; dotted frame: another class",
  )
  return figure


@styled
def confusion(space: Space, most: int = 10, k: int = 1) -> Figure:
  """The classes of the k nearest neighbors of the hardest classes.

  Each row is a class; its numbers are the shares of its neighbors by class.
  The hardest classes have the smallest share of neighbors of the same class.

  Raises:
    InputError: if images have several labels.
  """
  _check_one_label(space)
  shares, classes = confusion_of(space, k)
  hard = np.argsort(np.diag(shares), kind="stable")[:most]
  table = shares[np.ix_(hard, hard)]
  names = [space.name_of(label) for label in classes[hard]]
  others = ["other"] * (len(hard) < len(classes))
  if others:
    table = np.column_stack([table, 1 - table.sum(axis=1)])
  side = 0.42 * len(hard)
  figure = Figure(figsize=(side + 1.6, side + 1.4), layout="constrained")
  axis = figure.subplots()
  axis.imshow(table, cmap="Greys", vmin=0, vmax=1)
  for (i, j), value in np.ndenumerate(table):
    if value >= 0.005:
      shade = "white" if value > 0.5 else "black"
      axis.text(j, i, f"{value:.2f}", color=shade, ha="center", va="center")
  turned = 90 if max(map(len, names)) > 3 else 0
  axis.set_xticks(range(table.shape[1]), [*names, *others], rotation=turned)
  axis.set_yticks(range(len(hard)), names)
  axis.set(xlabel="class of the nearest neighbor", ylabel="class")
  axis.spines[:].set_visible(True)
  heading(
    figure,
    f"{space.title}: nearest neighbors of the {len(hard)} hardest classes",
  )
  return figure


def confusion_of(
  space: Space, k: int = 1
) -> tuple[Float[np.ndarray, "c c"], Shaped[np.ndarray, " c"]]:
  """The shares of the k nearest neighbors, and the classes of rows and columns.

  Row i holds, for the images of class i, the share of neighbors in each class.

  >>> points = np.array([[0.0], [1.0], [1.5], [9.0]])
  >>> shares, _ = confusion_of(Space("", points, np.array([0, 0, 1, 1]), "l1"))
  >>> shares.tolist()  # nearest: 0 → 1, 1 → 1.5, 1.5 → 1, 9 → 1.5
  [[0.5, 0.5], [0.5, 0.5]]
  """
  classes, codes = np.unique(space.labels, return_inverse=True)
  neighbors, _ = _neighbors(space, k)
  counts = np.zeros((len(classes), len(classes)))
  np.add.at(counts, (codes[:, None], codes[neighbors]), 1)
  return counts / counts.sum(axis=1, keepdims=True), classes


def _check_one_label(space: Space) -> None:
  if space.has_several_labels:
    raise InputError(
      f"{space.title}: images have several labels, but this figure needs one"
      " class for each image."
    )


def _neighbors(space: Space, k: int) -> tuple[np.ndarray, np.ndarray]:
  return evaluation.neighbors(
    space.embeddings,
    space.embeddings,
    k,
    metric=space.metric,
    exclude_self=True,
  )


def _picture(axis: Axes, image: np.ndarray, text: str) -> None:
  gray = image.shape[-1] == 1
  axis.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=255)
  axis.set(xticks=[], yticks=[], xlabel=text)


def _frame(axis: Axes, color: str, line: str) -> None:
  axis.spines[:].set(visible=True, color=color, linewidth=2, linestyle=line)
