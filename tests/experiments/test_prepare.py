"""The commands about data sets."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
  return subprocess.run(
    [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )


def test_prepare_says_which_file_it_misses(tmp_path):
  (tmp_path / "mine").mkdir()
  done = run(
    "prepare",
    "--dataset=omniglot",
    f"--data_dir={tmp_path / 'out'}",
    f"--manual_dir={tmp_path / 'mine'}",
  )
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  for words in (
    "error: ",
    "images_background.zip",
    "https://github.com/brendenlake/omniglot/raw/master/python/"
    "images_evaluation.zip",
  ):
    assert words in line


def test_data_page_has_counts_baselines_and_a_trained_row(tmp_path):
  done = run(
    "data",
    "--sets=digits",
    "--steps=2",
    f"--runs={tmp_path / 'runs'}",
    f"--output={tmp_path / 'data.md'}",
  )
  assert done.returncode == 0, done.stderr
  page = (tmp_path / "data.md").read_text()
  for words in (
    "| digits | train | 10 | 1,078 | 8×8 |",
    "| digits | test | 10 | 360 | 8×8 |",
    "| raw pixels |",
    "| PCA-2 of pixels |",
    "| untrained mlp |",
    "| contrastive, mlp |",
    "closed-set",
  ):
    assert words in page


def test_data_page_of_an_unknown_set_lists_the_sets(tmp_path):
  done = run("data", "--sets=digit", f"--output={tmp_path / 'data.md'}")
  assert done.returncode == 2
  assert "no config 'digit'. Known: att_faces," in done.stderr
  assert not list(tmp_path.iterdir())
