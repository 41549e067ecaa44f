"""Spaces, runs and studies without training."""

import pytest

from metric_learning.figures import Space
from metric_learning.study import make_rows
from metric_learning.study.references import cells_of
from metric_learning.study.runner import claim_study
from tests.figures.synthetic import clusters, write_run
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
def run_folder(tmp_path):
  """One run of the contrastive loss, margin 0.7, recorded as 1.4 absolute."""
  config = tiny_config(loss__name="contrastive", loss__margin=0.7, metric="l1")
  return write_run(tmp_path / "run", config)


@pytest.fixture
def write_study(tmp_path):
  """Writes a study from flat overrides, each with the score of its run."""

  def write(scored, config=None, diverged=(), missing=()):
    config = config or tiny_config()
    folder = tmp_path / "study"
    rows = make_rows(config, [overrides for overrides, _ in scored])
    folder.mkdir()
    claim_study(folder, config, rows, cells_of(rows), {})
    (folder / "baselines.json").write_text("[]")
    for index, (row, (_, score)) in enumerate(zip(rows, scored, strict=True)):
      if index not in missing:
        where = folder / "runs" / row.name
        write_run(where, row.config, score, index, index in diverged)
    return folder

  return write
