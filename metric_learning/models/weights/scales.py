"""Scales of images: the numbers that a network gets for their colors."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Tensors = Mapping[str, np.ndarray]


class Scale(NamedTuple):
  """(value - mean) / deviation for red, green and blue, values from 0 to 1.

  blue_first: whether the result is then ordered as blue, green, red.
  """

  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]
  blue_first: bool = False


# The scales on which the networks of weights files were trained.
SCALES = {
  "imagenet": Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  "half": Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  "caffe": Scale(
    (122.679 / 255, 116.669 / 255, 104.006 / 255), (1 / 255,) * 3, True
  ),
}


def rescaled(tensors: Tensors, first: str, was: str) -> dict[str, np.ndarray]:
  """Converts the weights of a network of the scale `was` to "imagenet".

  It changes the first convolution, which is exact if that has a bias and no
  padding: with x = (σ y + μ - μ') / σ', the kernel K becomes K σ / σ', and the
  bias gains Σ K (μ - μ') / σ'.

  Args:
    tensors: those of the file.
    first: the name of its first convolution, whose kernel is OIHW.
    was: a name in `SCALES`.
  """
  kernel, bias = f"{first}.weight", f"{first}.bias"
  is_kernel = kernel in tensors and tensors[kernel].ndim == 4
  if was == "imagenet" or not is_kernel or bias not in tensors:
    return dict(tensors)  # `fill` reports missing tensors, with other faults.
  old, new = SCALES[was], SCALES["imagenet"]
  weights = np.asarray(tensors[kernel], np.float64)
  if old.blue_first:
    weights = weights[:, ::-1]
  per_channel = lambda values: np.array(values)[:, None, None]
  weights = weights / per_channel(old.deviation)
  shift = per_channel(np.subtract(new.mean, old.mean))
  return {
    **tensors,
    kernel: (weights * per_channel(new.deviation)).astype(np.float32),
    bias: (tensors[bias] + (weights * shift).sum((1, 2, 3))).astype(np.float32),
  }
