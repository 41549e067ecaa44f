"""`lfw`: Labeled Faces in the Wild, 13,233 images of 5,749 people, 250×250.

Huang, Ramesh, Berg and Learned-Miller, 2007. These are real people's faces.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.data import base, prepared
from metric_learning.errors import InputError

FOLDS = 10


class Pairs(NamedTuple):
  """Pairs of images of one fold, and whether they show the same person.

  An image is named by its place: lfw/Name/Name_0001.jpg.
  """

  first: tuple[str, ...]
  second: tuple[str, ...]
  same: Bool[np.ndarray, "p"]


def load(config: Any, seed: int = 0) -> base.Splits:
  """Loads the faces by split "view2" (ten folds) or "view1".

  "view2", for the final report: the people in fold k of pairs.txt are tested,
  those in the next fold are for validation, all others for training. "view1",
  to choose a model: the people in pairsDevTest.txt are tested; of those in
  pairsDevTrain.txt, a fifth, drawn by `split_seed`, is for validation. Nobody
  is in two parts; people with a single image do not train, since they have no
  pair.

  The training condition is "unrestricted": names are used. Verification on the
  official pairs takes `read`, `read_pairs` and `locate`.
  """
  del seed  # nothing is drawn
  base.check_split(config, {"view1": 1, "view2": FOLDS})
  dataset = read(config).dataset
  if config.split == "view2":
    folds = read_pairs(prepared.beside(config, "pairs.txt"))
    test = _people(folds[config.fold])
    validation = _people(folds[(config.fold + 1) % len(folds)])
    train = {*dataset.class_names} - test - validation
  else:
    (tested,) = read_pairs(prepared.beside(config, "pairsDevTest.txt"))
    (seen,) = read_pairs(prepared.beside(config, "pairsDevTrain.txt"))
    test, people = _people(tested), sorted(_people(seen))
    order = np.random.default_rng(config.split_seed).permutation(people)
    cut = round(0.2 * len(people))
    validation, train = {*order[:cut].tolist()}, {*order[cut:].tolist()}
  sizes = np.bincount(dataset.labels, minlength=len(dataset.class_names))
  names = np.array(dataset.class_names)
  pairs_of_one = np.isin(names, [*train]) & (sizes > 1)
  return base.split_by_class(
    dataset,
    (
      np.flatnonzero(pairs_of_one),
      np.flatnonzero(np.isin(names, [*validation])),
      np.flatnonzero(np.isin(names, [*test])),
    ),
  )


def read(config: Any) -> prepared.Images:
  """Reads all images, with the name of each."""
  return prepared.read(config, "images")


def read_pairs(path: pathlib.Path) -> list[Pairs]:
  """Reads pairs.txt, or pairsDevTrain.txt and pairsDevTest.txt with one fold.

  The header holds the number of folds, if it is not 1, and of pairs n. Each
  fold is n lines of same pairs, `name i j`, then n of different ones, `name i
  name j`.

  Raises:
    InputError: that names the first line that is not so.
  """
  lines = [line.split() for line in path.read_text().splitlines()]
  header = lines[0] if lines else []
  if len(header) not in (1, 2) or not all(n.isdigit() for n in header):
    raise InputError(
      f"{path}, line 1: {' '.join(header)!r} is not the header of a pairs file "
      "of LFW, which holds the number of folds and of pairs."
    )
  folds, count = (1, *map(int, header))[-2:]
  if len(lines) != 1 + 2 * folds * count:
    raise InputError(
      f"{path} has {len(lines) - 1} pairs; its header promises "
      f"{2 * folds * count}."
    )
  found = []
  for start in range(1, len(lines), 2 * count):
    first, second = [], []
    for i, line in enumerate(lines[start : start + 2 * count], start):
      wanted = 3 if i < start + count else 4
      numbers = [line[1], line[-1]] if len(line) == wanted else [""]
      if not all(number.isdigit() for number in numbers):
        raise InputError(
          f"{path}, line {i + 1}: {' '.join(line)!r} is not a pair of "
          f"{'the same person' if wanted == 3 else 'different people'}, "
          f"{wanted} fields with two numbers."
        )
      first.append(_place(line[0], line[1]))
      second.append(_place(line[-2] if wanted == 4 else line[0], line[-1]))
    same = np.arange(2 * count) < count
    found.append(Pairs(tuple(first), tuple(second), same))
  return found


def locate(
  pairs: Pairs, names: Sequence[str]
) -> tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"]]:
  """The indices of the two images of each pair among `names`.

  Raises:
    InputError: that names a missing image.
  """
  index = {name: i for i, name in enumerate(names)}
  absent = [n for n in (*pairs.first, *pairs.second) if n not in index]
  if absent:
    raise InputError(
      f"the pairs name {len({*absent})} images that are not there, first "
      f"{absent[0]}: the images and the pairs file are not of one set."
    )
  first, second = (
    np.array([index[name] for name in some])
    for some in (pairs.first, pairs.second)
  )
  return first, second


def _place(name: str, number: str) -> str:
  return f"lfw/{name}/{name}_{int(number):04d}.jpg"


def _people(pairs: Pairs) -> set[str]:
  return {place.split("/")[1] for place in (*pairs.first, *pairs.second)}
