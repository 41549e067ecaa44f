"""`digits`: 1,797 handwritten digits of 8×8 pixels that scikit-learn ships.

Closed-set only: training on five of the ten digits makes the other five harder
to tell apart, not easier.
"""

from typing import Any

import numpy as np

from metric_learning.data import base, cuts


def load(config: Any) -> base.Splits:
  """Loads the digits by split "images": 60, 20 and 20 % of each class."""
  from sklearn.datasets import load_digits

  cuts.check_split(config, {"images": 1})
  digits = load_digits()
  dataset = base.Dataset(
    "digits",
    np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None],
    digits.target.astype(np.int32),
    tuple("0123456789"),
  )
  return cuts.random_images(dataset, config.split_seed)
