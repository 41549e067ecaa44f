"""`att_faces`: the AT&T (ORL) faces, 40 subjects with 10 images, 112×92, gray.

Credit the Olivetti Research Laboratory; F. Samaria and A. Harter,
Parameterisation of a stochastic model for human face identification, 1994.
"""

from typing import Any

import numpy as np

from metric_learning.data import base, cuts
from metric_learning.data.sets import zipped

SUBJECTS, IMAGES = 40, 10
SPLITS = {"folds": 8, "chopra2005": 1}


def load(config: Any) -> base.Splits:
  """Loads the faces by split "folds" (eight) or "chopra2005".

  Fold k tests subjects 5k + 1 to 5k + 5. Five of the other 35, drawn by
  (`split_seed`, fold), are for validation. Split "chopra2005" is the last fold:
  the SET1/SET2 division of Chopra, Hadsell and LeCun (2005).
  """
  cuts.check_split(config, SPLITS)
  fold = 7 if config.split == "chopra2005" else config.fold
  test = np.arange(5 * fold, 5 * fold + 5)
  seen = np.setdiff1d(np.arange(SUBJECTS), test)
  rng = np.random.default_rng([config.split_seed, fold])
  validation, train = np.split(rng.permutation(seen), [5])
  return cuts.split_by_class(read(config), (train, validation, test))


def read(config: Any) -> base.Dataset:
  """Reads `s1/1.pgm` to `s40/10.pgm` from `config.data_dir`."""
  subjects = [f"s{number}" for number in range(1, SUBJECTS + 1)]
  names = [
    f"{subject}/{number}.pgm"
    for subject in subjects
    for number in range(1, IMAGES + 1)
  ]
  root = zipped.root_of(config, "att_faces.zip", "s1")
  return zipped.read(config, root, names, subjects)
