"""Chooses the letters of the data set `glyphs` and prints them.

python -m experiments.choose_glyphs

It takes about 20 s. The letters are stored in the package, since they define
the data set; this script shows how they were chosen.
"""

import unicodedata

import numpy as np
from jaxtyping import Bool, Float

from metric_learning.data.sets import glyphs

LEAST_FONTS = 12
LOOK_ALIKE, OTHER_CASE = 0.10, 0.25
SIZE, SCALE = 32, 0.9
FINE = 2**20  # a grid so fine that vertices stay where the font places them


def candidates() -> str:
  """Letters and decimal digits up to U+FFFF that do not decompose."""
  return "".join(
    letter
    for letter in map(chr, range(0x10000))
    if unicodedata.category(letter) in ("Lu", "Ll", "Lo", "Nd")
    and not unicodedata.decomposition(letter)
  )


def draw_all(letters: str) -> Float[np.ndarray, "fonts letters pixels"]:
  """One image for each font and letter; NaN where the font lacks the letter."""
  shape = (len(glyphs.FONTS), len(letters), SIZE * SIZE)
  images = np.full(shape, np.nan, np.float32)
  for letter, font, edges in glyphs.outlines(letters):
    image = glyphs.rasterize(SCALE * edges, SIZE, grid=FINE)
    images[font, letter] = image.ravel()
  return images


def distances(
  images: Float[np.ndarray, "fonts letters pixels"],
) -> Float[np.ndarray, "letters letters"]:
  """|a − b|² / (|a|² + |b|²), the median over fonts that have both letters."""
  per_font = []
  for image in images:
    squares = np.sum(image**2, axis=1)
    total = squares[:, None] + squares
    per_font.append((total - 2 * image @ image.T) / total)
  return np.nanmedian(per_font, axis=0)


def other_case(letters: str) -> Bool[np.ndarray, "letters letters"]:
  """Whether one of two letters is the lowercase form of the other."""
  lower = np.array([letter.lower() for letter in letters])
  array = np.array(list(letters))
  pairs = (lower[:, None] == array) & (array[:, None] != array)
  return pairs | pairs.T


def choose(letters: str) -> str:
  """Drops letters that few fonts have, or that look like an earlier letter.

  A letter is dropped if its distance to any earlier candidate, dropped or not,
  is less than 0.10, or if its other case came earlier and its distance to it is
  less than 0.25.
  """
  images = draw_all(letters)
  common = np.sum(~np.isnan(images[:, :, 0]), axis=0) >= LEAST_FONTS
  letters = "".join(np.array(list(letters))[common])
  distance = distances(images[:, common])
  near = (distance < LOOK_ALIKE) | (
    (distance < OTHER_CASE) & other_case(letters)
  )
  keep = ~np.tril(near, -1).any(axis=1)
  return "".join(np.array(list(letters))[keep])


if __name__ == "__main__":
  print(choose(candidates()))
