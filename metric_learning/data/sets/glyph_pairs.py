"""`glyph_pairs`: images of two letters side by side, which have both labels.

A data set of items with several labels that needs no download. The letters are
Latin capitals, which are drawn anew for each image, with the jitter of
`glyphs`. Training, validation and test use different fonts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metric_learning.data import base, cache, cuts
from metric_learning.data.sets import glyphs

# The capitals of `glyphs`, which lacks F because another letter looks like it.
LETTERS = "ABCDEGHIJKLMNOPQRSTUVWXYZ"

# The numbers of images and of fonts for training, validation and test.
SIZES = ((3000, 10), (500, 3), (1000, 3))

# The outline of a letter, by its index, in a font.
Outlines = Mapping[tuple[int, int], glyphs.Edges]


def load(config: Any) -> base.Splits:
  """Loads the data set by split "fonts": parts of 10, 3 and 3 fonts.

  `config.split_seed` draws the fonts, the letters and their jitter. The set is
  drawn once on each machine (about 8 s), and then stored.
  """
  cuts.check_split(config, {"fonts": 1})
  seed = config.split_seed

  def build() -> cache.Arrays:
    outlines = {(k, f): edges for k, f, edges in glyphs.outlines(LETTERS)}
    parts = draw_parts(outlines, LETTERS, SIZES, seed)
    return {
      f"{kind}{number}": getattr(part, kind)
      for number, part in enumerate(parts)
      for kind in ("inputs", "labels")
    }

  recipe = glyphs.recipe_of(__file__)
  arrays = cache.cached(f"glyph_pairs-{seed}-{recipe}", build)
  train, validation, test = (
    base.Dataset(
      "glyph_pairs", arrays[f"inputs{i}"], arrays[f"labels{i}"], tuple(LETTERS)
    )
    for i in range(len(SIZES))
  )
  return base.Splits(train, validation, test, "closed-set")


def draw_parts(
  outlines: Outlines,
  letters: Sequence[str],
  sizes: Sequence[tuple[int, int]],
  seed: int,
) -> list[base.Dataset]:
  """Parts with different fonts; `sizes` has the numbers of images and fonts."""
  fonts = np.random.default_rng(seed).permutation(sum(n for _, n in sizes))
  ends = np.cumsum([count for _, count in sizes])[:-1]
  return [
    draw(outlines, letters, own.tolist(), count, [seed, number])
    for number, ((count, _), own) in enumerate(
      zip(sizes, np.split(fonts, ends), strict=True)
    )
  ]


def draw(
  outlines: Outlines,
  letters: Sequence[str],
  fonts: Sequence[int],
  count: int,
  key: list[int],
) -> base.Dataset:
  """Images of two different letters, each in one of the fonts, fixed by a key.

  Letters and fonts are drawn uniformly.
  """
  rng = np.random.default_rng(key)
  labels = np.zeros((count, len(letters)), np.int32)
  images = []
  for number, label in enumerate(labels):
    pair = rng.choice(len(letters), 2, replace=False)
    label[pair] = 1
    halves = []
    for side, letter in enumerate(pair.tolist()):
      edges = outlines[letter, fonts[int(rng.integers(len(fonts)))]]
      moved = glyphs.jitter(glyphs.SCALE * edges, [*key, number, side])
      halves.append(glyphs.rasterize(moved, glyphs.SIZE))
    images.append(np.concatenate(halves, axis=1)[..., None])
  return base.Dataset("glyph_pairs", np.stack(images), labels, tuple(letters))
