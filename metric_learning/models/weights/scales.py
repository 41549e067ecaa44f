"""Which numbers a network sees for the colors of an image."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Tensors = Mapping[str, np.ndarray]


class Scale(NamedTuple):
  """(value - mean) / deviation of values from 0 to 1, of red, green and blue.

  blue_first: whether the channels are blue, green, red then.
  """

  mean: tuple[float, float, float]
  deviation: tuple[float, float, float]
  blue_first: bool = False


# As weights files were trained.
SCALES = {
  "imagenet": Scale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  "half": Scale((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  "caffe": Scale(
    (122.679 / 255, 116.669 / 255, 104.006 / 255), (1 / 255,) * 3, True
  ),
}


def rescaled(tensors: Tensors, first: str, was: str) -> dict[str, np.ndarray]:
  """A file of a network that saw `was`, for one that sees "imagenet".

  Exact where the first convolution pads nothing and has a bias: with
  x = (σ y + μ - μ') / σ', the kernel K becomes K σ / σ', and the bias gains
  Σ K (μ - μ') / σ'.

  Args:
    tensors: of the file.
    first: name of its first convolution, whose kernel is OIHW.
    was: a name in `SCALES`.
  """
  kernel, bias = f"{first}.weight", f"{first}.bias"
  right = kernel in tensors and tensors[kernel].ndim == 4
  if was == "imagenet" or not right or bias not in tensors:
    return dict(tensors)  # What is missing is refused with all that is.
  then, now = SCALES[was], SCALES["imagenet"]
  weights = np.asarray(tensors[kernel], np.float64)
  if then.blue_first:
    weights = weights[:, ::-1]
  per_channel = lambda values: np.array(values)[:, None, None]
  weights = weights / per_channel(then.deviation)
  moved = per_channel(np.subtract(now.mean, then.mean))
  return {
    **tensors,
    kernel: (weights * per_channel(now.deviation)).astype(np.float32),
    bias: (tensors[bias] + (weights * moved).sum((1, 2, 3))).astype(np.float32),
  }
