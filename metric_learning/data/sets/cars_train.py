"""`cars_train`: the 8,144 training images of Stanford Cars, 196 models.

Krause, Stark, Deng and Fei-Fei, 3D object representations for fine-grained
categorization, 2013. The archive holds cropped images, with a shorter side of
at most 144 pixels. A few images occur twice, under two classes. The archive is
half of the set: scores are not comparable with published ones.
"""

import re
from typing import Any

from metric_learning.data import base, cuts
from metric_learning.data.sets import zipped

IMAGES = 8_144


def load(config: Any) -> base.Splits:
  """Loads the cars by "official", "classes", "half", "folds" or "images".

  "official" is "half": a fifth of classes 1 to 98, drawn by `split_seed`,
  is for validation, and the others are for training; classes 99 to 196 are
  tested.
  """
  cuts.check_split(config, cuts.CUTS | {"official": 1})
  dataset = read(config)
  if config.split == "official":
    return cuts.half_classes(dataset, config.split_seed)
  return cuts.cut(dataset, config)


def read(config: Any) -> base.Dataset:
  """Reads `<class 001 to 196>/<image 00001 to 08144>.jpg`.

  Raises:
    InputError: for missing images; without `image_size`, since image sizes
      differ.
  """
  root = zipped.root_of(config, "cars_train.zip", "001")
  found = [
    name
    for name in zipped.names_in(root)
    if re.fullmatch(r"\d{3}/\d{5}\.jpg", name)
  ]
  wanted = [f"{number:05d}.jpg" for number in range(1, IMAGES + 1)]
  present = [name.split("/")[1] for name in found]
  zipped.check_present(config, root, wanted, present)
  classes = sorted({name.split("/")[0] for name in found})
  return zipped.read(config, root, found, classes)
