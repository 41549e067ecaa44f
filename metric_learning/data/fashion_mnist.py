"""`fashion_mnist`: 70,000 gray 28×28 pictures of ten kinds of clothes.

Xiao, Rasul and Vollgraf, 2017 (arXiv 1708.07747). On Debian the files come with
`apt-get install dataset-fashion-mnist`.
"""

import pathlib
from typing import Any

import numpy as np

from metric_learning.data import base, files
from metric_learning.errors import InputError

DEBIAN = "/usr/share/datasets/fashion-mnist"

CLASS_NAMES = (
  *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
  *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

# Five halves of the classes, drawn once; each is used in both directions.
HALVES = (
  (2, 3, 4, 6, 7),
  (0, 2, 3, 6, 9),
  (0, 4, 5, 8, 9),
  (2, 4, 5, 6, 7),
  (0, 1, 2, 7, 8),
)


def load(config: Any, seed: int = 0) -> base.Splits:
  """Loads the pictures by split "closed" or "halves" (ten folds).

  "closed": the official training and test images; a tenth of the training
  images of each class, drawn by `split_seed`, is for validation. "halves": five
  classes are tested, on official test images; of the other five, two, drawn by
  (`split_seed`, fold), are for validation and three for training. Fold 2i
  tests the i-th half of the classes, fold 2i + 1 the rest.
  """
  del seed  # nothing is drawn
  base.check_split(config, {"closed": 1, "halves": 2 * len(HALVES)})
  training, test = read(_folder(config))
  if config.split == "closed":
    validation, train = base.share_of_each_class(
      training.labels, [0.1], config.split_seed
    )
    return base.Splits(
      base.select(training, np.sort(train)),
      base.select(training, np.sort(validation)),
      test,
      "closed-set",
    )
  half, reverse = divmod(config.fold, 2)
  rest = np.setdiff1d(np.arange(10), HALVES[half])
  seen, unseen = (HALVES[half], rest) if reverse else (rest, HALVES[half])
  seen = np.random.default_rng([config.split_seed, config.fold]).permutation(
    seen
  )
  return base.Splits(
    base.subset(training, np.sort(seen[2:])),
    base.subset(training, np.sort(seen[:2])),
    base.subset(test, unseen),
    "open-set",
  )


def read(folder: pathlib.Path) -> tuple[base.Dataset, base.Dataset]:
  """Reads the official training and test images from the four IDX files."""
  return _read_part(folder, "train"), _read_part(folder, "t10k")


def _read_part(folder: pathlib.Path, part: str) -> base.Dataset:
  image_path = _idx_path(folder, f"{part}-images-idx3-ubyte")
  label_path = _idx_path(folder, f"{part}-labels-idx1-ubyte")
  images, labels = files.read_idx(image_path), files.read_idx(label_path)
  if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
    raise InputError(
      f"{image_path} holds an array {images.shape} and {label_path} one "
      f"{labels.shape}; they must be (n, height, width) and (n,) with the same "
      "n. Fetch both again."
    )
  if labels.size and labels.max() > 9:
    raise InputError(
      f"{label_path} holds the label {labels.max()}; there are ten classes, "
      "0 to 9. Fetch it again."
    )
  return base.Dataset(
    "fashion_mnist", images[..., None], labels.astype(np.int32), CLASS_NAMES
  )


def _folder(config: Any) -> pathlib.Path:
  if not config.data_dir and pathlib.Path(DEBIAN).is_dir():
    return pathlib.Path(DEBIAN)
  return files.data_path(
    config,
    "the folder of train-images-idx3-ubyte.gz and its three companions (on "
    "Debian, `apt-get install dataset-fashion-mnist` and leave data_dir empty)",
  )


def _idx_path(folder: pathlib.Path, name: str) -> pathlib.Path:
  for path in (folder / name, folder / f"{name}.gz"):
    if path.is_file():
      return path
  raise InputError(f"{folder} holds neither {name} nor {name}.gz.")
