"""Cuts images to the size of a network and keeps their aspect ratio.

Like Resize, CenterCrop and RandomResizedCrop of torchvision, with the bilinear
filter of Pillow.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from metric_learning.errors import InputError

# The width over the height of a random part is between 3/4 and 4/3. If no such
# part fits in ten tries, the middle is taken: Szegedy et al., CVPR 2015.
_STRETCH = math.log(4 / 3)
_TRIES = 10

Box = tuple[int, int, int, int]


class Draw(NamedTuple):
  """How to draw a random part: the largest share cut away, and a generator."""

  cut: float
  random: np.random.Generator


def check(size: tuple[int, ...], short_side: int | None) -> None:
  """Raises `InputError` unless the crop fits into the resized image."""
  if short_side is None:
    return
  if not size:
    raise InputError(
      f"config.data.short_side={short_side} cuts images of"
      " config.data.image_size from the middle: set image_size too, such as"
      f" ({short_side}, {short_side})."
    )
  if short_side < max(size):
    raise InputError(
      f"config.data.short_side={short_side} is less than a side of"
      f" config.data.image_size={size}: give {max(size)} or more, or None,"
      " which stretches the whole image."
    )


def cropped(
  image: Any,
  size: tuple[int, ...],
  short_side: int | None = None,
  draw: Draw | None = None,
) -> Any:
  """The middle of an image, or a random part of it, at `size`.

  Args:
    image: an image of Pillow.
    size: (height, width) of the result.
    short_side: the short side before the image is cut; None does not resize.
    draw: draws a random part; None takes the middle.
  """
  from PIL import Image

  bilinear = Image.Resampling.BILINEAR
  if short_side is not None:
    least = min(image.size)
    width, height = (short_side * side // least for side in image.size)
    if image.size != (width, height):
      image = image.resize((width, height), bilinear)
  height, width = size
  if draw is None:
    left, top = (
      round((image.width - width) / 2),
      round((image.height - height) / 2),
    )
    return image.crop((left, top, left + width, top + height))
  box = random_box(image.width, image.height, draw)
  return image.crop(box).resize((width, height), bilinear)


def random_box(width: int, height: int, draw: Draw) -> Box:
  """The left, top, right and bottom edge of a random part.

  >>> random_box(30, 20, Draw(0.5, np.random.default_rng(0)))
  (2, 0, 17, 20)
  """
  for _ in range(_TRIES):
    area = width * height * draw.random.uniform(1 - draw.cut, 1)
    stretch = math.exp(draw.random.uniform(-_STRETCH, _STRETCH))
    wide, tall = (
      round(math.sqrt(area * stretch)),
      round(math.sqrt(area / stretch)),
    )
    if 0 < wide <= width and 0 < tall <= height:
      left = int(draw.random.integers(0, width - wide + 1))
      top = int(draw.random.integers(0, height - tall + 1))
      return left, top, left + wide, top + tall
  # The largest part with an allowed shape, in the middle.
  wide = min(width, round(height * 4 / 3))
  tall = min(height, round(width * 4 / 3))
  left, top = (width - wide) // 2, (height - tall) // 2
  return left, top, left + wide, top + tall
