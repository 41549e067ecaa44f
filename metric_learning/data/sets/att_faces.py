"""`att_faces`: the AT&T (ORL) faces, 40 subjects of 10 images, 112×92, gray.

Credit the Olivetti Research Laboratory; F. Samaria and A. Harter,
Parameterisation of a stochastic model for human face identification, 1994.
"""

import pathlib
import zipfile
from typing import Any

import numpy as np

from metric_learning.data import base, cuts, files, imaging
from metric_learning.errors import InputError

SUBJECTS, IMAGES = 40, 10
SPLITS = {"folds": 8, "chopra2005": 1}


def load(config: Any) -> base.Splits:
  """Loads the faces by split "folds" (eight) or "chopra2005".

  Fold k tests subjects 5k + 1 to 5k + 5; five of the other 35, drawn by
  (`split_seed`, fold), are for validation. The last fold is the SET1/SET2
  division of Chopra, Hadsell and LeCun (2005): split "chopra2005".
  """
  cuts.check_split(config, SPLITS)
  fold = 7 if config.split == "chopra2005" else config.fold
  test = np.arange(5 * fold, 5 * fold + 5)
  seen = np.setdiff1d(np.arange(SUBJECTS), test)
  rng = np.random.default_rng([config.split_seed, fold])
  validation, train = np.split(rng.permutation(seen), [5])
  return cuts.split_by_class(read(config), (train, validation, test))


def read(config: Any) -> base.Dataset:
  """Reads the 400 images from the folder or archive `config.data_dir`."""
  root = _root(files.data_path(config, "att_faces.zip or its unpacked folder"))
  subjects = [f"s{number}" for number in range(1, SUBJECTS + 1)]
  names = [
    f"{subject}/{number}.pgm"
    for subject in subjects
    for number in range(1, IMAGES + 1)
  ]
  missing = [name for name in names if not (root / name).exists()]
  if missing:
    raise InputError(
      f"{root} lacks {len(missing)} of the 400 AT&T images, first "
      f"{', '.join(missing[:3])}; it must hold s1/1.pgm to s40/10.pgm."
    )
  labels = np.repeat(np.arange(SUBJECTS, dtype=np.int32), IMAGES)
  images = imaging.read_images(root / name for name in names)
  return base.Dataset("att_faces", images, labels, tuple(subjects))


def _root(path: pathlib.Path) -> pathlib.Path | zipfile.Path:
  """The folder, or the folder in an archive, that holds s1 to s40."""
  if (path / "att_faces.zip").exists():
    path /= "att_faces.zip"
  root = path if path.is_dir() else files.open_zip(path)
  places = [root, *root.iterdir()]
  return next((place for place in places if (place / "s1").is_dir()), root)
