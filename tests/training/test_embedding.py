"""A run embeds other items from its checkpoints."""

import dataclasses
import shutil

import numpy as np
import pytest

from metric_learning import InputError, data
from metric_learning.training import run_files, train
from metric_learning.training.checkpoints import steps_in
from metric_learning.training.embedding import embed_run
from tests.tiny import tiny_config

# The rate is so large that the last checkpoint is no better than the first.
CONFIG = tiny_config(
  train__steps=20,
  train__eval_every=2,
  train__save_every=2,
  optimizer__learning_rate=0.3,
)
FILES = (run_files.EMBEDDINGS, run_files.SELECTED_EMBEDDINGS)


@pytest.fixture(scope="module")
def splits():
  return data.load(CONFIG.data)


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
  """A run with checkpoints and without embeddings."""
  folder = tmp_path_factory.mktemp("runs") / "kept"
  train(CONFIG, folder, splits=splits, embeddings=False)
  return folder


@pytest.fixture
def run(trained, tmp_path):
  """A copy of that run, which a test may change."""
  return shutil.copytree(trained, tmp_path / "run")


def test_embeddings_from_checkpoints_are_those_of_a_run_that_writes_them(
  run, splits, tmp_path
):
  result = train(CONFIG, tmp_path / "single", splits=splits)
  assert result["selected_step"] < result["steps"]
  assert not any((run / name).exists() for name in FILES)
  embed_run(CONFIG, run, splits)
  for name in FILES:
    one, other = (
      run_files.read_arrays(folder / name)
      for folder in (run, tmp_path / "single")
    )
    assert one.keys() == other.keys()
    for key, array in one.items():
      np.testing.assert_array_equal(array, other[key])


def test_only_the_last_and_the_selected_checkpoint_are_kept(trained):
  result = run_files.read_json(trained / run_files.RESULT)
  kept = {*steps_in(trained / "checkpoints")}
  assert kept == {result["selected_step"], result["steps"]}


def test_what_is_embedded_is_left_as_it_is(run, splits):
  embed_run(CONFIG, run, splits)
  shutil.rmtree(run / "checkpoints")
  before = (run / run_files.EMBEDDINGS).stat().st_mtime_ns
  embed_run(CONFIG, run, splits)
  assert (run / run_files.EMBEDDINGS).stat().st_mtime_ns == before


def test_other_data_is_refused(run, splits):
  fewer = data.select(splits.test, np.arange(300))
  with pytest.raises(
    InputError, match=r"on other data: test .*360.*300 images"
  ):
    embed_run(CONFIG, run, dataclasses.replace(splits, test=fewer))
  assert not (run / run_files.EMBEDDINGS).exists()


def test_a_checkpoint_that_is_gone_or_damaged_is_named(run, splits):
  step = run_files.read_json(run / run_files.RESULT)["selected_step"]
  (run / "checkpoints" / f"{step}.safetensors").write_bytes(b"")
  with pytest.raises(
    InputError, match=f"checkpoint {step} is damaged.* Delete"
  ):
    embed_run(CONFIG, run, splits)
  shutil.rmtree(run / "checkpoints")
  with pytest.raises(
    InputError, match=f"not have the checkpoint of step {step}"
  ):
    embed_run(CONFIG, run, splits)
