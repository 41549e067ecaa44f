"""The commands that fetch and prepare data sets."""

import functools
import os
import signal
import types

from metric_learning.data import archives, prepared
from tests.data import stand_ins

PARTS = {"images": 30}  # of the stand-in of cub200


def describe(folder):
  """Describes the stand-in in the table of sets of another process."""
  entry = stand_ins.described("cub200", folder, PARTS)
  archives.ARCHIVES["cub200"] = entry


def describe_and_kill(folder):
  """The same, with `kill -9` after 7 of the 30 images."""
  describe(folder)
  read = archives.examples

  def killed(*arguments):
    for i, example in enumerate(read(*arguments)):
      if i == 7:
        os.kill(os.getpid(), signal.SIGKILL)
      yield example

  archives.examples = killed


def images_below(folder):
  config = types.SimpleNamespace(name="cub200", data_dir=str(folder))
  found = prepared.examples(config, "images")
  return [(some.name, some.class_name, some.read_bytes()) for some in found]


def test_killed_half_way_starts_clean(run, tmp_path, monkeypatch):
  source = stand_ins.make("cub200", tmp_path / "archives", monkeypatch)
  target = tmp_path / "out"
  flags = ["--dataset=cub200", f"--manual_dir={source}", f"--data_dir={target}"]
  prepare = functools.partial(run, *flags, script="prepare")
  done = prepare(prepare=functools.partial(describe_and_kill, source))
  assert done.returncode == -signal.SIGKILL
  place = prepared.prepared_folder("cub200", str(target))
  assert not place.exists()
  assert list(place.parent.glob("incomplete.*"))  # it was under way
  done = prepare(prepare=functools.partial(describe, source))
  assert done.returncode == 0, done.stderr
  assert [path.name for path in place.parent.iterdir()] == [place.name]
  prepared.prepare("cub200", str(tmp_path / "whole"), str(source))
  found = images_below(target)
  assert len(found) == 30 and found == images_below(tmp_path / "whole")
  # Once more, it does nothing.
  before = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
  done = prepare(prepare=functools.partial(describe, source))
  assert f"cub200 is in {place}" in done.stdout
  assert before == {p: p.stat().st_mtime_ns for p in target.rglob("*")}


def test_prepare_says_which_file_it_misses(run, tmp_path):
  (tmp_path / "mine").mkdir()
  done = run(
    "--dataset=omniglot",
    f"--data_dir={tmp_path / 'out'}",
    f"--manual_dir={tmp_path / 'mine'}",
    script="prepare",
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
