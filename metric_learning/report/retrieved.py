"""What the test images of a run find, in pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from metric_learning import evaluation
from metric_learning.data.loaded import load_once
from metric_learning.errors import InputError
from metric_learning.figures.spaces import read_selected
from metric_learning.report.pages import Picture, Strip, data_url, picture
from metric_learning.study.runs import Run
from metric_learning.training import run_files

# Images that a query shows, queries of each kind, and confused pairs.
SHOWN, QUERIES, CONFUSED = 8, 5, 8


class Found(NamedTuple):
  """What each test image finds, nearest first; -1 behind the last.

  labels, found_labels: the class of a query, and of each image in the gallery.
  names: of the classes.
  """

  indices: Int[np.ndarray, "n k"]
  distances: Float[np.ndarray, "n k"]
  labels: Int[np.ndarray, " n"]
  found_labels: Int[np.ndarray, " m"]
  names: tuple[str, ...]

  def is_right(self) -> Bool[np.ndarray, "n k"]:
    """Whether a hit is of the class of its query."""
    return self.found_labels[self.indices] == self.labels[:, None]


class Confused(NamedTuple):
  """Two classes, how often one is found for the other, and a case of it."""

  label: str
  other: str
  times: int
  of: int
  query: str
  hit: str
  alt: str


class Retrieved(NamedTuple):
  """Pictures of a run: `why` says why there are none."""

  even: list[Strip]
  wrong: list[Strip]
  confused: list[Confused]
  why: str = ""


def find(arrays: Mapping[str, np.ndarray], metric: str, k: int) -> Found:
  """The k nearest of each test item, under the metric that was trained.

  In the gallery where there is one, else among the other test items. Items of
  one class and one group are no answers to each other.
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
    InputError: if they are gone, are others than those of the run, or if its
      items are features.
  """
  try:
    splits = load_once(config.data)
  except (InputError, OSError) as error:
    raise InputError(
      f"the images of {folder.name} are gone: {error}"
    ) from error
  shown = run_files.difference(run_files.data_of(folder), splits.identity)
  if shown:
    raise InputError(
      f"the images of {folder.name} are not those that it was made of: {shown}."
    )
  found = getattr(splits, part)
  if found.input_spec.kind != "image":
    raise InputError(
      f"the items of {folder.name} are {found.input_spec}: they have no"
      " pictures."
    )
  return found.inputs


def retrieved(run: Run) -> Retrieved:
  """Queries and what they found: evenly chosen ones, and wrong ones.

  A wrong one is a query whose nearest is of another class; those that are
  nearest to it come first.
  """
  arrays = read_selected(run.folder)
  if arrays["test_labels"].ndim > 1:
    return Retrieved([], [], [], "Images have several labels.")
  if "test_same" in arrays:
    return Retrieved([], [], [], "The test is of pairs: nothing is retrieved.")
  try:
    images = others = images_of(run.folder, run.spec.config)
    if "gallery_embeddings" in arrays:
      others = images_of(run.folder, run.spec.config, "gallery")
  except InputError as error:
    return Retrieved([], [], [], f"No pictures: {error}")
  if len(others) < 2:
    return Retrieved([], [], [], "There is one test image.")
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
  """The pairs of classes that are taken for each other most often."""
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
    of = int(np.count_nonzero(found.labels == pairs[place][0]))
    confused.append(
      Confused(
        label,
        other,
        int(counts[place]),
        of,
        data_url(images[query]),
        data_url(others[found.indices[query, 0]]),
        f"an image of {label}, and its nearest, of {other}",
      )
    )
  return confused
