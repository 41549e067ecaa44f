"""Animations of embedding spaces while they are trained."""

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
# How long the last frame stays, in milliseconds.
_LAST_FRAME = 2500


@styled
def moving_maps(
  path: str | Path, frames: Sequence[Sequence[Space]], words: Sequence[str]
) -> Path:
  """Writes an animated WebP file of two-dimensional spaces, side by side.

  Each frame has one space for each run, and its entry of `words` as a heading.
  The axis limits of a run come from its last frame, with a small border, and
  are the same in all frames: earlier points may lie outside.

  Raises:
    InputError: if a space does not have two dimensions.
  """
  for space in frames[0]:
    if space.embeddings.shape[1] != 2:
      raise InputError(
        f"{space.title} has {space.embeddings.shape[1]} dimensions. An"
        " animation shows embeddings of two dimensions as they are: train with"
        " config.model.embedding_dim=2."
      )
  limits = [square(space.embeddings) for space in frames[-1]]
  images = [
    _frame(spaces, text, limits)
    for spaces, text in zip(frames, words, strict=True)
  ]
  from PIL import Image

  first, *others = map(Image.fromarray, images)
  file = io.BytesIO()
  first.save(
    file,
    "WEBP",
    save_all=True,
    append_images=others,
    duration=[MILLISECONDS] * len(others) + [_LAST_FRAME],
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
