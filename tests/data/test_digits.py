import numpy as np
from sklearn.datasets import load_digits

from metric_learning import data


def load(data_config, **changes):
  return data.load(data_config("digits", "images", "closed-set", **changes))


def test_parts_hold_every_digit_once(data_config):
  splits = load(data_config)
  parts = (splits.train, splits.validation, splits.test)
  images = np.concatenate([part.inputs for part in parts])
  labels = np.concatenate([part.labels for part in parts])
  assert images.shape == (1797, 8, 8, 1)
  pairs = sorted(zip(map(bytes, images), labels.tolist(), strict=True))
  known = load_digits()
  scaled = [bytes(int(v * 255 / 16 + 0.5) for v in row) for row in known.data]
  assert pairs == sorted(zip(scaled, known.target.tolist(), strict=True))


def test_parts_are_60_20_20_of_each_class(data_config):
  splits = load(data_config)
  total = np.bincount(load_digits().target)
  parts = (splits.train, splits.validation, splits.test)
  for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
    assert part.class_names == tuple("0123456789")
    assert np.all(np.abs(np.bincount(part.labels) - share * total) <= 1)


def test_split_seed_draws_the_parts(data_config):
  first, again = load(data_config), load(data_config)
  other = load(data_config, split_seed=1)
  np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
  assert bytes(first.test.inputs) != bytes(other.test.inputs)
