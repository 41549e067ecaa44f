"""`cub100`: 5,902 photographs of 100 of the 200 bird species of CUB, 227×227.

Wah et al., Caltech-UCSD Birds-200-2011. These are not the first 100 species:
scores are not comparable with those published for CUB.
"""

from typing import Any

from metric_learning.data import base, cuts, files
from metric_learning.data.sets import zipped
from metric_learning.errors import InputError

_LIST = "images.txt"


def load(config: Any) -> base.Splits:
  """Loads the birds by "official", "classes", "half", "folds" or "images".

  "official" is "half": species are sorted by name. Of the first half, a fifth,
  drawn by `split_seed`, is for validation, and the others are for training; the
  second half is tested.
  """
  cuts.check_split(config, cuts.CUTS | {"official": 1})
  dataset = read(config)
  if config.split == "official":
    return cuts.half_classes(dataset, config.split_seed)
  return cuts.cut(dataset, config)


def read(config: Any) -> base.Dataset:
  """Reads `images/<species>/<image>.jpg`, for all images in images.txt.

  Raises:
    InputError: for a missing images.txt or image.
  """
  root = zipped.root_of(config, "cub100.zip", _LIST)
  if not (root / _LIST).exists():
    raise InputError(
      f"{root} lacks {_LIST}: set config.data.data_dir to cub100.zip, or to its"
      f" unpacked folder, which holds {_LIST} and images."
    )
  with files.reading(str(root / _LIST)):
    lines = (root / _LIST).read_text(encoding="utf-8").splitlines()
  names = [line.partition(",")[2].strip() for line in lines]
  if not all(name.count("/") == 1 for name in names):
    wrong = next(i for i, name in enumerate(names) if name.count("/") != 1)
    raise InputError(
      f"{root / _LIST}, line {wrong + 1}: {lines[wrong]!r} is not '<number>,"
      f" <species>/<image>'; {files.FETCH_AGAIN}."
    )
  species = sorted({name.split("/")[0] for name in names})
  return zipped.read(
    config, root, [f"images/{name}" for name in sorted(names)], species
  )
