"""`pairs_csv`: explicit pairs of images, with a label or a similarity.

For `sampler="pairs"`, with `pair_bce`, `pair_regression` and other pair losses.
Scores are those of verification.
"""

import csv
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from metric_learning.data import base, cuts, files, imaging
from metric_learning.errors import InputError

FILES = ("train.csv", "validation.csv", "test.csv")
# A table program writes 1.0 if a value of the column was missing.
SAME = {"1": True, "1.0": True, "true": True} | dict.fromkeys(
  ("0", "0.0", "false"), False
)
_DELIMITERS = ",;\t"


def load(config: Any) -> base.Splits:
  """Loads `data_dir/train.csv`, `validation.csv` and `test.csv`."""
  cuts.check_split(config, {"files": 1})
  root = files.data_path(config, f"a folder of {', '.join(FILES)}")
  parts = {
    name: read_pairs(
      root / name,
      tuple(config.image_size),
      config.background,
      short_side=imaging.short_side_of(config),
    )
    for name in FILES
  }
  shapes = {name: part.input_spec.shape for name, part in parts.items()}
  if len(set(shapes.values())) > 1 and not config.image_size:
    raise InputError(
      f"{root}: height, width and channels differ between the files: {shapes}; "
      "set image_size=(height, width) to resize all, and to give gray ones "
      "three channels."
    )
  channels = max(shape[2] for shape in shapes.values())
  train, validation, test = (_with(channels, parts[name]) for name in FILES)
  return base.Splits(train, validation, test, "open-set")


def _with(channels: int, part: base.Dataset) -> base.Dataset:
  """Gives gray images the channels of the color images of other files."""
  shape = (*part.inputs.shape[:3], channels)
  return dataclasses.replace(part, inputs=np.broadcast_to(part.inputs, shape))


def read_pairs(
  path: str | pathlib.Path,
  size: tuple[int, ...] = (),
  background: int = 255,
  short_side: int | None = None,
) -> base.Dataset:
  """Reads a CSV file with the columns `first`, `second` and a target.

  `first` and `second` are image files, relative to the folder of the CSV file;
  an image of several pairs is read once. The target is `same` (1 or 0, true or
  false) or `similarity` (a number from 0 to 1). Other columns are ignored.
  Commas, semicolons or tabs separate values; capitals and spaces around values
  do not matter.

      first,second,same
      ann/1.png,ann/2.png,1
      ann/1.png,bob/1.png,0

  Args:
    path: the CSV file, in UTF-8. An `InputError` names the first wrong line.
    size: (height, width) to which the images are resized; () if they agree.
    background: the gray level, 0 to 255, that transparent pixels show.
    short_side: as in `imaging.read_images`.
  """
  path = pathlib.Path(path).expanduser()
  target, rows = read_rows(path)
  indices: dict[pathlib.Path, int] = {}
  pairs, values = [], []
  for line, row in rows:
    where = f"{path}, line {line}"
    pair = []
    for side in ("first", "second"):
      image = _image_path(path.parent, row[side], where)
      pair.append(indices.setdefault(image, len(indices)))
    pairs.append(pair)
    values.append(target_of(target, row, where))
  first, second = np.array(pairs, np.int32).T
  images = imaging.read_images(indices, size, background, short_side)
  return base.Dataset(
    "pairs_csv",
    images,
    np.arange(len(images), dtype=np.int32),
    tuple(f"{path.name}: image {number}" for number in range(len(images))),
    pairs=base.Pairs(
      first,
      second,
      np.array(values, bool) if target == "same" else None,
      np.array(values, np.float32) if target == "similarity" else None,
    ),
    short_side=short_side,
  )


def read_rows(
  path: pathlib.Path, *, needs_target: bool = True
) -> tuple[str, list[tuple[int, dict]]]:
  """The name of the target, and (line, row) of each pair.

  The name is "" if there is no target and none is needed. Raises `InputError`
  with the first wrong line.
  """
  files.check_regular(path)
  try:
    # Spreadsheets write a byte order mark before the first column.
    with path.open(encoding="utf-8-sig", newline="") as file:
      header = file.readline()
      file.seek(0)
      reader = csv.DictReader(
        file,
        strict=True,
        delimiter=max(_DELIMITERS, key=header.count),
        skipinitialspace=True,
      )
      columns = [name.strip().lower() for name in reader.fieldnames or []]
      reader.fieldnames = columns
      rows = [(reader.line_num, row) for row in reader]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise InputError(f"cannot read the pairs {path}: {error}.") from error
  targets = [name for name in _TARGETS if name in columns]
  twice = [name for name in columns if columns.count(name) > 1]
  if twice and {*twice} & {"first", "second", *targets}:
    raise InputError(f"{path} has the column {twice[0]} twice; keep one.")
  allowed = (1,) if needs_target else (0, 1)
  if not {"first", "second"} <= {*columns} or len(targets) not in allowed:
    raise InputError(
      f"{path} has the columns {', '.join(columns) or '(none)'}; it takes "
      f"first, second, and {'' if needs_target else 'at most '}one of same and"
      " similarity, in its first line."
    )
  if not rows:
    raise InputError(f"{path} holds no pairs.")
  for line, row in rows:
    # Surplus values are under the key None.
    if None in row or not all(
      row[name] for name in ("first", "second", *targets)
    ):
      raise InputError(
        f"{path}, line {line}: it takes one value in each of the columns "
        f"{', '.join(columns)}."
      )
  return "".join(targets), rows


def target_of(target: str, row: dict, where: str) -> bool | float:
  """The target of a row; raises an `InputError` that gives the place."""
  return _TARGETS[target](row[target], where)


def _image_path(folder: pathlib.Path, name: str, where: str) -> pathlib.Path:
  image = folder / name.strip()
  if not image.is_file():
    raise InputError(f"{where}: there is no image {image}.")
  return image


def _same(text: str, where: str) -> bool:
  value = SAME.get(text.strip().lower())
  if value is None:
    raise InputError(f"{where}: same={text!r}; it takes 1 or 0, true or false.")
  return value


def _similarity(text: str, where: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 <= value <= 1:
    raise InputError(
      f"{where}: similarity={text!r}; it takes a number from 0 to 1."
    )
  return value


_TARGETS = {"same": _same, "similarity": _similarity}
