"""MNIST and two sets of its format.

`mnist`: 70,000 gray images of ten handwritten digits, 28×28.
`fashion_mnist`: 70,000 gray images of ten kinds of clothes, 28×28.
`kmnist`: 70,000 gray images of ten cursive Hiragana characters, 28×28.

LeCun, Bottou, Bengio and Haffner, 1998; Xiao, Rasul and Vollgraf, 2017 (arXiv
1708.07747); Clanuwat et al., 2018 (arXiv 1812.01718).
"""

import pathlib
from typing import Any

import numpy as np

from metric_learning.data import base, cuts, files
from metric_learning.data.sets import idx
from metric_learning.errors import InputError

DEBIAN = "/usr/share/datasets/fashion-mnist"

CLASS_NAMES = {
  "mnist": tuple("0123456789"),
  "fashion_mnist": (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
  ),
  "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}

SOURCES = {
  "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
  "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist; on "
  "Debian, `apt-get install dataset-fashion-mnist` and leave data_dir empty",
  "kmnist": "http://codh.rois.ac.jp/kmnist/",
}

# Five divisions of the classes into halves, drawn once; each half is tested.
HALVES = (
  (2, 3, 4, 6, 7),
  (0, 2, 3, 6, 9),
  (0, 4, 5, 8, 9),
  (2, 4, 5, 6, 7),
  (0, 1, 2, 7, 8),
)


def load(config: Any) -> base.Splits:
  """Loads the set `config.name` by split "closed" or "halves" (ten folds).

  "closed": the official training and test images. A tenth of the training
  images of each class, drawn by `split_seed`, is for validation. "halves": five
  classes are tested, on official test images. Of the other five, two, drawn by
  (`split_seed`, fold), are for validation, and three are for training. Fold 2i
  tests the i-th half of the classes, and fold 2i + 1 the other half.
  """
  cuts.check_split(config, {"closed": 1, "halves": 2 * len(HALVES)})
  training, test = read(config)
  if config.split == "closed":
    return cuts.closed_parts(training, test, config)
  half, reverse = divmod(config.fold, 2)
  rest = np.setdiff1d(np.arange(10), HALVES[half])
  seen, unseen = (HALVES[half], rest) if reverse else (rest, HALVES[half])
  train, validation = cuts.hold_out_fifth(
    np.asarray(seen), [config.split_seed, config.fold]
  )
  return cuts.split_parts(training, test, (train, validation, np.array(unseen)))


def read(config: Any) -> tuple[base.Dataset, base.Dataset]:
  """Reads the official training and test images from the four IDX files."""
  folder = _folder(config)
  training = _read_part(config.name, folder, "train")
  return training, _read_part(config.name, folder, "t10k")


def _read_part(name: str, folder: pathlib.Path, part: str) -> base.Dataset:
  label_path = _idx_path(folder, f"{part}-labels-idx1-ubyte")
  image_path = _idx_path(folder, f"{part}-images-idx3-ubyte")
  images, labels = idx.read_files(image_path, label_path)
  if labels.size and labels.max() > 9:
    raise InputError(
      f"{label_path} holds the label {labels.max()}, but the ten classes are "
      "0 to 9. Fetch it again."
    )
  return base.Dataset(name, images, labels.astype(np.int32), CLASS_NAMES[name])


def _folder(config: Any) -> pathlib.Path:
  debian = pathlib.Path(DEBIAN)
  if config.name == "fashion_mnist" and not config.data_dir and debian.is_dir():
    return debian
  return files.data_path(
    config,
    "the folder of train-images-idx3-ubyte.gz and its three companions, from "
    f"{SOURCES[config.name]}",
  )


def _idx_path(folder: pathlib.Path, name: str) -> pathlib.Path:
  for path in (folder / name, folder / f"{name}.gz"):
    if path.is_file():
      return path
  raise InputError(f"{folder} holds neither {name} nor {name}.gz.")
