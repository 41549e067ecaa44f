"""`features`: vectors from another network or a table, in an npz file."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from metric_learning.data import base, files
from metric_learning.data.provenance import read_provenance
from metric_learning.data.sets import npz
from metric_learning.errors import InputError


def load(config: Any) -> base.Splits:
  """Loads the vectors by "classes", "half", "folds", "images" or "official".

  "images" splits the vectors of each class; "official" takes the parts that the
  array `split` names.
  """
  return npz.split_arrays(*read(config), config)


def read(
  config: Any,
) -> tuple[base.Dataset, Shaped[np.ndarray, " n *f"] | None]:
  """Reads the data set, and the part of each vector if the file has parts.

  - `features`: float32, [n, d], finite
  - `labels`, `class_names`, `split`, `groups`: as in `npz`
  - `provenance` (optional): JSON text of a `Provenance`, which every table
    shows
  """
  path = files.data_path(config, "an npz file with `features` and `labels`")
  arrays = npz.read_arrays(path, "features", "labels")
  vectors = _checked(path, arrays["features"])
  dataset, parts = npz.labeled(
    "features", path, vectors, arrays, config.small_classes
  )
  if "provenance" in arrays:
    known = read_provenance(path, arrays["provenance"])
    dataset = dataclasses.replace(dataset, provenance=str(known))
  return dataset, parts


def _checked(
  path: pathlib.Path, features: Shaped[np.ndarray, "..."]
) -> Float32[np.ndarray, "n d"]:
  if features.dtype.kind != "f" or features.ndim != 2 or not features.size:
    raise InputError(
      f"{path}: `features` is {features.dtype} {features.shape}; it must be"
      " float32 with the shape (n, d), one vector per row."
    )
  with np.errstate(over="ignore"):  # Overflow is reported below.
    vectors = np.asarray(features, np.float32)
  bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
  if len(bad):
    raise InputError(
      f"{path}: `features` has {len(bad)} rows with a number that is not finite"
      f" in float32; the first is row {bad[0]}. Leave these rows out, or fill"
      " them."
    )
  return vectors
