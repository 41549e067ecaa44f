"""Pictures of the images that the test images of a run retrieve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from metric_learning import evaluation
from metric_learning.errors import InputError
from metric_learning.figures.spaces import read_selected
from metric_learning.report.pages import Picture, Strip, data_url, picture
from metric_learning.study.runs import Run
from metric_learning.training.embedding import data_of

# The most hits of a query, queries of each kind, and confused pairs of classes.
SHOWN, QUERIES, CONFUSED = 8, 5, 8


class Found(NamedTuple):
  """The hits of each test image, nearest first; -1 after the last hit.

  labels, found_labels: the class of each query, and of each gallery image.
  names: the names of the classes.
  """

  indices: Int[np.ndarray, "n k"]
  distances: Float[np.ndarray, "n k"]
  labels: Int[np.ndarray, " n"]
  found_labels: Int[np.ndarray, " m"]
  names: tuple[str, ...]

  def is_right(self) -> Bool[np.ndarray, "n k"]:
    """Whether a hit has the class of its query."""
    return self.found_labels[self.indices] == self.labels[:, None]


class Confused(NamedTuple):
  """Two classes, how often one is taken for the other, and an example."""

  label: str
  other: str
  times: int
  of: int
  query: str
  hit: str
  alt: str


class Retrieved(NamedTuple):
  """Pictures of a run; if there are none, `why` gives the reason."""

  even: list[Strip]
  wrong: list[Strip]
  confused: list[Confused]
  why: str = ""


def find(arrays: Mapping[str, np.ndarray], metric: str, k: int) -> Found:
  """The k nearest neighbors of each test item, under the trained metric.

  They come from the gallery if there is one, and otherwise from the other test
  items. An item with the class and the group of the query is not an answer.
  """
  points, labels = arrays["test_embeddings"], arrays["test_labels"]
  alone = "gallery_embeddings" not in arrays
  part = "test" if alone else "gallery"
  others, other_labels = arrays[f"{part}_embeddings"], arrays[f"{part}_labels"]
  groups, other_groups = (arrays.get(f"{x}_groups") for x in ("test", part))
  most = len(others) - alone
  k = min(k, most)
  asked = k
  if groups is not None and other_groups is not None:
    pairs = np.stack([other_labels, other_groups])
    asked = min(
      most, k + int(np.unique(pairs, axis=1, return_counts=True)[1].max())
    )
  indices, distances = evaluation.neighbors(
    points, others, asked, metric=metric, exclude_self=alone
  )
  if groups is not None and other_groups is not None:
    alike = other_labels[indices] == labels[:, None]
    alike &= other_groups[indices] == groups[:, None]
    order = np.argsort(alike, axis=1, kind="stable")[:, :k]
    indices = np.take_along_axis(indices, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
  names = arrays.get("test_class_names")
  if names is None:
    names = np.array([f"class {i}" for i in range(int(labels.max()) + 1)])
  return Found(indices, distances, labels, other_labels, tuple(names.tolist()))


def images_of(folder: Path, config: ConfigDict, part: str = "test") -> Any:
  """The images of a part of a run's data, in the order of their embeddings.

  Raises:
    InputError: if the images cannot be read, if they are not those of the run,
      or if its items are features.
  """
  data = getattr(data_of(folder, config), part)
  if data.input_spec.kind != "image":
    raise InputError(
      f"the items of {folder.name} are {data.input_spec}, not images."
    )
  return data.inputs


def retrieved(run: Run) -> Retrieved:
  """Queries with their hits: evenly spaced queries, and wrong ones.

  A query is wrong if its nearest neighbor has another class. Wrong queries are
  sorted by the distance to that neighbor, the smallest first.
  """
  arrays = read_selected(run.folder)
  if arrays["test_labels"].ndim > 1:
    return Retrieved([], [], [], "No pictures: images have several labels.")
  if "test_same" in arrays:
    return Retrieved([], [], [], "The test set is pairs, without retrieval.")
  try:
    images = others = images_of(run.folder, run.spec.config)
    if "gallery_embeddings" in arrays:
      others = images_of(run.folder, run.spec.config, "gallery")
  except InputError as error:
    return Retrieved([], [], [], f"No pictures: {error}")
  if len(others) < 2:
    return Retrieved([], [], [], "No pictures: there is only one test image.")
  found = find(arrays, run.result["metric"], SHOWN)
  wrong = np.flatnonzero(~found.is_right()[:, 0])
  order = np.argsort(found.distances[wrong, 0], kind="stable")
  even = np.linspace(0, len(images) - 1, min(QUERIES, len(images)))
  drawn = [
    [_strip(found, images, others, int(query)) for query in queries]
    for queries in (np.unique(even.astype(int)), wrong[order][:QUERIES])
  ]
  return Retrieved(drawn[0], drawn[1], _confused(found, images, others))


def _strip(found: Found, images: Any, others: Any, query: int) -> Strip:
  name = lambda label: str(found.names[label])
  pictures: list[Picture] = [
    picture(images[query], name(found.labels[query]), "query", "query")
  ]
  right = found.is_right()[query]
  for rank, (index, distance) in enumerate(
    zip(found.indices[query], found.distances[query], strict=True), 1
  ):
    pictures.append(
      picture(
        others[index],
        name(found.found_labels[index]),
        f"{distance:.3g}",
        f"hit {rank}",
        "right" if right[rank - 1] else "wrong",
      )
    )
  return pictures


def _confused(found: Found, images: Any, others: Any) -> list[Confused]:
  """The pairs of classes that are confused most often."""
  nearest = found.found_labels[found.indices[:, 0]]
  wrong = nearest != found.labels
  pairs, first, counts = np.unique(
    np.stack([found.labels[wrong], nearest[wrong]], axis=1),
    axis=0,
    return_index=True,
    return_counts=True,
  )
  queries = np.flatnonzero(wrong)
  confused = []
  for place in np.argsort(-counts, kind="stable")[:CONFUSED]:
    label, other = (str(found.names[i]) for i in pairs[place])
    query = int(queries[first[place]])
    size = int(np.count_nonzero(found.labels == pairs[place][0]))
    confused.append(
      Confused(
        label,
        other,
        int(counts[place]),
        size,
        data_url(images[query]),
        data_url(others[found.indices[query, 0]]),
        f"an image of {label}, and its nearest neighbor, of {other}",
      )
    )
  return confused
