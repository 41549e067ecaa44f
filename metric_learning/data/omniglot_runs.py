"""Lake's 20 runs of 20-way one-shot classification within an alphabet.

The official `all_runs.zip` of Omniglot. A run has one drawing of each of 20
characters of an alphabet by one drawer, and 20 drawings by another drawer to
classify. That makes 400 trials; chance is 5 %.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from metric_learning.data import files, imaging
from metric_learning.errors import InputError

ADDRESS = (
  "https://github.com/brendenlake/omniglot/raw/master/python/"
  "one-shot-classification/all_runs.zip"
)
RUNS, WAYS = 20, 20


class Runs(NamedTuple):
  """Drawings of all runs (ink 255, paper 0), and the right answers.

  Test drawing t of run r shows the character of training drawing
  `answers[r, t]`.
  """

  training: UInt8[np.ndarray, "r c h w 1"]
  test: UInt8[np.ndarray, "r t h w 1"]
  answers: Int[np.ndarray, "r t"]


def read(path: pathlib.Path, size: tuple[int, ...] = ()) -> Runs:
  """Reads all_runs.zip, or the folder that it unpacks to.

  Args:
    path: the archive or folder.
    size: (height, width) to resize to, or () for 105×105.

  Raises:
    InputError: if a file in it is missing or damaged.
  """
  if not path.exists():
    raise InputError(f"{path} is missing; fetch it from {ADDRESS}.")
  root = path if path.is_dir() else files.open_zip(path)
  training, test, answers = [], [], []
  for run in range(1, RUNS + 1):
    folder = root / f"run{run:02d}"
    labels = folder / "class_labels.txt"
    try:
      lines = labels.read_text().split()
    except (*files.DAMAGE, KeyError) as error:
      raise InputError(
        f"cannot read {labels}: {error}; fetch {ADDRESS} again."
      ) from error
    # Lines of `run01/test/item01.png run01/training/class08.png`.
    answer = dict(zip(lines[::2], lines[1::2], strict=True))
    items = [f"run{run:02d}/test/item{i:02d}.png" for i in _numbers()]
    classes = [f"run{run:02d}/training/class{i:02d}.png" for i in _numbers()]
    if [*answer] != items or not {*answer.values()} <= {*classes}:
      raise InputError(
        f"{labels} does not give the class of each of item01 to item{WAYS};"
        f" fetch {ADDRESS} again."
      )
    answers.append([classes.index(answer[item]) for item in items])
    training.append(
      255 - imaging.read_images([root / n for n in classes], size)
    )
    test.append(255 - imaging.read_images([root / n for n in items], size))
  return Runs(np.stack(training), np.stack(test), np.array(answers))


def _numbers() -> range:
  return range(1, WAYS + 1)


Distance = Callable[
  [UInt8[np.ndarray, "t h w 1"], UInt8[np.ndarray, "c h w 1"]],
  Float[np.ndarray | Array, "t c"],
]


def error(runs: Runs, distance: Distance) -> dict[str, float]:
  """The share of test drawings whose nearest training drawing is wrong.

  The one-shot protocol of Lake et al. 2015: `error` over all trials, its
  standard deviation over runs as `std`, and the number of `trials`. Of equally
  near drawings, the first counts; the order of the classes in a run is random.

  >>> images = np.uint8([0, 9]).reshape(1, 2, 1, 1, 1)
  >>> runs = Runs(images, images[:, ::-1], np.array([[1, 0]]))
  >>> def brightness(test, training):
  ...   return np.abs(test.ravel()[:, None] - training.ravel() + 0.0)
  >>> error(runs, brightness)["error"]
  0.0

  Args:
    runs: as `read` returns them.
    distance: from test and training drawings of a run to a matrix, such as
      `lambda x, y: ml.pairwise("l2", embed(x), embed(y))`.
  """
  wrong = [
    np.argmin(np.asarray(distance(test, training)), axis=1) != answer
    for training, test, answer in zip(*runs, strict=True)
  ]
  by_run = np.mean(wrong, axis=1)
  return {
    "error": float(by_run.mean()),
    "std": float(by_run.std(ddof=1)) if len(by_run) > 1 else float("nan"),
    "trials": float(np.size(wrong)),
  }


def modified_hausdorff(
  test: UInt8[np.ndarray, "t h w 1"], training: UInt8[np.ndarray, "c h w 1"]
) -> Float[np.ndarray, "t c"]:
  """Modified Hausdorff distance between the ink of drawings.

    max( mean_{a ∈ A} min_{b ∈ B} |a − b|, mean_{b ∈ B} min_{a ∈ A} |a − b| )

  over the positions of ink, each set centered at the origin. This is the
  baseline published with the runs; its error is 38.8 %.

  >>> a = np.uint8([[1, 0, 1]]).reshape(1, 1, 3, 1)  # ink at −1 and 1
  >>> b = np.uint8([[1, 1, 0]]).reshape(1, 1, 3, 1)  # ink at −½ and ½
  >>> modified_hausdorff(a, b)
  array([[0.5]])

  Dubuisson and Jain, 1994.
  """
  from scipy.spatial import KDTree

  def inks(images: np.ndarray) -> list[np.ndarray]:
    places = [np.argwhere(image > 0) for image in images[..., 0]]
    return [ink - ink.mean(axis=0) for ink in places]

  def to(inks: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """Mean distance of each of `inks` to each of `others`, [others, inks]."""
    ends = np.cumsum([len(ink) for ink in inks])[:-1]
    every = np.concatenate(inks)
    # All points at once: a tree is slow to call and quick to search.
    trees = (KDTree(other, leafsize=32) for other in others)
    nearest = (tree.query(every, workers=-1)[0] for tree in trees)
    return np.array(
      [[some.mean() for some in np.split(row, ends)] for row in nearest]
    )

  a, b = inks(test), inks(training)
  return np.maximum(to(a, b).T, to(b, a))
