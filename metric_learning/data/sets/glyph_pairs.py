"""`glyph_pairs`: two letters side by side in an image, which has both labels.

A data set of items with several labels that needs no download. The letters are
Latin capitals of `glyphs`. Training, validation and test are of different
fonts, so that no drawing of a letter is in two parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from metric_learning.data import base, cuts
from metric_learning.data.sets import glyphs

# Those that all fonts have and `glyphs` has: F looks like another letter.
LETTERS = "ABCDEGHIJKLMNOPQRSTUVWXYZ"

# Of each part, the number of images and of fonts.
SIZES = ((2000, 10), (500, 3), (1000, 3))


def load(config: Any) -> base.Splits:
  """Loads the data set by split "fonts": 10 fonts train, 3 validate, 3 test.

  `config.split_seed` draws the fonts and the pairs.
  """
  cuts.check_split(config, {"fonts": 1})
  letters = base.subset(
    glyphs.stored(0), [glyphs.CHARACTERS.index(name) for name in LETTERS]
  )
  return split_by_font(letters, SIZES, config.split_seed)


def split_by_font(
  letters: base.Dataset, sizes: Sequence[tuple[int, int]], seed: int
) -> base.Splits:
  """Closed-set splits of pairs: of each part, the number of images and fonts.

  Image f of each letter is of font f.
  """
  fonts = np.random.default_rng(seed).permutation(sum(n for _, n in sizes))
  ends = np.cumsum([count for _, count in sizes])[:-1]
  parts = [
    pair_up(letters, np.sort(some), count, [seed, number])
    for number, ((count, _), some) in enumerate(
      zip(sizes, np.split(fonts, ends), strict=True)
    )
  ]
  return base.Splits(*parts, "closed-set")


def pair_up(
  letters: base.Dataset, fonts: Int[np.ndarray, "f"], count: int, seed: Any
) -> base.Dataset:
  """Images of two different letters side by side, each of one of the fonts.

  All of its `count` images differ.

  >>> images = np.uint8([10, 20, 11, 21]).reshape(4, 1, 1, 1)
  >>> letters = base.Dataset("ab", images, np.int32([0, 1, 0, 1]), ("a", "b"))
  >>> pairs = pair_up(letters, np.array([1]), 2, seed=0)
  >>> sorted(pairs.inputs.reshape(2, 2).tolist()), pairs.labels.tolist()
  ([[11, 21], [21, 11]], [[1, 1], [1, 1]])
  """
  classes = len(letters.class_names)
  drawings = np.stack(
    [np.flatnonzero(letters.labels == label)[fonts] for label in range(classes)]
  )
  shape = classes, len(fonts), classes - 1, len(fonts)
  drawn = np.random.default_rng(seed).choice(
    np.prod(shape), count, replace=False
  )
  left, left_font, further, right_font = np.unravel_index(drawn, shape)
  right = (left + 1 + further) % classes
  images = np.concatenate(
    [
      letters.inputs[drawings[left, left_font]],
      letters.inputs[drawings[right, right_font]],
    ],
    axis=2,
  )
  labels = np.zeros((count, classes), np.int32)
  labels[np.arange(count), left] = labels[np.arange(count), right] = 1
  return base.Dataset("glyph_pairs", images, labels, letters.class_names)
