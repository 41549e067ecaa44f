"""Warns about images that are in training and in test, for every data set."""

import hashlib
import warnings

import numpy as np

from metric_learning.data.base import Dataset, Splits


def warn_of_duplicates(splits: Splits) -> None:
  """Warns if a test image is also in training or validation, pixel for pixel.

  Images on disk are not compared.
  """
  parts = (splits.train, splits.validation, splits.test)
  if not all(isinstance(part.inputs, np.ndarray) for part in parts):
    return
  seen = {}
  for kind, part in (("validation", parts[1]), ("training", parts[0])):
    for i, digest in enumerate(_digests(part)):
      seen[digest] = f"{kind} image {_name(part, i)}"
  test = splits.test
  digests = _digests(test)
  found = [i for i, digest in enumerate(digests) if digest in seen]
  if found:
    warnings.warn(
      f"{test.name}: {len(found)} of {len(digests)} test images are also in "
      f"training or validation, pixel for pixel: test image "
      f"{_name(test, found[0])} is {seen[digests[found[0]]]}.",
      stacklevel=3,
    )


def _digests(part: Dataset) -> list[bytes]:
  return [
    hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    for image in np.asarray(part.inputs)
  ]


def _name(part: Dataset, index: int) -> str:
  return f"{index} ({part.classes_of(index)})"
