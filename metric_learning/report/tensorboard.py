"""Pictures of a finished run for TensorBoard: figures, and its projector."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from metric_learning.errors import InputError
from metric_learning.figures import FIGURES, read_space, style
from metric_learning.report.explorer import drawn
from metric_learning.report.pages import squared
from metric_learning.report.retrieved import images_of
from metric_learning.training import run_files
from metric_learning.training.config import from_dict
from metric_learning.training.writers import TENSORBOARD

# In the folder of the writer, so that they are made again at once.
PICTURES = "pictures"
# TensorBoard shows no larger sheet of images than this, in pixels.
_WIDEST = 8192
_SIDE = 64


def write_pictures(folder: str | Path) -> Path:
  """Adds what the writer `tensorboard` cannot know while a run trains.

  Figures of its validation embeddings at the selected checkpoint, and these as
  a projection to explore, each with its class and its image, where it has one.

  Raises:
    InputError: for a run without embeddings.
  """
  from tensorboardX import SummaryWriter

  folder = Path(folder)
  space = read_space(folder, "validation")
  step = run_files.read_json(folder / run_files.RESULT)["selected_step"] or 0
  place = folder / TENSORBOARD / PICTURES
  shutil.rmtree(place, ignore_errors=True)
  writer = SummaryWriter(str(place))
  for name, drawing in FIGURES.items():
    if drawing.takes == "spaces":
      figure = drawing.draw([space], "validation")
      if figure is not None:
        writer.add_image(
          f"validation/{name}", _pixels(figure), step, dataformats="HWC"
        )
  if not space.has_several_labels:
    kept = drawn(len(space.labels))
    writer.add_embedding(
      space.embeddings[kept],
      metadata=[space.name_of(label) for label in space.labels[kept]],
      label_img=_sprites(folder, kept),
      global_step=step,
      tag="validation",
    )
  writer.close()
  return place


@style.styled
def _pixels(figure: Any) -> UInt8[np.ndarray, "h w c"]:
  from PIL import Image

  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=120)
  return np.asarray(Image.open(file).convert("RGB"))


def _sprites(
  folder: Path, kept: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k 3 side side"] | None:
  """Square images from 0 to 1, or None of features and of what is gone."""
  config = from_dict(run_files.read_json(folder / run_files.CONFIG))
  try:
    images = images_of(folder, config, "validation")
  except InputError:
    return None
  widest = _WIDEST // int(np.ceil(np.sqrt(len(kept))))
  side = min(_SIDE, widest, max(images.shape[1:3]))
  block = [
    np.asarray(squared(pixels, side).convert("RGB"))
    for pixels in np.asarray(images[kept])
  ]
  return np.moveaxis(np.stack(block), -1, 1) / 255
