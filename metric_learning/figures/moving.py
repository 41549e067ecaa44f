"""Spaces that change while they are trained, as a picture that moves."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from metric_learning.errors import InputError
from metric_learning.figures.maps import scatter, square
from metric_learning.figures.spaces import Space
from metric_learning.figures.style import heading, panels, styled
from metric_learning.training import run_files

MILLISECONDS = 120
# How long the last frame stays.
_REST = 2500


@styled
def moving_maps(
  path: str | Path, frames: Sequence[Sequence[Space]], words: Sequence[str]
) -> Path:
  """Writes a WebP file of spaces of two dimensions, side by side.

  Each frame has one space of each run, and its words as a heading. A run has
  the same limits in all frames, those of its last one with some air: a point
  may come from outside.

  Raises:
    InputError: for spaces of more than two dimensions.
  """
  for space in frames[0]:
    if space.embeddings.shape[1] != 2:
      raise InputError(
        f"{space.title} has {space.embeddings.shape[1]} dimensions, and a"
        " picture that moves shows embeddings as they are: train with"
        " config.model.embedding_dim=2."
      )
  limits = [square(space.embeddings) for space in frames[-1]]
  images = [
    _frame(spaces, said, limits)
    for spaces, said in zip(frames, words, strict=True)
  ]
  from PIL import Image

  first, *others = map(Image.fromarray, images)
  file = io.BytesIO()
  first.save(
    file,
    "WEBP",
    save_all=True,
    append_images=others,
    duration=[MILLISECONDS] * len(others) + [_REST],
    loop=0,
    quality=60,
    method=4,
  )
  path = Path(path)
  run_files.make_folder(path.absolute().parent)
  run_files.write_atomically(path, lambda f: f.write(file.getvalue()))
  return path


def _frame(
  spaces: Sequence[Space],
  words: str,
  limits: Sequence[dict[str, tuple[float, float]]],
) -> Shaped[np.ndarray, "h w 3"]:
  from PIL import Image

  titles = [space.title for space in spaces]
  figure, axes = panels(titles, height=3.2, columns=len(spaces))
  for axis, space, limit in zip(axes, spaces, limits, strict=True):
    scatter(axis, space.embeddings, space.labels, space)
    axis.set(box_aspect=1, xticks=[], yticks=[], **limit)
    axis.spines[:].set(visible=True, color="0.7")
  heading(figure, words)
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=100)
  return np.asarray(Image.open(file).convert("RGB"))
