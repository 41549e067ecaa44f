"""The origin of the features in a file."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from metric_learning.data.files import FETCH_AGAIN
from metric_learning.errors import InputError


class Provenance(NamedTuple):
  """Which network embedded which set, and how; stored as JSON.

  weights, weights_digest: name and digest of the weights file; None if `seed`
    drew the weights at random.
  image_size: (height, width).
  preprocessing: the change of an image before the first layer, in words.
  split: name, seed and fold, or all folds.
  set_digest: the digest of the identities of all parts of the set.
  views: the number of augmented views of each training item, by `augment` and
    `seed`.
  """

  network: str
  pool: str
  dtype: str
  weights: str | None
  weights_digest: str | None
  image_size: list[int]
  preprocessing: str
  set: str
  set_digest: str
  split: list[Any]
  views: int
  augment: dict[str, Any]
  seed: int
  commit: str

  def __str__(self) -> str:
    """One short sentence, for the line under a table.

    >>> print(Provenance(
    ...   "resnet18", "avg", "float32", "r18.pth", "0f" * 6, [224, 224], "",
    ...   "cub100", "ab" * 6, ["official", 0, 0], 0, {}, 0, "unknown",
    ... ))
    features of cub100 (abababababab) at 224×224 by resnet18, avg pool,
    weights r18.pth (0f0f0f0f0f0f)
    """
    weights = f"weights {self.weights} ({self.weights_digest})"
    if self.weights is None:
      weights = f"untrained, seed {self.seed}"
    plural = "s" * (self.views > 1)
    views = f", {self.views} augmented view{plural}" * bool(self.views)
    half = f", {self.dtype}" * (self.dtype != "float32")
    return (
      f"features of {self.set} ({self.set_digest}) at"
      f" {'×'.join(map(str, self.image_size))} by {self.network}, {self.pool}"
      f" pool, {weights}{half}{views}"
    )

  def as_array(self) -> Shaped[np.ndarray, ""]:
    """The JSON text as an array, to store in a file."""
    text = json.dumps(self._asdict(), allow_nan=False, ensure_ascii=False)
    return np.array(text)


def read_provenance(path: Path, array: Shaped[np.ndarray, "..."]) -> Provenance:
  """The provenance in the array `provenance` of a file.

  Raises:
    InputError: if `Provenance.as_array` did not write it.
  """
  try:
    return Provenance(**json.loads(str(array)))
  except (ValueError, TypeError) as error:
    raise InputError(
      f"{path}: `provenance` is not the JSON text that experiments.features"
      f" writes ({error}); leave the array out, or write the file again, or"
      f" {FETCH_AGAIN}."
    ) from None
