"""`omniglot`: 1,623 characters of 50 alphabets by 20 drawers, 105×105.

Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through
probabilistic program induction, Science 2015. Ink is 255 and paper 0.
"""

import csv
import dataclasses
import logging
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from metric_learning.data import archives, base, cuts, files, imaging, prepared
from metric_learning.errors import InputError

SPLITS = {"standard": 1, "koch": 1, "matching": 1}
# The name of an alphabet that is not known.
UNNAMED = "unnamed"
# The number of pairs for validation and for test in the split "koch".
PAIRS = 10_000

log = logging.getLogger(__name__)


class Drawings(NamedTuple):
  """All drawings, who drew each (1 to 20), and which characters are background.

  A class is named <alphabet>/<character>.
  """

  dataset: base.Dataset
  drawers: Int[np.ndarray, " n"]
  background: Bool[np.ndarray, " c"]


def load(config: Any) -> base.Splits:
  """Loads the drawings by split "standard", "koch" or "matching".

  "standard": the 30 background alphabets are for training and validation, and
  the 20 evaluation alphabets are tested. A fifth of the background alphabets,
  drawn by `split_seed`, is for validation; if the alphabets of some characters
  are not known, a fifth of the characters.

  "koch" (Koch et al. 2015): 30 alphabets by 12 drawers are for training, 10 by
  4 other drawers are for validation, and the last 10 by the last 4 drawers are
  tested. Validation and test have 10,000 pairs each, half of them genuine. The
  original alphabets and pairs of each part are not published; `split_seed`
  draws them. Only alphabets with known names take part: all 50 in the archives;
  30 in the arrays with the two small archives.

  "matching" (Vinyals et al. 2016): 1,200 characters for training and
  validation, 423 for test, alphabets mixed. `split_seed` draws them; this is
  not the original list. Of the 1,200, 172 are for validation. The others are
  for training, with their rotations by 90, 180 and 270 degrees, each a class of
  its own.
  """
  cuts.check_split(config, SPLITS)
  drawings = read(config)
  make = {"standard": standard, "koch": koch, "matching": matching}
  return make[config.split](drawings, config.split_seed)


def standard(drawings: Drawings, seed: int) -> base.Splits:
  """Trains on background alphabets, and tests evaluation alphabets."""
  background, unseen = (
    np.flatnonzero(drawings.background),
    np.flatnonzero(~drawings.background),
  )
  alphabet = _alphabets(drawings)
  names = np.unique(alphabet[background])
  unnamed = int((alphabet[background] == UNNAMED).sum())
  if unnamed:
    log.warning(
      "omniglot: the alphabet of %d background characters is not known, so "
      "validation is by characters; images_background.zip has the alphabets.",
      unnamed,
    )
    training = base.subset(drawings.dataset, background)
    test = base.subset(drawings.dataset, unseen)
    return cuts.split_official(training, test, seed)
  chosen = np.random.default_rng(seed).permutation(names)
  chosen = chosen[: round(0.2 * len(names))]
  held_out = np.isin(alphabet[background], chosen)
  parts = background[~held_out], background[held_out], unseen
  return cuts.split_by_class(drawings.dataset, parts)


def koch(drawings: Drawings, seed: int) -> base.Splits:
  """Three sets of alphabets, each by its own drawers."""
  alphabet = _alphabets(drawings)
  names = np.setdiff1d(alphabet, [UNNAMED])
  ends = round(0.6 * len(names)), round(0.8 * len(names))
  order = np.random.default_rng(seed).permutation(names)
  unnamed = int((alphabet == UNNAMED).sum())
  if unnamed:
    log.warning(
      "omniglot: the alphabet of %d characters is not known, so %d alphabets "
      "are divided instead of 50; images_background.zip has the others.",
      unnamed,
      len(names),
    )
  parts = []
  for some, first, last in zip(
    np.split(order, ends), (1, 13, 17), (12, 16, 20), strict=True
  ):
    kept = (drawings.drawers >= first) & (drawings.drawers <= last)
    drawn = base.select(drawings.dataset, np.flatnonzero(kept))
    parts.append(base.subset(drawn, np.flatnonzero(np.isin(alphabet, some))))
  train, validation, test = parts
  return base.Splits(
    train,
    base.draw_pairs(validation, PAIRS, [seed, 1]),
    base.draw_pairs(test, PAIRS, [seed, 2]),
    "open-set",
  )


def matching(drawings: Drawings, seed: int) -> base.Splits:
  """Characters of all alphabets; the training ones in four rotations."""
  height, width = drawings.dataset.inputs.shape[1:3]
  if height != width:
    raise InputError(
      f"image_size=({height}, {width}): rotations by 90 degrees need a square."
    )
  count = len(drawings.dataset.class_names)
  order = np.random.default_rng(seed).permutation(count)
  # 1,200 and 423 of 1,623 characters; 172 of the 1,200.
  seen = round(count * 1200 / 1623)
  ends = round(seen * 172 / 1200), seen
  validation, train, test = np.split(order, ends)
  splits = cuts.split_by_class(drawings.dataset, (train, validation, test))
  return base.Splits(
    rotated(splits.train), splits.validation, splits.test, "open-set"
  )


def rotated(dataset: base.Dataset) -> base.Dataset:
  """Each class in four rotations, as four classes.

  >>> corner = np.uint8([[1, 0], [0, 0]])[None, :, :, None]
  >>> four = rotated(base.Dataset("one", corner, np.int32([0]), ("a",)))
  >>> four.class_names, four.labels.tolist()
  (('a', 'a 90', 'a 180', 'a 270'), [0, 1, 2, 3])
  >>> four.inputs[1, ..., 0].tolist()  # against the clock
  [[0, 0], [1, 0]]
  """
  classes = len(dataset.class_names)
  turns = [np.rot90(dataset.inputs, turn, axes=(1, 2)) for turn in range(4)]
  labels = [dataset.labels + turn * classes for turn in range(4)]
  names = [
    name + angle
    for angle in ("", " 90", " 180", " 270")
    for name in dataset.class_names
  ]
  return dataclasses.replace(
    dataset,
    inputs=np.concatenate(turns),
    labels=np.concatenate(labels).astype(np.int32),
    class_names=tuple(names),
  )


def read(config: Any) -> Drawings:
  """Reads the drawings that are prepared or unpacked in `config.data_dir`.

  Or reads the arrays `images_background.npz` and `images_evaluation.npz` there.
  Each holds `images` [characters, 20, 105, 105], True for paper. The names of
  evaluation characters are then in `evaluation_classes.csv`; background
  characters take those of images_background_small1.zip and small2.zip.
  """
  folder = pathlib.Path(config.data_dir).expanduser()
  if config.data_dir and (folder / "images_background.npz").exists():
    return _read_arrays(folder, tuple(config.image_size))
  dataset, names, parts = prepared.read(config, "background", "evaluation")
  drawers = [
    int(name.rpartition("_")[2].removesuffix(".png")) for name in names
  ]
  background = np.zeros(len(dataset.class_names), bool)
  background[dataset.labels[parts == "background"]] = True
  inverted = dataclasses.replace(
    dataset, inputs=255 - np.asarray(dataset.inputs)
  )
  return Drawings(inverted, np.array(drawers), background)


def _alphabets(drawings: Drawings) -> np.ndarray:
  """The alphabet of each character."""
  return np.array([n.partition("/")[0] for n in drawings.dataset.class_names])


# --- The arrays -------------------------------------------------------------


def _read_arrays(folder: pathlib.Path, size: tuple[int, ...]) -> Drawings:
  images, names = [], []
  for part, naming in (("background", _small), ("evaluation", _listed)):
    path = folder / f"images_{part}.npz"
    try:
      with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        paper = arrays["images"]
    except (*files.DAMAGE, KeyError) as error:
      raise InputError(
        f"cannot read the array `images` of {path}: {error}; "
        f"{files.FETCH_AGAIN}."
      ) from error
    if paper.ndim != 4 or paper.dtype != bool:
      raise InputError(
        f"{path}: `images` is {paper.dtype} {paper.shape}; it must be bool "
        "(characters, drawers, height, width)."
      )
    names += naming(folder, paper)
    ink = np.uint8(255) * ~paper
    ink = ink.reshape(-1, *paper.shape[2:], 1)
    images.append(imaging.resize(ink, size) if size else ink)
    drawers = paper.shape[1]
  total = np.concatenate(images)
  labels = np.repeat(np.arange(len(names), dtype=np.int32), drawers)
  return Drawings(
    base.Dataset("omniglot", total, labels, tuple(names)),
    np.tile(np.arange(1, drawers + 1), len(names)),
    np.arange(len(names)) * drawers < len(images[0]),
  )


def _listed(folder: pathlib.Path, paper: np.ndarray) -> list[str]:
  """The names of the characters in evaluation_classes.csv."""
  path = folder / "evaluation_classes.csv"
  if not path.exists():
    raise InputError(f"{folder} lacks evaluation_classes.csv.")
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  if len(rows) != len(paper):
    raise InputError(
      f"{path} names {len(rows)} characters, but images_evaluation.npz holds "
      f"{len(paper)}."
    )
  return [f"{row['alphabet']}/{row['character']}" for row in rows]


def _small(folder: pathlib.Path, paper: np.ndarray) -> list[str]:
  """The names of the characters whose first drawing is in a small archive."""
  place = r"/([^/]+)/([^/]+)/\d+_01\.png$"
  known = {}
  for path in sorted(folder.glob("images_background_small?.zip")):
    for name, read_image in archives.members(path):
      match = re.search(place, name)
      if match:
        example = archives.Example(name, "", read_image)
        pixels = imaging.read_images([example])[0, ..., 0] > 0
        known[_key(pixels)] = "/".join(match.groups())
  return [
    known.get(_key(character[0]), f"{UNNAMED}/{i:04d}")
    for i, character in enumerate(paper)
  ]


def _key(pixels: Bool[np.ndarray, "h w"]) -> bytes:
  # Packed, since some files store True as 255 and not as 1.
  return np.packbits(pixels).tobytes()
