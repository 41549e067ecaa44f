import subprocess
import sys

import pytest

from metric_learning import data
from metric_learning.errors import InputError


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"name": "digit"}, "unknown data set 'digit'; did you mean 'digits'"),
    ({"split": "image"}, "split of digits 'image'; did you mean 'images'"),
    ({"protocol": "closed"}, "unknown protocol 'closed'; did you mean"),
    ({"protocol": "open-set"}, "'images' of digits is closed-set, but"),
    ({"fold": 2}, "fold 2 of digits, split 'images': the folds are 0 only"),
    ({"image_size": (4,)}, r"image_size=\(4,\): .* two positive integers"),
    ({"image_size": (4, 0)}, r"image_size=\(4, 0\)"),
    ({"image_size": (4, 2.5)}, r"image_size=\(4, 2\.5\)"),
    ({"image_size": (4, True)}, r"image_size=\(4, True\)"),
    ({"image_size": (4, 4, 1)}, r"image_size=\(4, 4, 1\)"),
    ({"image_size": 28}, "image_size=28"),
  ],
)
def test_config_that_cannot_be_used(data_config, changes, message):
  fields = {"name": "digits", "split": "images", "protocol": "closed-set"}
  with pytest.raises(InputError, match=message):
    data.load(data_config(**(fields | changes)))


def test_image_size_resizes_all_parts(data_config):
  config = data_config("digits", "images", "closed-set", image_size=(4, 2))
  native = data.load(data_config("digits", "images", "closed-set"))
  small = data.load(config)
  for old, new in (
    (native.train, small.train),
    (native.validation, small.validation),
    (native.test, small.test),
  ):
    mean = old.inputs.reshape(-1, 4, 2, 2, 4, 1).mean(axis=(2, 4))
    assert new.inputs.shape == mean.shape
    assert abs(new.inputs - mean).max() <= 0.5
    assert (new.labels == old.labels).all()


@pytest.mark.slow
def test_import_is_light():
  program = (
    "import sys, metric_learning.data as d; "
    "print({'matplotlib', 'sklearn', 'PIL', 'scipy'} & {*sys.modules})"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "set()"
