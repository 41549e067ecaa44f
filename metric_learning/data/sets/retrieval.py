"""Four sets of retrieval, where half of the classes are tested.

`cub200`: Caltech-UCSD Birds, 11,788 photographs of 200 species.
`cars196`: Stanford Cars, 16,185 photographs of 196 models.
`sop`: Stanford Online Products, 120,053 photographs of 22,634 products.
`inshop`: DeepFashion In-shop, 52,712 photographs of 7,982 items of clothing.

Wah et al. 2011; Krause et al. 2013; Song et al. 2016; Liu et al. 2016.
"""

import functools
from typing import Any

import numpy as np

from metric_learning.data import base, cuts, prepared


def load(config: Any) -> base.Splits:
  """Loads one of the four sets by its split "official".

  CUB and Cars: the first half of the classes, by number, is for training, and
  the second half is tested. SOP and In-shop have official lists; the test
  images of In-shop are queries that search a gallery. A fifth of the training
  classes, drawn by `split_seed`, is for validation. With `stream`, the images
  stay on disk.
  """
  cuts.check_split(config, {"official": 1})
  read = functools.partial(prepared.read, config, stream=config.stream)
  if config.name == "sop":
    training, test = (read(part).dataset for part in ("train", "test"))
    return cuts.split_official(training, test, config.split_seed)
  if config.name == "inshop":
    training = read("train").dataset
    both, _, parts = read("query", "gallery")
    query, gallery = (
      base.select(both, np.flatnonzero(parts == part))
      for part in ("query", "gallery")
    )
    return cuts.split_official(training, query, config.split_seed, gallery)
  names = ("images",) if config.name == "cub200" else ("train", "test")
  whole = read(*names).dataset
  classes = np.arange(len(whole.class_names))
  training, test = (
    base.subset(whole, half) for half in np.array_split(classes, 2)
  )
  return cuts.split_official(training, test, config.split_seed)
