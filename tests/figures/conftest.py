"""Embeddings, runs and studies for figures, without training."""

import pytest

from metric_learning.figures import Space
from tests.studies import clusters
from tests.tiny import tiny_config


@pytest.fixture
def make_space():
  def make(title="triplet, l2", seed=0, **options):
    shape = {
      name: options.pop(name)
      for name in ("classes", "images", "dim", "spread")
      if name in options
    }
    return Space(title, *clusters(seed, **shape), **options)

  return make


@pytest.fixture
def run_folder(write_run, tmp_path):
  """One run of the contrastive loss, margin 0.7, recorded as 1.4 absolute."""
  config = tiny_config(
    loss__name="contrastive", loss__margin=0.7, metric__name="l1"
  )
  return write_run(tmp_path / "run", config)
