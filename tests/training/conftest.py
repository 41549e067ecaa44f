"""What the tests of training share."""

import pytest

from metric_learning import data
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def splits():
  return data.load(tiny_config().data)
