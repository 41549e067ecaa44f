"""The embedding space of a run, or of two side by side, as a page to explore.

Neighbors are those under the trained metric, worked out here and not on the
page, whose plane is a projection.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from markupsafe import Markup

from metric_learning import evaluation
from metric_learning.errors import InputError, check_choice
from metric_learning.figures.projections import PROJECTIONS, quality
from metric_learning.figures.spaces import Space, read_space
from metric_learning.report.pages import write_page
from metric_learning.report.retrieved import images_of
from metric_learning.training import run_files
from metric_learning.training.config import from_dict

# More images than these are drawn by lot, the same each time.
MOST_IMAGES = 10_000
# Neighbors of each image.
NEAREST = 12
# Bytes of all pictures on a page, and sides that they may have: the largest
# with which they fit is taken.
MOST_BYTES = 6_500_000
SIDES = (96, 64, 48, 32, 24)
# Pictures in a row, and in a sheet, of which there may be several.
_COLUMNS, _SHEET = 40, 1600


def write_explorer(
  path: str | Path,
  folders: Sequence[str | Path],
  *,
  part: str = "test",
  projections: Sequence[str] = ("as is", "pca", "tsne"),
  images: bool = True,
) -> Path:
  """Writes one HTML file that explores one finished run, or two.

  "as is" is left out of what has more than two dimensions, if another
  projection is asked for. Of several runs, the pictures are those of the
  first: they show one part of one data set.

  Raises:
    InputError: for a run without embeddings, pictures that are gone, runs of
      other images, an unknown projection; and without plotly.
  """
  for name in projections:
    check_choice("projection", name, PROJECTIONS)
  if not 1 <= len(folders) <= 2:
    raise InputError(f"one run, or two side by side; not {len(folders)}.")
  script = _plotly()
  spaces = [read_space(folder, part) for folder in folders]
  first = spaces[0]
  for folder, space in zip(folders, spaces, strict=True):
    if space.has_several_labels:
      raise InputError(
        f"{folder}: its images have several labels, and the explorer shows the"
        " one class of each."
      )
    if not np.array_equal(space.labels, first.labels):
      raise InputError(
        f"{folder} and {folders[0]} embed other {part} images: give two runs"
        " on one split of one data set."
      )
  shown = drawn(len(first.labels))
  sprites = _sprites(Path(folders[0]), part, shown) if images else None
  names = dict(enumerate(map(first.name_of, range(first.labels.max() + 1))))
  data = {
    "part": part,
    "total": len(first.labels),
    "classes": list(names.values()),
    "labels": _code(first.labels[shown].astype(np.int32)),
    "sprites": sprites,
    "views": [_view(space, shown, projections) for space in spaces],
  }
  path = Path(path)
  run_files.make_folder(path.absolute().parent)
  title = " and ".join(Path(folder).name for folder in folders)
  return write_page(
    path, "explorer.html", title=title, data=data, plotly=Markup(script)
  )


def _plotly() -> str:
  try:
    from plotly.offline import get_plotlyjs
  except ImportError:
    raise InputError(
      "the explorer draws by plotly: pip install 'metric-learning[explore]'."
    ) from None
  return get_plotlyjs()


def drawn(count: int) -> Int[np.ndarray, " k"]:
  """Indices of the images that are shown: all, or 10,000 by lot.

  >>> drawn(3).tolist(), len(drawn(20_000))
  ([0, 1, 2], 10000)
  """
  if count <= MOST_IMAGES:
    return np.arange(count)
  lot = np.random.default_rng(0).permutation(count)
  return np.sort(lot[:MOST_IMAGES])


def _view(
  space: Space, shown: Int[np.ndarray, " k"], projections: Sequence[str]
) -> dict[str, Any]:
  """One run: its planes, and the nearest of each image."""
  points, labels = space.embeddings[shown], space.labels[shown]
  k = min(NEAREST, len(points) - 1)
  indices, distances = evaluation.neighbors(
    points, points, k, metric=space.metric, exclude_self=True
  )
  dim = points.shape[1]
  fitting = [p for p in projections if dim <= (PROJECTIONS[p].most or dim)]
  if not fitting:
    raise InputError(
      f"{space.title} has {dim} dimensions, which no plane shows as they are:"
      " choose another projection."
    )
  planes = []
  for name in fitting:
    plane = PROJECTIONS[name].place(points, space.metric)
    judged = str(quality(points, plane, labels, space.metric))
    planes.append(
      {
        "name": name,
        "about": PROJECTIONS[name].about,
        "quality": judged.replace("\n", ", "),
        "points": _code(plane.astype(np.float32)),
      }
    )
  return {
    "title": space.title,
    "metric": space.metric,
    "nearest": k,
    "indices": _code(indices.astype(np.int32)),
    "distances": _code(distances.astype(np.float32)),
    "planes": planes,
  }


def _code(array: Shaped[np.ndarray, "..."]) -> str:
  """The bytes of an array, little-endian, as text."""
  return base64.b64encode(
    array.astype(array.dtype.newbyteorder("<")).tobytes()
  ).decode()


def _sprites(
  folder: Path, part: str, shown: Int[np.ndarray, " k"]
) -> Mapping[str, Any]:
  """All pictures on a few sheets, as large as the page has room for."""
  config = from_dict(run_files.read_json(folder / run_files.CONFIG))
  try:
    images = images_of(folder, config, part)
  except InputError as error:
    raise InputError(
      f"{error} Put them where they were, or leave pictures out: --noimages."
    ) from error
  longest = max(images.shape[1:3])
  sides = [side for side in SIDES if side < longest]
  for side in [*([longest] if longest <= SIDES[0] else []), *sides]:
    sheets = []
    for start in range(0, len(shown), _SHEET):
      sheets.append(_sheet(images, shown[start : start + _SHEET], side))
      if sum(map(len, sheets)) > MOST_BYTES:
        break
    else:
      break
  if sum(map(len, sheets)) > MOST_BYTES:
    raise InputError(f"{len(shown)} pictures do not fit on a page: --noimages.")
  return {
    "side": side,
    "columns": _COLUMNS,
    "of_sheet": _SHEET,
    "sheets": sheets,
  }


def _sheet(images: Any, rows: Int[np.ndarray, " r"], side: int) -> str:
  from PIL import Image

  block = np.asarray(images[rows])
  gray = block.shape[-1] == 1
  size = (_COLUMNS * side, math.ceil(len(rows) / _COLUMNS) * side)
  sheet = Image.new("L" if gray else "RGB", size)
  for place, pixels in enumerate(block):
    picture = Image.fromarray(pixels.squeeze())
    picture.thumbnail((side, side))
    # In the middle of its square.
    left = (side - picture.width) // 2
    top = (side - picture.height) // 2
    row, column = divmod(place, _COLUMNS)
    sheet.paste(picture, (column * side + left, row * side + top))
  file = io.BytesIO()
  sheet.save(file, "WEBP", quality=75)
  return base64.b64encode(file.getvalue()).decode()
