"""`glyphs`: letters of many scripts, drawn with the typefaces of matplotlib.

An open-set data set that needs no download. The classes are 382 letters and
digits; each of 16 fonts gives one image of a letter, and most letters are
unseen in training. Scripts are the super-classes. Each image has its own affine
jitter, which causes most of the difficulty: without it, the nearest image by
raw pixels is of the same letter nine times in ten; with it, four times in ten.
A network learns to undo the jitter, and to ignore weight, slant and serifs.
"""

import hashlib
import importlib.metadata
import math
import pathlib
import platform
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from metric_learning.data import base, cache, cuts

SIZE = 24
SCALE = 0.7  # the longest side of a letter before jitter, in sides of an image

# Chosen by experiments/choose_glyphs.py: all letters and digits that at least
# 12 of the fonts have, without those that look like an earlier one.
CHARACTERS = (
  "0123456789ABCDEGHIJKLMNOPQRSTUVWXYZabdefghjkmnqrtuyÆØÞßæðþđıĸŁŊŒœƁƄƆƇƊƋƎƏƐƑ"
  "ƒƓƔƕƖƛƜƝƢƣƤƦƧƩƪƫƭƮƱƲƳƷƸƺƼƾƿǀǁǂǝǶȜȡȤȴȵȶȷȸȹȺȻȽȾȿɀɁɄɍɐɑɒɕɖɗɘɚɜɝɞɟɠɤɥɧɨɪɬɭɮɯɰɱ"
  "ɲɳɴɶɷɸɹɺɻɼɾɿʀʁʂʃʄʅʆʇʈʍʎʏʐʑʓʔʕʖʗʚʛʜʝʞʟʠʣʤʥʦʧʨʩʪʫʬʭʮʯΓΔΞΦΨΩαβγδζλμνξπςσφχ"
  "ωϗϘϚϛϝϞϟϠϡϺϻϼЂЉЊЋЏДЖИЛУЧШЩЪЫЬЮЯбфщђћѢѣѪѴҐҒҔҖҘҚҢҤҪҬҲҺӃӇӋӶԱԲԳԴԵԶԷԸԹԺԻԽԾԿ"
  "ՀՁՂՃՄՅՆՇՈՉՊՌՎՏՐՒՔՖդէթիլխծկձճմշչջվփֆაბგდეზთიკლმნოპჟრსტუფქღყშჩცძწჭჯჰჱჲჳჴჵ"
  "ჶჸჹჺᴈᴉᴔᴖᴗᴝᴞᴟᶅⱤⱮⱵⱷꞋꞐꞑꞪ"
)

FONTS = (
  *("DejaVuSans", "DejaVuSans-Oblique"),
  *("DejaVuSans-Bold", "DejaVuSans-BoldOblique"),
  *("DejaVuSerif", "DejaVuSerif-Italic"),
  *("DejaVuSerif-Bold", "DejaVuSerif-BoldItalic"),
  *("DejaVuSansMono", "DejaVuSansMono-Oblique"),
  *("DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
  *("STIXGeneral", "STIXGeneralItalic"),
  *("STIXGeneralBol", "STIXGeneralBolIta"),
)

# The edges of an outline: two ends each, in any unit.
Edges = Float[np.ndarray, "e 2 2"]


def outlines(characters: str) -> Iterator[tuple[int, int, Edges]]:
  """Yields (index of the character, index of the font, outline).

  The box of an outline is centered on 0, and its longest side is 1. Characters
  that a font lacks are left out.
  """
  import matplotlib
  from matplotlib import ft2font

  folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
  for font_index, name in enumerate(FONTS):
    font = ft2font.FT2Font(str(folder / f"{name}.ttf"))
    font.set_size(font.units_per_EM, 72)  # one unit of the font is one point
    for index, character in enumerate(characters):
      if font.get_char_index(ord(character)):
        font.load_char(ord(character), flags=ft2font.LoadFlags.NO_HINTING)
        yield index, font_index, _centered(_edges(*font.get_path()))


def _edges(
  vertices: Float[np.ndarray, "v 2"], codes: UInt8[np.ndarray, " v"]
) -> Edges:
  """Cuts a path of lines and quadratic curves into straight edges."""
  move, line, curve, close = 1, 2, 3, 79
  lines = np.flatnonzero(codes == line)
  closes = np.flatnonzero(codes == close)
  moves = np.flatnonzero(codes == move)
  controls = np.flatnonzero(codes == curve)[::2]  # the end of a curve follows
  t = np.linspace(0, 1, 7)[:, None, None]  # six pieces per curve
  points = (
    (1 - t) ** 2 * vertices[controls - 1]
    + 2 * t * (1 - t) * vertices[controls]
    + t**2 * vertices[controls + 1]
  )
  pieces = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
  return np.concatenate(
    [
      np.stack([vertices[lines - 1], vertices[lines]], axis=1),
      np.stack([vertices[closes - 1], vertices[moves]], axis=1),
      pieces,
    ]
  )


def _centered(edges: Edges) -> Edges:
  low, high = edges.min(axis=(0, 1)), edges.max(axis=(0, 1))
  return (edges - (low + high) / 2) / (high - low).max()


def rasterize(
  edges: Edges, size: int, grid: int = 64
) -> UInt8[np.ndarray, "{size} {size}"]:
  """Fills an outline by the non-zero winding rule: 255 inside, 0 outside.

  The image spans −½ to ½ on both axes, with y upwards and 4×4 samples per
  pixel. Vertices are rounded to 1/`grid` pixel, a multiple of 8. The rest is
  integer arithmetic, so that every processor draws the same image.

  >>> low, high, middle = -0.5, 0.5, 0.0
  >>> corners = [(low, low), (middle, low), (middle, high), (low, high)]
  >>> left_half = np.array([*zip(corners, corners[1:] + corners[:1])])
  >>> rasterize(left_half, 2)
  array([[255,   0],
         [255,   0]], dtype=uint8)
  """
  samples, spacing = 4 * size, grid // 4
  vertices = np.rint((edges * [1, -1] + 0.5) * (size * grid)).astype(np.int64)
  vertices -= spacing // 2  # sample i is now at i · spacing
  (x0, y0), (x1, y1) = np.moveaxis(vertices, 0, 2)
  above = np.arange(samples) * spacing >= np.stack([y0, y1])[..., None]
  edge, row = np.nonzero(above[0] != above[1])
  x0, y0, dx, dy = x0[edge], y0[edge], (x1 - x0)[edge], (y1 - y0)[edge]
  # The edge crosses the row at x₀ + (y − y₀) dx / dy. It winds once more around
  # each sample to the right of that point.
  crossing = (x0 * dy + (row * spacing - y0) * dx) // (dy * spacing)
  turns = np.zeros((samples, samples + 1), np.int64)
  np.add.at(turns, (row, np.clip(crossing + 1, 0, samples)), np.sign(dy))
  inside = turns.cumsum(axis=1)[:, :-1] != 0
  covered = inside.reshape(size, 4, size, 4).sum(axis=(1, 3))
  return np.minimum(16 * covered, 255).astype(np.uint8)


def jitter(edges: Edges, key: list[int]) -> Edges:
  """Scales, shears, rotates and shifts an outline at random, fixed by `key`.

  All uniform: log-scale of each axis ±0.20, shear ±0.25, rotation ±0.25 rad,
  shift along each axis ±6 % of the image.
  """
  rng = np.random.default_rng(key)
  angle, shear = rng.uniform(-0.25, 0.25, 2)
  width, height = map(math.exp, rng.uniform(-0.2, 0.2, 2))
  shift = rng.uniform(-0.06, 0.06, 2)
  cos, sin = math.cos(angle), math.sin(angle)
  rotation = np.array([[cos, -sin], [sin, cos]])
  affine = rotation @ [[1, shear], [0, 1]] @ np.diag([width, height])
  return edges @ affine.T + shift


def draw(seed: int = 0) -> base.Dataset:
  """Draws the data set: one image of each letter in each font that has it.

  5,395 images of 382 classes, 12 to 16 per class, in about 4 s.
  """
  images, labels = [], []
  for label, font, edges in outlines(CHARACTERS):
    key = [seed, ord(CHARACTERS[label]), font]  # images are independent
    images.append(rasterize(jitter(SCALE * edges, key), SIZE))
    labels.append(label)
  return base.Dataset(
    "glyphs",
    np.stack(images)[..., None],
    np.array(labels, np.int32),
    tuple(CHARACTERS),
    tuple(map(script, CHARACTERS)),
  )


def script(character: str) -> str:
  """The writing system of a character; digits are a system of their own.

  >>> script("Ж"), script("7")
  ('CYRILLIC', 'DIGIT')
  """
  return unicodedata.name(character).split()[0]


def split_by_script(dataset: base.Dataset, seed: int) -> base.Splits:
  """Open-set splits that test scripts unseen in training.

  Test: Armenian and Georgian. Validation: 20 % of the other classes, by `seed`.
  """
  unseen = np.array(
    [script(name) in ("ARMENIAN", "GEORGIAN") for name in dataset.class_names]
  )
  seen = np.random.default_rng(seed).permutation(np.flatnonzero(~unseen))
  validation, train = np.split(seen, [round(0.2 * len(seen))])
  return cuts.split_by_class(
    dataset, (train, validation, np.flatnonzero(unseen))
  )


SPLITS = {"random": cuts.random_classes, "scripts": split_by_script}


def load(config: Any) -> base.Splits:
  """Loads the data set, drawn with seed 0, by split "random" or "scripts"."""
  cuts.check_split(config, dict.fromkeys(SPLITS, 1))
  return SPLITS[config.split](stored(0), config.split_seed)


def recipe_of(*sources: str) -> str:
  """A digest of everything that decides how letters are drawn.

  It covers this source file and the given ones, the version of matplotlib, and
  the kind of processor.
  """
  code = b"".join(
    pathlib.Path(source).read_bytes() for source in (__file__, *sources)
  )
  version = f"{importlib.metadata.version('matplotlib')} {platform.machine()}"
  return hashlib.sha256(code + version.encode()).hexdigest()[:16]


def stored(seed: int) -> base.Dataset:
  """Returns `draw(seed)`, drawn once on each machine and then stored.

  Another `recipe_of` draws it again.
  """
  recipe = recipe_of()

  def build() -> cache.Arrays:
    dataset = draw(seed)
    return {"images": np.asarray(dataset.inputs), "labels": dataset.labels}

  arrays = cache.cached(f"glyphs-{seed}-{recipe}", build)
  scripts = tuple(map(script, CHARACTERS))
  return base.Dataset(
    "glyphs", arrays["images"], arrays["labels"], tuple(CHARACTERS), scripts
  )
