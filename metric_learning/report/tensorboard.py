"""Adds the figures and embeddings of a finished run to TensorBoard."""

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

# The folder of pictures inside that of the writer, which can be deleted and
# written again without losing the log.
PICTURES = "pictures"
# The largest side of a sheet of images that TensorBoard shows, in pixels.
_WIDEST = 8192
_SIDE = 64


def write_pictures(folder: str | Path) -> Path:
  """Adds the pictures that exist only once a run is finished.

  These are figures of the validation embeddings at the selected checkpoint, and
  the embeddings themselves for the projector, with classes and images. Features
  have no images.

  Raises:
    InputError: if the run has no embeddings.
  """
  from tensorboardX import SummaryWriter

  folder = Path(folder)
  space = read_space(folder, "validation")
  step = run_files.read_json(folder / run_files.RESULT)["selected_step"] or 0
  target = folder / TENSORBOARD / PICTURES
  shutil.rmtree(target, ignore_errors=True)
  writer = SummaryWriter(str(target))
  for name, drawing in FIGURES.items():
    if drawing.takes == "spaces":
      figure = drawing.draw([space], "validation")
      if figure is not None:
        writer.add_image(
          f"validation/{name}", _pixels(figure), step, dataformats="HWC"
        )
  if not space.has_several_labels:
    rows = drawn(len(space.labels))
    writer.add_embedding(
      space.embeddings[rows],
      metadata=[space.name_of(label) for label in space.labels[rows]],
      label_img=_sprites(folder, rows),
      global_step=step,
      tag="validation",
    )
  writer.close()
  return target


@style.styled
def _pixels(figure: Any) -> UInt8[np.ndarray, "h w c"]:
  from PIL import Image

  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=120)
  return np.asarray(Image.open(file).convert("RGB"))


def _sprites(
  folder: Path, rows: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "k 3 side side"] | None:
  """Square images with values from 0 to 1; None if they cannot be read."""
  config = from_dict(run_files.read_json(folder / run_files.CONFIG))
  try:
    images = images_of(folder, config, "validation")
  except InputError:
    return None
  widest = _WIDEST // int(np.ceil(np.sqrt(len(rows))))
  side = min(_SIDE, widest, max(images.shape[1:3]))
  block = [
    np.asarray(squared(pixels, side).convert("RGB"))
    for pixels in np.asarray(images[rows])
  ]
  return np.moveaxis(np.stack(block), -1, 1) / 255
