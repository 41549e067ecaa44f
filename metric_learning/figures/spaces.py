"""Embedding spaces for figures, read from the files of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from metric_learning import evaluation
from metric_learning.errors import InputError, check_choice
from metric_learning.losses import LOSSES, PAIR_POTENTIALS
from metric_learning.study.verification_accuracy import learned_threshold
from metric_learning.training import run_files

PARTS = ("validation", "test")

# Figures of pairs draw a random sample of classes from larger sets: 3,000
# images already have 4.5 million pairs.
MOST_IMAGES = 3000


class Space(NamedTuple):
  """The embeddings of one run, and what figures need to describe them.

  metric: the name of the metric that compares the embeddings.
  labels: one label for each image; or, with several labels per image, a row
    with 1 in the columns of its classes.
  class_names: `class_names[label]` names a class; None to use numbers.
  margins: distances at which a pair potential stops acting, on the axis of
    `metric`.
  gaps: margins between the two distances of a triplet: lengths on that axis.
  threshold: the distance that best separates same from different pairs on
    validation.
  open_set: how identification draws the known classes; None if no table has
    identification scores.
  loss: the loss of the run; spaces of one loss are drawn in one color.
  losses: the losses of its study, in the order of their colors.
  """

  title: str
  embeddings: Float[np.ndarray, "n d"]
  labels: Int[np.ndarray, " n *k"]
  metric: str = "l2"
  class_names: Sequence[str] | None = None
  margins: Sequence[float] = ()
  gaps: Sequence[float] = ()
  threshold: float | None = None
  open_set: evaluation.OpenSet | None = None
  loss: str = ""
  losses: Sequence[str] = ()

  @property
  def has_several_labels(self) -> bool:
    """Whether an image may have more than one label."""
    return self.labels.ndim > 1

  def name_of(self, label: int | np.integer) -> str:
    """The name of a class."""
    if self.class_names is None:
      return f"class {label}"
    return str(self.class_names[int(label)])


def read_space(
  folder: str | Path,
  part: str = "validation",
  title: str | None = None,
  losses: Sequence[str] = (),
) -> Space:
  """The space of a finished run, at its selected checkpoint.

  `part` is "validation" or "test". The default title names loss and metric.
  `losses` are the losses of the study of the run.

  Raises:
    InputError: if the run is not finished, or if the part is unknown.
  """
  check_choice("part", part, PARTS)
  folder = Path(folder)
  if not is_finished(folder):
    raise InputError(
      f"{folder} holds no finished run ({run_files.RESULT} or its embeddings"
      " are missing): run python -m experiments.train first. (A study keeps"
      " embeddings only of the chosen runs, once it is reported.)"
    )
  result = run_files.read_json(folder / run_files.RESULT)
  config = run_files.read_json(folder / run_files.CONFIG)
  loss = config["loss"]["name"]
  arrays = read_selected(folder)
  margins = [
    result["numbers"][f"loss.{name}"]
    for name, power in LOSSES[loss].scaled.items()
    if power == 1 and name.endswith("margin")
  ]
  names = arrays.get(f"{part}_class_names")
  is_potential = loss in PAIR_POTENTIALS
  return Space(
    title=title or f"{loss}, {result['metric']}",
    embeddings=arrays[f"{part}_embeddings"],
    labels=arrays[f"{part}_labels"],
    metric=result["metric"],
    class_names=list(names) if names is not None else None,
    margins=margins if is_potential else (),
    gaps=() if is_potential else margins,
    threshold=_threshold(arrays, result["metric"]),
    open_set=_open_set(config["eval"]),
    loss=loss,
    losses=losses,
  )


def read_selected(folder: Path) -> dict[str, np.ndarray]:
  """The arrays that a run embedded at its selected checkpoint."""
  selected = folder / run_files.SELECTED_EMBEDDINGS
  return run_files.read_own(
    selected if selected.exists() else folder / run_files.EMBEDDINGS
  )


def is_finished(folder: Path) -> bool:
  """Whether a folder holds a run whose embeddings can be drawn."""
  return all(
    (folder / name).exists()
    for name in (run_files.RESULT, run_files.EMBEDDINGS)
  )


def finished_runs(root: str | Path) -> list[Path]:
  """The folders under `root` that hold finished runs, in order of their names.

  Raises:
    InputError: if there is no such folder.
  """
  root = Path(root)
  folders = sorted(path.parent for path in root.glob(f"**/{run_files.RESULT}"))
  folders = [folder for folder in folders if is_finished(folder)]
  if not folders:
    raise InputError(
      f"no finished run in {root}: run make compare, or python -m"
      " experiments.train --config=configs/glyphs.py --workdir=runs/one."
    )
  return folders


def pairs_of(
  space: Space,
) -> tuple[Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
  """The distances of all pairs of images, or of the pairs in a sample.

  The second array tells whether the images of a pair have the same class.
  """
  sample = _sample(space.labels)
  return evaluation.pairs_of(
    space.embeddings[sample], space.labels[sample], space.metric
  )


def _open_set(section: Mapping[str, Any]) -> evaluation.OpenSet | None:
  is_asked = any("/identification_" in column for column in section["columns"])
  return evaluation.OpenSet(**section["identification"]) if is_asked else None


def _threshold(arrays: Mapping[str, np.ndarray], metric: str) -> float:
  sample = _sample(arrays["validation_labels"])
  validation = {
    name: arrays[name][sample]
    for name in ("validation_embeddings", "validation_labels")
  }
  return learned_threshold(validation, metric)


def _sample(labels: Int[np.ndarray, " n *k"]) -> Int[np.ndarray, " m"]:
  """Indices of all images, or of a random sample if there are too many.

  The sample has whole classes, since single images would form few same pairs.
  Images with several labels are sampled one by one.

  >>> _sample(np.array([0, 1, 0, 1])).tolist()
  [0, 1, 2, 3]
  """
  if len(labels) <= MOST_IMAGES:
    return np.arange(len(labels))
  if labels.ndim > 1:
    order = np.random.default_rng(0).permutation(len(labels))
    return np.sort(order[:MOST_IMAGES])
  classes, sizes = np.unique(labels, return_counts=True)
  order = np.random.default_rng(0).permutation(len(classes))
  enough = max(2, np.count_nonzero(np.cumsum(sizes[order]) <= MOST_IMAGES))
  return np.flatnonzero(np.isin(labels, classes[order[:enough]]))
