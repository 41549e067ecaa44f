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

# More images than these are drawn by lot, the same each time.
MOST_IMAGES = 10_000
# Neighbors of each image.
NEAREST = 12
# Bytes of all pictures on a page, and sides that they may have: the largest
# with which they fit is taken.
MOST_BYTES = 5_500_000
SIDES = (96, 64, 48, 32, 24)
# Steps of training that a page shows, of as many as a run kept.
MOST_STEPS = 20
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
  first: they show one part of one data set. Validation images move, step by
  step, where the run kept them: see the writer `embeddings`.

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
  kept = drawn(len(first.labels))
  sprites = _sprites(Path(folders[0]), part, kept) if images else None
  names = dict(enumerate(map(first.name_of, range(first.labels.max() + 1))))
  data = {
    "part": part,
    "total": len(first.labels),
    "classes": list(names.values()),
    "labels": _code(first.labels[kept].astype(np.int32)),
    "sprites": sprites,
    "views": [
      _view(space, kept, projections)
      | {"moves": _moves(Path(folder), part, space, kept, projections)}
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
  space: Space, kept: Int[np.ndarray, " k"], projections: Sequence[str]
) -> dict[str, Any]:
  """One run: its planes, and the nearest of each image."""
  points, labels = space.embeddings[kept], space.labels[kept]
  k = min(NEAREST, len(points) - 1)
  indices, distances = evaluation.neighbors(
    points, points, k, metric=space.metric, exclude_self=True
  )
  planes = []
  for name in _fitting(space, projections):
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
    "indices": _code(indices.astype(np.uint16)),
    "distances": _code(distances.astype(np.float32)),
    "planes": planes,
  }


def _fitting(space: Space, projections: Sequence[str]) -> list[str]:
  """The projections that take as many dimensions as a space has."""
  dim = space.embeddings.shape[1]
  fitting = [p for p in projections if dim <= (PROJECTIONS[p].most or dim)]
  if not fitting:
    raise InputError(
      f"{space.title} has {dim} dimensions, which no plane shows as they are:"
      " choose another projection."
    )
  return fitting


def _moves(
  folder: Path,
  part: str,
  space: Space,
  kept: Int[np.ndarray, " k"],
  projections: Sequence[str],
) -> dict[str, Any] | None:
  """Places of the images at the steps that a run kept, on one plane.

  None where it kept none, or no projection has the axes of one step for all.
  Places are whole numbers of `unit`, which is far less than a point's size.
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
  final = space.embeddings[kept]
  places = np.stack(
    [follow(final, _step(files[n], space)[kept]) for n in steps]
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
  """At most as many of some steps, evenly chosen, the first and last of them.

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
      f"{path} has embeddings {points.shape}, and the run {space.title} has"
      f" {space.embeddings.shape}: delete the folder {path.parent.name} and"
      " train the run again, or explore it without."
    )
  return points


def _code(array: Shaped[np.ndarray, "..."]) -> str:
  """The bytes of an array, little-endian, as text."""
  return base64.b64encode(
    array.astype(array.dtype.newbyteorder("<")).tobytes()
  ).decode()


def _sprites(
  folder: Path, part: str, kept: Int[np.ndarray, " k"]
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
    for start in range(0, len(kept), _SHEET):
      sheets.append(_sheet(images, kept[start : start + _SHEET], side))
      if sum(map(len, sheets)) > MOST_BYTES:
        break
    else:
      break
  if sum(map(len, sheets)) > MOST_BYTES:
    raise InputError(f"{len(kept)} pictures do not fit on a page: --noimages.")
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
