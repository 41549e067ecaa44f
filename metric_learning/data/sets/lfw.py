"""`lfw`: Labeled Faces in the Wild, 13,233 images of 5,749 people, 250×250.

Huang, Ramesh, Berg and Learned-Miller, 2007. The faces are those of real
people.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.data import base, cuts, prepared
from metric_learning.errors import InputError

FOLDS = 10
SPLITS = {"view1": 1, "view2": FOLDS, "view2_all": 1}
# How many validation pairs are drawn if none are official: as many as in a
# fold.
DRAWN = 600


class Pairs(NamedTuple):
  """Pairs of images of one fold, and whether they show the same person.

  An image is named by its path, such as lfw/Name/Name_0001.jpg.
  """

  first: tuple[str, ...]
  second: tuple[str, ...]
  same: Bool[np.ndarray, " p"]


def load(config: Any) -> base.Splits:
  """Loads the faces by split "view1", "view2" (ten folds) or "view2_all".

  "view1" is for choosing a model. The people in pairsDevTest.txt are tested; a
  fifth of those in pairsDevTrain.txt, drawn by `split_seed`, is for validation.

  "view2" is for the final report, with a model per fold. The people in fold
  k of pairs.txt are tested, those in the next fold are for validation, and all
  others for training. The score of LFW is the mean accuracy over the ten folds.

  "view2_all" has one model for all ten folds. Training and validation take the
  few people who are not in pairs.txt; a fifth of them, drawn by `split_seed`,
  is for validation. The threshold of a fold comes from the other nine.

  Test pairs are the official ones. In "view2", so are the validation pairs: the
  threshold then comes from one of the other nine folds, with people whom the
  model has not seen. In the other splits, validation pairs are drawn. Nobody is
  in two parts. People with a single image are not for training, since they have
  no pair. The training condition is "unrestricted": names are used.
  """
  cuts.check_split(config, SPLITS)
  faces = read(config)
  if config.split == "view1":
    (tested,), (seen,) = (
      read_pairs(prepared.beside(config, name))
      for name in ("pairsDevTest.txt", "pairsDevTrain.txt")
    )
    test, held_out, people = [tested], [], _people([seen])
  else:
    folds = read_pairs(prepared.beside(config, "pairs.txt"))
    after = folds[(config.fold + 1) % len(folds)]
    whole = config.split == "view2_all"
    test = folds if whole else [folds[config.fold]]
    held_out = [] if whole else [after]
    people = {*faces.dataset.class_names}
  names = np.array(faces.dataset.class_names)
  which = lambda some: np.flatnonzero(np.isin(names, [*some]))
  train = which(people - _people(test) - _people(held_out))
  validation = which(_people(held_out))
  if not held_out:
    train, validation = cuts.hold_out_fifth(train, config.split_seed)
  sizes = np.bincount(faces.dataset.labels, minlength=len(names))
  train = train[sizes[train] > 1]
  parts = cuts.split_by_class(
    faces.dataset, (train, validation, which(_people(test)))
  )
  return dataclasses.replace(
    parts,
    validation=_with_pairs(parts.validation, faces, held_out)
    if held_out
    else base.draw_pairs(parts.validation, DRAWN, [config.split_seed, 1]),
    test=_with_pairs(parts.test, faces, test),
  )


def _with_pairs(
  part: base.Dataset, faces: prepared.Images, folds: Sequence[Pairs]
) -> base.Dataset:
  """A part of the faces with the official pairs of the given folds."""
  people = {*part.class_names}
  names = [name for name in faces.names if name.split("/")[1] in people]
  first, second = np.concatenate([locate(f, names) for f in folds], axis=1)
  number = np.repeat(np.arange(len(folds)), [len(f.same) for f in folds])
  pairs = base.Pairs(
    first.astype(np.int32),
    second.astype(np.int32),
    np.concatenate([fold.same for fold in folds]),
    None,
    number.astype(np.int32) if len(folds) > 1 else None,
  )
  return dataclasses.replace(part, pairs=pairs)


def read(config: Any) -> prepared.Images:
  """Reads all images, with the name of each."""
  return prepared.read(config, "images")


def read_pairs(path: pathlib.Path) -> list[Pairs]:
  """Reads pairs.txt; or pairsDevTrain.txt or pairsDevTest.txt, as one fold.

  The header holds the number of folds, if it is not 1, and the number n. Each
  fold has n lines of genuine pairs, `name i j`, and n lines of impostor pairs,
  `name i name j`.

  Raises:
    InputError: with the first line that has another form.
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
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
  """The indices of the two images of each pair among `names`.

  Raises:
    InputError: with a missing image.
  """
  index = {name: i for i, name in enumerate(names)}
  absent = [n for n in (*pairs.first, *pairs.second) if n not in index]
  if absent:
    raise InputError(
      f"the pairs name {len({*absent})} images that are missing, first "
      f"{absent[0]}: the images and the pairs file are not from the same set."
    )
  first, second = (
    np.array([index[name] for name in some])
    for some in (pairs.first, pairs.second)
  )
  return first, second


def _place(name: str, number: str) -> str:
  return f"lfw/{name}/{name}_{int(number):04d}.jpg"


def _people(folds: Sequence[Pairs]) -> set[str]:
  places = [place for f in folds for place in (*f.first, *f.second)]
  return {place.split("/")[1] for place in places}
