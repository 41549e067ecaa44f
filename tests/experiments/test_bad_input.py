"""Bad input: one clear message, exit status 2, nothing written or lost."""

import functools
import os
import re
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from metric_learning import InputError
from metric_learning.training import base_config
from tests.studies import change


def assert_refused(done, *said):
  lines = [line for line in done.stderr.splitlines() if line]
  assert done.returncode == 2, done.stderr
  assert len(lines) == 1, done.stderr
  assert lines[0].startswith("error: ")
  for words in said:
    assert words in lines[0]


def image_folder(folder, classes=8, images=4):
  rng = np.random.default_rng(0)
  for c in range(classes):
    (folder / f"class{c}").mkdir(parents=True)
    for i in range(images):
      pixels = rng.integers(0, 255, (20, 20), dtype=np.uint8)
      Image.fromarray(pixels).save(folder / f"class{c}" / f"{i}.png")
  return folder


DIGITS = "--config=configs/digits.py"
FOLDER = "--config=configs/image_folder.py"
SMALL = (
  "--config.batch.classes_per_batch=2",
  "--config.batch.images_per_class=2",
)


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    ((DIGITS, "--config.trian.steps=3"), ("'trian'", "did you mean 'train'")),
    (
      (DIGITS, "--config.loss.temperature=3"),
      ("config.loss", "'temperature'", "Known: half, margin, name"),
    ),
    (
      (DIGITS, "--config.metric=l1"),
      ("config.metric is a section", "config.metric.name"),
    ),
    (
      (DIGITS, "--config.study.reference=metric.name=l2"),
      ("config.study.reference is a section", "reference.metric.name='l2'"),
    ),
    ((DIGITS, "--config.train.steps=many"), ("config.train.steps", "many")),
    (("--config=configs/digits.py:tripplet",), ("'triplet'", "Known:")),
    (
      (DIGITS, "--config.metric.name=l3"),
      ("'l3'", "Known: angular, cosine, dot, l1"),
    ),
    ((DIGITS, "--config.data.name=digit"), ("'digits'", "Known:")),
    ((DIGITS, "--config.loss.margin=-1"), ("margin", "at least 0", "-1")),
    ((DIGITS, "--config.batch.classes_per_batch=11"), ("11", "10")),
    # The names bring their own options, so that only the metric is wrong.
    (
      (
        *(DIGITS, "--config.model.name=conv4", "--config.loss.name=cosface"),
        "--config.metric.name=l2",
      ),
      ("cosface", "'l2'"),
    ),
    ((DIGITS, "--config.batch.images_per_class=500"), ("500",)),
    (("--config=configs/digit.py",), ("configs/digit.py",)),
    ((DIGITS, "--workdri=x"), ("workdri", "workdir")),
    ((FOLDER,), ("data_dir",)),
    (
      (FOLDER, "--config.loss.margin=1"),
      ("'margin'", "fields of supcon", "set config.loss.name first"),
    ),
    # Flags of what is named are known, before the name and after it.
    (
      (
        *(FOLDER, "--config.loss.margin=1", "--config.loss.name=contrastive"),
        *("--config.model.name", "mlp", "--config.model.hidden=(8,)"),
      ),
      ("data_dir",),
    ),
    (
      (FOLDER, "--config.loss.name=contrastive", "--config.loss.temperature=1"),
      ("'temperature'", "fields of contrastive"),
    ),
    ((FOLDER, "--config.data.data_dir=/no/such/folder"), ("/no/such/folder",)),
  ],
)
def test_arguments(run, arguments, said, tmp_path):
  workdir = tmp_path / "run"
  assert_refused(run(*arguments, f"--workdir={workdir}"), *said)
  assert not workdir.exists()


MINE = """
from metric_learning.training import base_config


def get_config(section):
  config = base_config()
  if section == "metric":
    config.metric = "l1"
  if section == "head":
    config.optimizer.head = 0.1
  if section == "ranges":
    config.tune.ranges = ("margin=0:2",)
  return config
"""


@pytest.mark.parametrize(
  ("section", "said"),
  [
    ("metric", "config.metric is a section: set a field of it, such as"),
    ("head", "config.optimizer.head is a section"),
    ("ranges", "such as config.tune.ranges.margin=(0.0, 2.0, False)."),
  ],
)
def test_a_file_that_sets_a_section_as_a_text(monkeypatch, section, said):
  """The same refusal as on the command line."""
  module = types.ModuleType("mine")
  exec(MINE, module.__dict__)
  monkeypatch.setattr(cli, "_module_at", lambda path: module)
  with pytest.raises(InputError) as error:
    cli._ConfigParser().parse(f"mine.py:{section}")
  assert said in str(error.value)


def test_a_module_that_a_flag_names_is_imported_first(monkeypatch, tmp_path):
  (tmp_path / "enters_a_score.py").write_text("ENTERED = True\n")
  monkeypatch.syspath_prepend(tmp_path)
  flag = "--config.imports=('enters_a_score',)"
  monkeypatch.setattr(sys, "argv", ["train", flag])
  config = cli._with_flags(base_config().lock())
  assert sys.modules.pop("enters_a_score").ENTERED
  assert config.is_locked


def test_a_fault_of_a_config_file_keeps_its_place(run, tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config():\n  return int('of mine')\n")
  done = run(f"--config={path}", f"--workdir={tmp_path / 'run'}")
  assert done.returncode == 1
  for words in (f"{path} cannot be loaded", "return int('of mine')"):
    assert words in done.stderr


def empty(folder):
  folder.mkdir()
  return folder, str(folder)


def truncated(folder):
  path = image_folder(folder) / "class3" / "2.png"
  path.write_bytes(path.read_bytes()[:60])
  return folder, "class3/2.png"


def one_image(folder):
  for path in sorted((image_folder(folder) / "class5").iterdir())[1:]:
    path.unlink()
  return folder, "class5"


@pytest.mark.parametrize("spoil", [empty, truncated, one_image])
def test_image_folders(run, spoil, tmp_path):
  folder, said = spoil(tmp_path / "images")
  done = run(
    FOLDER,
    *SMALL,
    f"--config.data.data_dir={folder}",
    f"--workdir={tmp_path / 'run'}",
  )
  assert_refused(done, said)
  assert not (tmp_path / "run").exists()


def test_a_corrupt_zip(run, tmp_path):
  path = tmp_path / "att_faces.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("s1/1.pgm", b"P5 92 112 255 " + bytes(92 * 112))
  path.write_bytes(path.read_bytes()[:-30])
  done = run(
    "--config=configs/att_faces.py",
    f"--config.data.data_dir={tmp_path}",
    f"--workdir={tmp_path / 'run'}",
  )
  assert_refused(done, str(path))
  assert not (tmp_path / "run").exists()


def test_workdirs(run, tmp_path):
  quick = (
    DIGITS,
    "--config.train.steps=2",
    "--config.train.eval_every=2",
    "--config.train.save_every=2",
  )
  workdir = tmp_path / "run"
  first = run(*quick, f"--workdir={workdir}")
  assert first.returncode == 0, first.stderr
  before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
  other = run(*quick, "--config.seed=5", f"--workdir={workdir}")
  assert_refused(other, "another config", "seed (0 there, 5 now)")
  assert before == {
    p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()
  }
  (tmp_path / "file").write_text("in the way")
  blocked = run(*quick, f"--workdir={tmp_path / 'file' / 'run'}")
  assert_refused(blocked, "cannot be written", "file/run")


def set_home(folder):
  os.environ["HOME"] = folder


def test_a_home_is_found_behind_an_equals_sign(run, tmp_path):
  home = functools.partial(set_home, str(tmp_path))
  (tmp_path / "file").write_text("in the way")
  shutil.copy("configs/digits.py", tmp_path / "mine.py")
  blocked = run("--config=~/mine.py", "--workdir=~/file/run", prepare=home)
  assert_refused(blocked, "cannot be written", f"{tmp_path}/file/run")
  missing = run("--study=~/study", script="report", prepare=home)
  assert_refused(missing, f"{tmp_path}/study")


def test_every_flag_that_is_a_path_is_defined_as_one():
  texts = {
    name
    for path in Path("experiments").rglob("*.py")
    for name in re.findall(r'DEFINE_string\(\s*"(\w+)"', path.read_text())
  }
  names = {"commit", "dataset", "launcher", "model", "population", "sweep"}
  names |= {"network", "only", "pair"}
  assert texts == names


def test_studies(run, tmp_path):
  sweep = run(DIGITS, "--sweep=loses", script="sweep")
  assert_refused(sweep, "'losses'")
  for flag, known in (("launcher", "ray"), ("population", "auto")):
    options = (DIGITS, "--sweep=losses", f"--{flag}=no", f"--study={tmp_path}")
    assert_refused(run(*options, script="sweep"), "'no'", known)
  flag = "--config.study.reference.loss.name=triplt"
  other = run(DIGITS, "--sweep=losses", flag, script="sweep")
  assert_refused(other, "loss.name in config.study.reference", "'triplet'")
  seeds = run(DIGITS, "--sweep=losses", "--seeds=2", script="sweep")
  assert_refused(seeds, "2 seeds are asked, but the sweep has 1.")
  report = run(f"--study={tmp_path}", script="report")
  assert_refused(report, str(tmp_path), "experiments.sweep")


def test_a_strict_report_names_the_runs_that_are_stale(write_study, run):
  rows = [({"seed": seed}, 0.5) for seed in (0, 1)]
  folder = write_study(rows)
  change(folder / "runs" / "seed=1" / "config.json", seed=7)
  done = run(f"--study={folder}", "--strict", script="report")
  assert_refused(done, "1 runs", "seed=1", "Delete their folders")
  assert done.stdout.startswith("device: 1 x cpu\n")
  assert "STALE" in (folder / "table.md").read_text()


def test_tuning(run, tmp_path):
  study = f"--study={tmp_path / 'study'}"
  empty = run(
    DIGITS, study, "--config.tune.ranges.margin=(2, 1, False)", script="tune"
  )
  assert_refused(empty, "config.tune.ranges.margin=(2, 1, False) is empty")
  # Its rows have margins and seeds, which are for tuning.
  whole = run(DIGITS, study, "--sweep=losses", script="tune")
  assert whole.returncode == 2
  first, *rest = whole.stderr.splitlines()
  assert first == "error: 2 errors in the rows:"
  for line, field in zip(rest, ("loss.margin", "seed"), strict=True):
    assert f" and 3 more: {field} is" in line
  assert not (tmp_path / "study").exists()
  (tmp_path / "file").write_text("no journal")
  other = run(DIGITS, study, f"--storage={tmp_path / 'file'}", script="tune")
  assert_refused(other, "file is not a journal file")


SCRIPTS = {
  "train": ("--config", "--workdir", "--[no]test"),
  "sweep": ("--config", "--sweep", "--study", "--launcher", "--population"),
  "tune": ("--config", "--sweep", "--study", "--storage", "--launcher"),
  "report": ("--study", "--[no]strict"),
  "prepare": ("--dataset", "--data_dir", "--manual_dir"),
  "weights": ("--weights", "--model", "--out"),
  "features": ("--config", "--out", "--views", "--batch_size"),
  "benchmarks.speed": ("--suite", "--output", "--json", "--n"),
  "benchmarks.parity": ("--output", "--golden", "--seeds"),
  "benchmarks.datasets": ("--sets", "--steps", "--seeds", "--runs"),
  "benchmarks.accelerator": ("--[no]tiny", "--budget_s", "--parts"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_complete(run, script):
  done = run("--help", script=script)
  for words in (f"python -m experiments.{script}", *SCRIPTS[script]):
    assert words in done.stdout
