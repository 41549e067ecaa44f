"""Each command of docs/use_a_run.md runs, in order, at toy size."""

import functools
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metric_learning import data
from tests.tiny import tiny_config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "use_a_run.md").read_text()
TINY = (
  *("--config.model.name=mlp", "--config.model.hidden=(16,)"),
  *("--config.data.image_size=(8, 8)", "--config.batch.classes_per_batch=4"),
  *("--config.train.steps=2", "--config.train.eval_every=2"),
  *("--config.train.save_every=2", "--config.data.split_seed=1"),
)


@pytest.fixture
def place(tmp_path):
  """The folders and files that the page mentions."""
  test = data.load(tiny_config().data).test
  for folder, classes, count in (("photos", 10, 12), ("album", 3, 3)):
    for label in range(classes):
      where = tmp_path / folder / f"{folder} {label}"
      where.mkdir(parents=True)
      for i, index in enumerate(np.flatnonzero(test.labels == label)[:count]):
        image = Image.fromarray(test.inputs[index, :, :, 0])
        image.save(where / f"{i}.png")
  (tmp_path / "new").mkdir()
  for name in ("one.png", "other.png", "new/one.png"):
    image.save(tmp_path / name)
  lines = ["first,second,same", "one.png,other.png,1"]
  lines += [f"one.png,photos/photos {i}/0.png,0" for i in range(3)]
  (tmp_path / "pairs.csv").write_text("\n".join(lines))
  return tmp_path


def commands():
  blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
  return [line for block in blocks for line in block.splitlines()]


def test_each_command_of_the_page_runs(run, place, monkeypatch):
  install, *rest = commands()
  assert install == "pip install -e '.[export]'"
  assert PAGE.index("five commands") and len(rest) == 7
  for command in rest:
    first, _, module, *arguments = shlex.split(command)
    assert first == "python"
    script = module.removeprefix("experiments.")
    if script == "train":
      arguments = [a.replace("configs/", f"{ROOT}/configs/") for a in arguments]
      arguments += TINY
    done = run(
      *arguments, script=script, prepare=functools.partial(os.chdir, place)
    )
    assert done.returncode == 0, (command, done.stderr)
  page = (place / "hits.html").read_text()
  assert page.count("<img ") == 1 + 5 and page.count('alt="hit ') == 5
  for name in ("album.npz", "hits.csv", "decided.csv", "names.csv"):
    assert (place / name).stat().st_size
  assert (place / "photos_model" / "README.md").exists()
  # The lines of Python are on what the commands left.
  (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  monkeypatch.chdir(place)
  names = {}
  exec(compile(code, "use_a_run.md", "exec"), names)
  assert names["distances"].shape == (9, 9)
  assert names["hits"].indices.shape == (9, 2)
