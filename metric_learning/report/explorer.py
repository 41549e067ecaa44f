"""A page to explore the embedding space of one run, or of two side by side.

The page draws a projection. Its nearest neighbors are those under the trained
metric: they are computed here, from the embeddings, not on the page.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from markupsafe import Markup

from metric_learning import evaluation
from metric_learning.errors import InputError, check_choice
from metric_learning.figures.projections import PROJECTIONS, quality
from metric_learning.figures.spaces import Space, read_space
from metric_learning.report.pages import squared, write_page
from metric_learning.report.retrieved import images_of
from metric_learning.training import run_files
from metric_learning.training.config import from_dict
from metric_learning.training.writers import kept_steps

# Of a larger part, a random sample of this size is shown, the same each time.
MOST_IMAGES = 10_000
# The number of neighbors of each image.
NEAREST = 12
# The most bytes of all pictures on a page, and the side lengths of a picture to
# try: the largest one that fits is used.
MOST_BYTES = 5_500_000
SIDES = (96, 64, 48, 32, 24)
# The most training steps that a page shows; a run may keep more.
MOST_STEPS = 20
# The number of pictures in a row of a sheet, and in a sheet.
_COLUMNS, _SHEET = 40, 1600


def write_explorer(
  path: str | Path,
  folders: Sequence[str | Path],
  *,
  part: str = "test",
  projections: Sequence[str] = ("as is", "pca", "tsne"),
  images: bool = True,
) -> Path:
  """Writes one HTML file that explores one or two finished runs.

  The projection "as is" is skipped for a space of more than two dimensions, if
  another projection is requested as well. Two runs must show the same images;
  the pictures come from the first run. Validation images move from step to step
  if the run kept its embeddings: see the writer `embeddings`.

  Raises:
    InputError: if a run has no embeddings, if its images cannot be read, if two
      runs show different images, if a projection is unknown or cannot draw the
      space, or if plotly is not installed.
  """
  for name in projections:
    check_choice("projection", name, PROJECTIONS)
  if not 1 <= len(folders) <= 2:
    given = len(folders)
    raise InputError(f"the explorer shows one or two runs, not {given}.")
  script = _plotly()
  spaces = [read_space(folder, part) for folder in folders]
  first = spaces[0]
  for folder, space in zip(folders, spaces, strict=True):
    if space.has_several_labels:
      raise InputError(
        f"{folder}: images have several labels, but the explorer needs one"
        " class for each image."
      )
    if not np.array_equal(space.labels, first.labels):
      raise InputError(
        f"{folder} and {folders[0]} embed different {part} images: give two"
        " runs on the same split of the same data set."
      )
  rows = drawn(len(first.labels))
  sprites = _sprites(Path(folders[0]), part, rows) if images else None
  names = dict(enumerate(map(first.name_of, range(first.labels.max() + 1))))
  data = {
    "part": part,
    "total": len(first.labels),
    "classes": list(names.values()),
    "labels": _code(first.labels[rows].astype(np.int32)),
    "sprites": sprites,
    "views": [
      _view(space, rows, projections)
      | {"moves": _moves(Path(folder), part, space, rows, projections)}
      for folder, space in zip(folders, spaces, strict=True)
    ],
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
      "the explorer needs plotly: pip install 'metric-learning[explore]'."
    ) from None
  return get_plotlyjs()


def drawn(count: int) -> Int[np.ndarray, " k"]:
  """Indices of the images to show: all, or a random sample of 10,000.

  >>> drawn(3).tolist(), len(drawn(20_000))
  ([0, 1, 2], 10000)
  """
  if count <= MOST_IMAGES:
    return np.arange(count)
  order = np.random.default_rng(0).permutation(count)
  return np.sort(order[:MOST_IMAGES])


def _view(
  space: Space, rows: Int[np.ndarray, " k"], projections: Sequence[str]
) -> dict[str, Any]:
  """The data of one run: its planes, and the neighbors of each image."""
  points, labels = space.embeddings[rows], space.labels[rows]
  k = min(NEAREST, len(points) - 1)
  indices, distances = evaluation.neighbors(
    points, points, k, metric=space.metric, exclude_self=True
  )
  planes = []
  for name in _fitting(space, projections):
    plane = PROJECTIONS[name].place(points, space.metric)
    scores = str(quality(points, plane, labels, space.metric))
    planes.append(
      {
        "name": name,
        "about": PROJECTIONS[name].about,
        "quality": scores.replace("\n", ", "),
        "points": _code(plane.astype(np.float32)),
      }
    )
  return {
    "title": space.title,
    "metric": space.metric,
    "nearest": k,
    "indices": _code(indices.astype(np.uint16)),
    "distances": _code(distances.astype(np.float32)),
    "planes": planes,
  }


def _fitting(space: Space, projections: Sequence[str]) -> list[str]:
  """The projections that can draw a space of this number of dimensions."""
  dim = space.embeddings.shape[1]
  fitting = [p for p in projections if dim <= (PROJECTIONS[p].most or dim)]
  if not fitting:
    raise InputError(
      f"{space.title} has {dim} dimensions, so a plane cannot show it as it is:"
      " choose another projection."
    )
  return fitting


def _moves(
  folder: Path,
  part: str,
  space: Space,
  rows: Int[np.ndarray, " k"],
  projections: Sequence[str],
) -> dict[str, Any] | None:
  """The places of the images at the steps that a run kept, on one plane.

  Returns None if the run kept no steps, or if no projection can place the
  embeddings of all steps on the same axes. Places are integers in multiples of
  `unit`, which is far smaller than a point on the page.
  """
  files = kept_steps(folder) if part == "validation" else {}
  following = [
    name for name in _fitting(space, projections) if PROJECTIONS[name].follow
  ]
  if not files or not following:
    return None
  name = following[0]
  follow = PROJECTIONS[name].follow
  assert follow is not None
  steps = thinned(list(files), MOST_STEPS)
  final = space.embeddings[rows]
  places = np.stack(
    [follow(final, _step(files[n], space)[rows]) for n in steps]
  )
  unit = float(np.abs(places).max()) / 32767 or 1.0
  result = run_files.read_json(folder / run_files.RESULT)
  return {
    "plane": name,
    "steps": steps,
    "selected": result["selected_step"],
    "unit": unit,
    "points": _code(np.rint(places / unit).astype(np.int16)),
  }


def thinned(steps: Sequence[int], most: int) -> list[int]:
  """At most `most` of the steps, evenly spaced, with the first and the last.

  >>> thinned([1, 2, 3, 4, 5], 3)
  [1, 3, 5]
  """
  places = np.linspace(0, len(steps) - 1, min(most, len(steps)))
  return [steps[i] for i in places.round().astype(int)]


def _step(path: Path, space: Space) -> Float[np.ndarray, "n d"]:
  with run_files.explained(path):
    points = np.load(path, allow_pickle=False)
  if points.shape != space.embeddings.shape:
    raise InputError(
      f"{path} has embeddings {points.shape}, but the run {space.title} has"
      f" {space.embeddings.shape}: delete the folder {path.parent.name}. Then"
      " train the run again, or explore it without the steps of training."
    )
  return points


def _code(array: Shaped[np.ndarray, "..."]) -> str:
  """The bytes of an array, little-endian, as text."""
  return base64.b64encode(
    array.astype(array.dtype.newbyteorder("<")).tobytes()
  ).decode()


def _sprites(
  folder: Path, part: str, rows: Int[np.ndarray, " k"]
) -> Mapping[str, Any]:
  """All pictures on a few sheets, in the largest size that fits on the page."""
  config = from_dict(run_files.read_json(folder / run_files.CONFIG))
  try:
    images = images_of(folder, config, part)
  except InputError as error:
    raise InputError(
      f"{error} Without pictures, it needs no images: --noimages."
    ) from error
  longest = max(images.shape[1:3])
  sides = [side for side in SIDES if side < longest]
  for side in [*([longest] if longest <= SIDES[0] else []), *sides]:
    sheets = []
    for start in range(0, len(rows), _SHEET):
      sheets.append(_sheet(images, rows[start : start + _SHEET], side))
      if sum(map(len, sheets)) > MOST_BYTES:
        break
    else:
      break
  if sum(map(len, sheets)) > MOST_BYTES:
    raise InputError(f"{len(rows)} pictures do not fit on a page: --noimages.")
  return {
    "side": side,
    "columns": _COLUMNS,
    "of_sheet": _SHEET,
    "sheets": sheets,
  }


def _sheet(images: Any, rows: Int[np.ndarray, " r"], side: int) -> str:
  from PIL import Image

  block = np.asarray(images[rows])
  size = (_COLUMNS * side, math.ceil(len(rows) / _COLUMNS) * side)
  sheet = Image.new("L" if block.shape[-1] == 1 else "RGB", size)
  for place, pixels in enumerate(block):
    row, column = divmod(place, _COLUMNS)
    sheet.paste(squared(pixels, side), (column * side, row * side))
  file = io.BytesIO()
  sheet.save(file, "WEBP", quality=75)
  return base64.b64encode(file.getvalue()).decode()
